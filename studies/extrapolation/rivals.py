"""Would a smaller model that follows the data as well tell where the band is wrong? A doubt that did not come true.

    python -m studies.extrapolation.rivals results.jsonl --out rivals.jsonl     # resumable; seconds a task
    python -m studies.extrapolation.rivals results.jsonl --out rivals.jsonl --table

For each line of our method at 1 % noise and at 1e-4: the best of 16 annealed starts with one dimension more than the
outputs need, or with two or three more if that one leaves more than ten times the fit's floor of any output. Points
where it lies outside the fit's 90 % band are called doubted.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayes_pmm as bp
from bayes_pmm.basis import parse_basis
from bayes_pmm.errors import BayesPMMError
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.outputs import minimum_dim
from studies.extrapolation import lines
from studies.extrapolation.run import task_of
from studies.extrapolation.table import group_of, hits

MORE = (1, 2, 3)
SEARCH = AnnealedStarts(candidates=16)
FOLLOWS = 10.0
NOISES = (1e-2, 1e-4)
SETS = {"0 to 2": (0, 1, 2), "3 to 8": tuple(range(3, 9))}


def rival_of(row: dict) -> tuple[int, np.ndarray] | None:
    """Dimension and outputs (K, Q), as lines have them, of the smallest model that follows a line's data, if any."""
    task = task_of(row["task"])
    outputs = tuple(task.problem.outputs.values())
    for more in MORE:
        pmm = bp.PMM(outputs, basis=parse_basis(task.basis))
        n = minimum_dim(pmm.outputs) + more
        if n >= row["about"]["dim"]:
            return None
        model = bp.PMM(outputs, dim=n, basis=pmm.basis)
        posterior = bp.Posterior(task.data, model, bp.Prior(**row["options"]["prior"]))
        try:
            sites = SEARCH.find(posterior, jax.random.key(0), 1).sites[0]
        except BayesPMMError:  # what cannot be fitted is no rival
            continue
        floors = np.asarray(sites["floor"]) / np.asarray(posterior.scaling.spread)
        if np.all(floors <= FOLLOWS * np.asarray(row["about"]["floor"])):
            one = {k: np.asarray(v)[None] for k, v in sites.items()}
            found = np.asarray(posterior.outputs_of_draws(one, jnp.asarray(task.controls)))[0]
            return n, (found - np.nanmean(task.data.values, axis=0)) / np.asarray(task.spread)
    return None


def outside(row: dict, rival: np.ndarray) -> np.ndarray:
    """Whether the rival's outputs (K, Q) lie outside the 90 % band of a line."""
    return (rival < np.asarray(row["q05"])) | (rival > np.asarray(row["q95"]))


def table(found: list[tuple[dict, np.ndarray]]) -> list[str]:
    """Shares of points and misses that are doubted, by noise and by whether the rule was chosen on the Hamiltonians."""
    text = [
        "| noise | Hamiltonians | tasks | points doubted | share of all misses |",
        "|---|---|---|---|---|",
    ]
    for noise in NOISES:
        for name, numbers in SETS.items():
            some = [(r, d) for r, d in found if r["noise"] == noise and r["hamiltonian"] in numbers]
            if some:
                missed = ~np.concatenate([np.ravel(hits(r)) for r, _ in some])
                doubted = np.concatenate([np.ravel(d) for _, d in some])
                shares = f"{doubted.mean():.0%} | {doubted[missed].mean():.0%}"
                text.append(f"| {noise:g} | {name} | {len(some)} | {shares} |")
    return text


def main(arguments: list[str] | None = None) -> None:
    """Search for rivals, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    own = [
        row
        for row in lines.read(args.lines).values()
        if row["method"] == "pmm"
        and row["status"] == "done"
        and group_of(row) == "main"
        and row["noise"] in NOISES
    ]
    there = {task: row for (task, _), row in lines.read(args.out).items()}
    if not args.table:
        for row in (r for r in own if r["task"] not in there):
            rival = rival_of(row)
            new = {"task": row["task"], "method": "rival", "search": asdict(SEARCH)}
            if rival is not None:
                new |= {"dim": rival[0], "outputs": lines.rounded(rival[1])}
            lines.write(args.out, new)
        return
    none = lambda row: np.zeros(np.shape(row["pit"]), bool)
    judged = [
        (r, outside(r, np.asarray(there[r["task"]]["outputs"])) if "outputs" in there[r["task"]] else none(r))
        for r in own
        if r["task"] in there
    ]
    print("\n".join(table(judged)))


if __name__ == "__main__":
    main()
