"""What is gained by putting stretched draws in order, and how?

    python -m studies.extrapolation.run --out lines.jsonl --methods pmm --keep DRAWS ...
    python -m studies.extrapolation.order lines.jsonl DRAWS

From kept draws, so no fit is repeated. ``moved`` is the share of values that change; coverage is of the 90 % band, and
the CRPS relative to that of the stretched draws, in the mean over outputs in units of the task's spread. Tasks in which
more than 1 % of the values move have a row of their own.
"""

import argparse
from pathlib import Path

import numpy as np

from bayes_pmm import scores
from bayes_pmm.outputs import as_outputs
from bayes_pmm.widening import Widening, in_order
from studies.extrapolation import lines
from studies.extrapolation.run import task_of
from studies.extrapolation.widening import Kept, form_of, hit


def sorted_levels(draws: np.ndarray, outputs, dim: int) -> np.ndarray:
    """Levels in ascending order by exchange, the simplest way: draws (1, S, N, Q) of levels in their order."""
    columns = [q for q, o in enumerate(outputs) if o.kind == "level"]
    places = [outputs[q].levels[0] % dim for q in columns]
    result = np.array(draws)
    result[..., columns] = np.sort(draws[..., columns], axis=-1)[..., np.argsort(np.argsort(places))]
    return result


WAYS = {"stretched": lambda draws, *_: draws, "sorted": sorted_levels, "nearest in order": in_order}


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path)
    parser.add_argument("draws", type=Path)
    args = parser.parse_args(arguments)
    rows = []
    for row in lines.read(args.lines).values():
        path = args.draws / f"{row['task'].replace('/', '_')}.npz"
        if not path.exists():
            continue
        stored, task = Kept(path).stored, task_of(row["task"])
        outputs = as_outputs(task.problem.outputs.values())
        weights = stored["weights"] / stored["weights"].sum()
        mean = np.tensordot(weights, stored["model"], axes=1)
        factors = form_of(Widening())(stored["distances"], float(stored["bend"]))
        stretched = (mean + factors * (stored["model"] - mean)) * task.spread
        found = []
        for way in WAYS.values():
            draws = way(stretched[None], outputs, row["about"]["dim"])[0]
            moved = np.mean(np.abs(draws - stretched) > 1e-12 * np.abs(stretched).max())
            draws = draws / task.spread + stored["added"]
            pit = scores.pit(draws, stored["truth"], weights=weights)
            crps = scores.crps(draws, stored["truth"], fair=False, weights=weights)
            found.append((moved, hit(pit).mean(), crps.mean()))
        rows.append((row["task"], np.array(found)))
    print("| task | " + " | ".join(f"{way}: moved | coverage | CRPS" for way in WAYS) + " |")
    print("|---|" + "---|" * 3 * len(WAYS))

    def line(name: str, f: np.ndarray) -> str:
        return f"| {name} | " + " | ".join(f"{m:.3f} | {c:.3f} | {r:.3f}" for m, c, r in f) + " |"

    relative = [(name, f / [1.0, 1.0, f[0, 2]]) for name, f in rows]
    for name, f in relative:
        if f[1:, 0].max() > 0.01:
            print(line(name, f))
    every = np.stack([f for _, f in relative])
    mean = np.concatenate([every[..., :2].mean(0), np.exp(np.log(every[..., 2:]).mean(0))], axis=-1)
    print(line(f"all {len(rows)}", mean))


if __name__ == "__main__":
    main()
