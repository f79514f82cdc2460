"""``python -m bayes_pmm`` is the command line."""

from bayes_pmm.cli import main

if __name__ == "__main__":
    main()
