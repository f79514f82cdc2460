"""Log evidence of the oscillator for several dimensions: bridge, importance sampling, nested sampling.

    python studies/evidence.py [--dims 2 3 5] [--nested]

Prints the table of docs/comparing.md. With --nested each line takes minutes.
"""

import argparse

import jax

import bayes_pmm as bp


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", nargs="+", type=int, default=[2, 3, 5])
    parser.add_argument("--noise", type=float, default=1e-2)
    parser.add_argument("--seeds", type=int, default=3, help="of the proposals")
    parser.add_argument("--nested", action="store_true")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    data = bp.problems.get("oscillator").dataset(noise=args.noise, seed=0)
    print(
        "| n | parameters | status | bridge | importance sampling | effective proposals | nested sampling |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for n in args.dims:
        fit = bp.fit(bp.Posterior(data, bp.PMM(["E0", "E1"], dim=n)), key=n)
        cells = {}
        for method in ("bridge", "importance"):
            cells[method] = [bp.log_evidence(fit, key=seed, method=method) for seed in range(args.seeds)]
        shown = {m: ", ".join(f"{e.log_z:.2f} ± {e.se:.2f}" for e in found) for m, found in cells.items()}
        effective = ", ".join(f"{e.effective:.0f}" for e in cells["importance"])
        nested = "not run"
        if args.nested:
            found = bp.nested_log_evidence(fit.posterior, key=0)
            nested = f"{found.log_z:.1f} ± {found.se:.1f}"
        parameters = cells["bridge"][0].parameters
        line = (n, parameters, fit.status, shown["bridge"], shown["importance"], effective, nested)
        print(f"| {' | '.join(map(str, line))} |", flush=True)


if __name__ == "__main__":
    main()
