"""The doubt ``wide`` of lines that are there, by the present definition, without fitting again.

    python -m studies.extrapolation.rejudge results.jsonl --out new.jsonl
    python -m studies.extrapolation.rejudge results.jsonl --width 1.5 --out other.jsonl    # another limit
    python -m studies.extrapolation.table other.jsonl --hamiltonians 0 1 2

The other doubts need the draws; this one follows from the band's standard deviation, which every line has.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from bayes_pmm.basis import parse_basis
from bayes_pmm.doubts import LIMITS
from bayes_pmm.outputs import as_outputs
from bayes_pmm.scaling import fit_scaling
from studies.extrapolation.lines import rounded
from studies.extrapolation.run import task_of


def own_spread(task) -> np.ndarray:
    """Spread (Q,) of each output in its data, in units of the task's."""
    outputs = as_outputs(task.problem.outputs.values())
    spread = fit_scaling(task.data, outputs, parse_basis(task.basis)).spread
    return np.asarray(spread) / np.asarray(task.spread)


def rejudged(row: dict, spread: np.ndarray, width: float) -> dict:
    """A line with its doubt ``wide``, and the flags that follow from all doubts, made again."""
    # Only extrapolated points are doubted, and there every model is uncurved to some degree.
    outside = np.asarray(row["strengths"]["uncurved"]) > 0
    wide = np.where(outside, np.asarray(row["sd"]) / (width * spread), 0.0)
    doubts = row["doubts"] | {"wide": (wide > 1).astype(int).tolist()}
    flags = np.any([np.asarray(v, bool) for v in doubts.values()], axis=0)
    strengths = row["strengths"] | {"wide": rounded(wide, 3)}
    return row | {"doubts": doubts, "strengths": strengths, "flags": flags.astype(int).tolist()}


def main(arguments: list[str] | None = None) -> None:
    """Write all lines to another file, those of our own method rejudged."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=float, default=LIMITS.width, help="in spreads of the output's data")
    args = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    spreads: dict[str, np.ndarray] = {}
    with args.out.open("x", encoding="utf-8") as file:
        for text in args.lines.read_text("utf-8").splitlines():
            row = json.loads(text)
            if "wide" in row.get("strengths", {}):
                name = row["task"]
                if name not in spreads:
                    spreads[name] = own_spread(task_of(name))
                row = rejudged(row, spreads[name], args.width)
                text = json.dumps(row)
            file.write(text + "\n")


if __name__ == "__main__":
    main()
