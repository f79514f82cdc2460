"""What dilations in the prior cost the sampler: `auto` with them beside the same cells without, from the lines alone.

    python studies/sampling/run.py --out lines.jsonl --methods auto --dims 4 --machine "..., with dilations"
    python studies/sampling/dilation.py

Effective draws for each step of a trajectory, relative to those of the same cell before (the mean, where it was run
twice). Cells in which another sampler was taken than before have no ratio.
"""

import json
from pathlib import Path

import numpy as np

LABEL = "with dilations"
"""How the names of machines end whose lines are of the present prior."""


def cells(path: Path) -> tuple[dict[tuple, list[dict]], dict[tuple, list[dict]]]:
    """Lines of `auto` by problem, dimension and noise: before, and with dilations."""
    found: tuple[dict, dict] = {}, {}
    for text in path.read_text("utf-8").splitlines():
        row = json.loads(text)
        if row["method"] == "auto":
            now = row.get("machine", "").endswith(LABEL)
            found[now].setdefault((row["problem"], row["dim"], row["noise"]), []).append(row)
    return found


def worth(rows: list[dict]) -> float:
    """Effective draws for each step."""
    return float(np.mean([r["ess_min"] / r["draws"] / r["steps"] for r in rows]))


def main() -> None:
    """Print the table."""
    before, now = cells(Path(__file__).parent / "results.jsonl")
    print("| problem | n | noise | status | ESS | steps of a draw | ESS per step, over that before |")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    for cell, rows in sorted(now.items(), key=lambda x: (x[0][0], x[0][1], -x[0][2])):
        r = rows[-1]
        same = [b for b in before.get(cell, []) if b["sampler"] == r["sampler"]]
        ratio = worth(rows) / worth(same) if same else None
        ratios += [] if ratio is None else [ratio]
        print(
            f"| {cell[0]} | {cell[1]} | {cell[2]:g} | {r['status']} | {r['ess_min']:.0f} | {r['steps']:.0f} |"
            f" {'' if ratio is None else f'{ratio:.2f}'} |"
        )
    print(f"| geometric mean | | | | | | {np.exp(np.mean(np.log(ratios))):.2f} |")


if __name__ == "__main__":
    main()
