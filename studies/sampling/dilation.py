"""What dilations in the prior cost the sampler: `auto` with them beside the cells without, from the lines alone.

    python studies/sampling/run.py --out studies/sampling/dilation.jsonl --methods auto --dims 4 --noises 1e-4 1e-2
    python studies/sampling/dilation.py

Effective draws for each step, relative to those of the same cell in results.jsonl (the mean, where it was run twice).
"""

import json
from pathlib import Path

import numpy as np


def cells(path: Path) -> dict[tuple, list[dict]]:
    """Lines of `auto` by problem, dimension and noise."""
    found: dict[tuple, list[dict]] = {}
    for text in path.read_text("utf-8").splitlines():
        row = json.loads(text)
        if row["method"] == "auto":
            found.setdefault((row["problem"], row["dim"], row["noise"]), []).append(row)
    return found


def main() -> None:
    """Print the table."""
    folder = Path(__file__).parent
    before, now = cells(folder / "results.jsonl"), cells(folder / "dilation.jsonl")
    worth = lambda rows: np.mean([r["ess_min"] / r["draws"] / r["steps"] for r in rows])
    print("| problem | noise | status | ESS | steps of a trajectory | ESS per step, over that before |")
    print("|---|---|---|---|---|---|")
    ratios = []
    for cell, rows in now.items():
        ratios.append(worth(rows) / worth(before[cell]))
        r = rows[-1]
        print(
            f"| {cell[0]} | {cell[2]:g} | {r['status']} | {r['ess_min']:.0f} | {r['steps']:.0f} | {ratios[-1]:.2f} |"
        )
    print(f"| geometric mean | | | | | {np.exp(np.mean(np.log(ratios))):.2f} |")


if __name__ == "__main__":
    main()
