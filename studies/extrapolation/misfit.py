"""Does a learned floor that a polynomial does not need tell a model that does not fit? From the lines of the study.

    python -m studies.extrapolation.misfit [RESULTS]

For each noise: of how many tasks a floor exceeds the limits of :data:`bayes_pmm.diagnostics.LIMITS`, and the largest
floor over the most that the data scatter about a polynomial. Then the nonlinear eigenvalue problems one by one.
"""

import sys
from pathlib import Path

import numpy as np

from bayes_pmm.basis import parse_basis
from bayes_pmm.diagnostics import LIMITS
from bayes_pmm.model import PMM
from bayes_pmm.scaling import fit_scaling
from bayes_pmm.scatter import scatter
from studies.extrapolation import lines, nonlinear
from studies.extrapolation.run import task_of


def main(path: Path) -> None:
    """Print the tables."""
    found = {}
    for row in lines.read(path).values():
        if row["method"] != "pmm" or row["status"] != "done":
            continue
        task = task_of(row["task"])
        pmm = PMM(tuple(task.problem.outputs.values()), basis=parse_basis(task.basis))
        unit = np.asarray(fit_scaling(task.data, pmm.outputs, pmm.basis).spread)
        floor, own = unit * row["about"]["floor"], np.nanstd(task.data.values, axis=0)
        ratio = floor / scatter(task.data)
        large = (ratio > LIMITS.floor_of_scatter) & (floor > LIMITS.floor_of_spread * own)
        found[row["task"]] = (row, float(ratio.max()), bool(large.any()))
    plain = {k: v for k, v in found.items() if v[0]["family"] not in nonlinear.FAMILIES}
    print("| noise | tasks | above the limits | largest floor over scatter |\n|---|---|---|---|")
    for noise in sorted({row["noise"] for row, _, _ in plain.values()}, reverse=True):
        chosen = [v for v in plain.values() if v[0]["noise"] == noise]
        print(
            f"| {noise:g} | {len(chosen)} | {sum(v[2] for v in chosen)} | {max(v[1] for v in chosen):.2g} |"
        )
    print("\n| task | floor over scatter | above the limits | coverage |\n|---|---|---|---|")
    for name, (row, ratio, large) in found.items():
        if name not in plain:
            covered = np.mean(np.abs(2 * np.array(row["pit"]) - 1) <= 0.9)
            print(f"| {name} | {ratio:.2g} | {'yes' if large else 'no'} | {covered:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.jsonl"))
