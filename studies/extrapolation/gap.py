r"""Are bands right in a gap within the data, where they are not stretched and no doubt speaks?

    python -m studies.extrapolation.run --out gap.jsonl --methods pmm gp_matern --sampler manifold --chains 4 \
        --warmup 120 --draws 120 --tasks $(python -m studies.extrapolation.gap --list)
    python -m studies.extrapolation.gap --out gap.jsonl --table

The same Hamiltonians as everywhere, with as many training points, of which half lie in the first and half in the last
quarter of the training region, and truth at eight points between. Families with one control.
"""

import argparse
import dataclasses
from pathlib import Path
from zlib import crc32

import numpy as np

from bayes_pmm import problems
from studies.extrapolation import lines

MARK = "@gap"
HAMILTONIANS = (1, 2)
QUARTER = 0.25
INSIDE = 8


def tasks(noise: str = "1e-2") -> tuple[str, ...]:
    """Names of the tasks, ``FAMILY@gap/HAMILTONIAN/NOISE/POINTS``."""
    names = problems.tasks((noise,), HAMILTONIANS)
    return tuple(
        name.replace("/", f"{MARK}/", 1) for name in names if problems.task(name).data.n_controls == 1
    )


def task(name: str):
    """The zoo's task of that name with a gap: half of the training region, of its middle, is left out."""
    whole = problems.task(name.replace(MARK, ""))
    low, high = whole.problem.train.min(), whole.problem.train.max()
    width, points = high - low, whole.data.n_rows
    first = np.linspace(low, low + QUARTER * width, points - points // 2)
    last = np.linspace(high - QUARTER * width, high, points // 2)
    between = np.linspace(low + QUARTER * width, high - QUARTER * width, INSIDE + 2)[1:-1, None]
    train = np.concatenate([first, last])[:, None]
    problem = dataclasses.replace(whole.problem, train=train, outside=between)
    name = whole.name.replace("/", f"{MARK}/", 1)
    return dataclasses.replace(
        whole,
        name=name,
        family=whole.family + MARK,
        problem=problem,
        data=problem.dataset(whole.noise, seed=crc32(name.encode())),
        truth=problem.exact(between),
        distance=np.min(np.abs(between - train.T), axis=1) / width,
    )


def table(path: Path) -> None:
    """Coverage of the 90 % band and CRPS of each method, over all tasks and for each family."""
    found: dict[str, dict[str, list]] = {}
    for row in lines.read(path).values():
        if row["status"] == "done":
            pit = np.array(row["pit"])
            about = (
                np.mean((pit > 0.05) & (pit < 0.95)),
                np.log(np.mean(row["crps"]) + 1e-4),
                row["exact_dim"],
            )
            found.setdefault(row["method"], {}).setdefault(row["family"].removesuffix(MARK), []).append(about)
    methods = list(found)
    print("| family | " + " | ".join(f"{m}: coverage | CRPS" for m in methods) + " |")
    print("|---|" + "---|" * 2 * len(methods))

    def line(name: str, families: list[str]) -> None:
        cells = []
        for m in methods:
            rows = [r for f in families for r in found[m].get(f, [])]
            cells.append(
                f"{np.mean([r[0] for r in rows]):.2f} | {np.exp(np.mean([r[1] for r in rows])):.4f}"
                if rows
                else "|"
            )
        print(f"| {name} | " + " | ".join(cells) + " |")

    families = list(found[methods[0]])
    for f in families:
        line(f, [f])
    exact = [f for f in families if found[methods[0]][f][0][2] is not None]
    line(
        f"**all {len(families) - len(exact)} no small matrix represents**",
        [f for f in families if f not in exact],
    )
    line(f"**all {len(families)}**", families)
    ours, *others = methods
    for other in others:
        pairs = [(r[1], s[1]) for f in families for r, s in zip(found[ours][f], found[other][f], strict=True)]
        ratio = np.array([a - b for a, b in pairs])
        print(
            f"\nCRPS of {ours} relative to {other}, geometric mean over {len(ratio)} tasks: {np.exp(ratio.mean()):.2f};"
            f" {100 * np.mean(ratio < 0):.0f} % of the tasks won"
        )


def main(arguments: list[str] | None = None) -> None:
    """List the tasks, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--noise", default="1e-2", choices=problems.zoo.NOISES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(arguments)
    if args.list:
        print("\n".join(tasks(args.noise)))
    if args.table:
        table(args.out)


if __name__ == "__main__":
    main()
