"""Lines of our own method under another rate of widening, from kept draws, without fitting again.

    python -m studies.extrapolation.run --out lines.jsonl --methods pmm --keep DRAWS ...
    python -m studies.extrapolation.rescore lines.jsonl DRAWS --widening 0.02 --out new.jsonl

With the rate that the lines were made with it gives them back, to the rounding of the draws' sums. ``--about median``
stretches about the median instead of the mean.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from bayes_pmm import scores
from bayes_pmm.doubts import LIMITS
from bayes_pmm.outputs import as_outputs
from bayes_pmm.widening import Widening, in_order, stretch
from studies.extrapolation import lines
from studies.extrapolation.forecast import Forecast
from studies.extrapolation.rejudge import own_spread, rejudged
from studies.extrapolation.run import task_of


def rescored(row: dict, task, stored: dict[str, np.ndarray], widening: Widening, about: str = "mean") -> dict:
    """A line with its scores and the doubt ``wide`` made again.

    Parameters
    ----------
    stored : dict
        What ``run --keep`` stored of the task.
    about : {"mean", "median"}
        What the draws are stretched about.
    """
    outputs = as_outputs(task.problem.outputs.values())
    factors = widening.factors(outputs, stored["distances"], float(stored["bend"]))
    # One draw in each chain, so that the weights of chains are those of draws.
    draws, weights = stored["model"][:, None] * task.spread, stored["weights"]
    wide = stretch(draws, factors, weights)
    if about == "median":
        flat = draws[:, 0]
        middle = scores.quantiles(flat, (0.5,), weights)[0]
        wide = wide + (factors - 1.0) * (np.average(flat, axis=0, weights=weights) - middle)
    stretched = in_order(wide, outputs, row["about"]["dim"], weights)[:, 0]
    forecast = Forecast(stretched + stored["added"] * task.spread, weights=weights)
    options = row["options"] | {"widening": widening.rate}
    row = row | lines.scored(task, forecast) | {"options": options}
    return rejudged(row, own_spread(task), LIMITS.width)


def main(arguments: list[str] | None = None) -> None:
    """Write our own method's lines to another file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path)
    parser.add_argument("draws", type=Path)
    parser.add_argument(
        "--widening", type=float, default=Widening().rate, help="rate; the default's if not given"
    )
    parser.add_argument("--about", choices=("mean", "median"), default="mean")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    with args.out.open("x", encoding="utf-8") as file:
        for row in lines.read(args.lines).values():
            if not row["ours"] or row["status"] != "done":
                continue
            with np.load(args.draws / f"{row['task'].replace('/', '_')}.npz") as stored:
                row = rescored(row, task_of(row["task"]), dict(stored), Widening(args.widening), args.about)
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
