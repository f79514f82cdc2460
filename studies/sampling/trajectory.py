"""What could a rule for the trajectory length gain at most? Several fixed lengths on the same posteriors.

    python studies/sampling/trajectory.py --out trajectory.jsonl
    python studies/sampling/trajectory.py --out trajectory.jsonl --table

A rule such as ChEES, or a U-turn criterion in the mean, ends near the best fixed length of each posterior, so the
best of these is about the best that it can do. Efficiency is the least ESS of the outputs for each 1000 steps, which
no other work on the machine disturbs; draws are as many as the default has. Resumable.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

import bayes_pmm as bp
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference import Manifold
from bayes_pmm.predict import outputs_at
from bayes_pmm.problems import get

jax.config.update("jax_enable_x64", True)

CELLS = {
    ("oscillator", 4, 1e-2): (2.5, 5.0, 8.0, 12.0),
    ("almg", 4, 1e-4): (2.5, 5.0, 8.0, 12.0),
    ("random_weak", 4, 1e-4): (2.5, 5.0, 8.0, 12.0),
    ("ising", 4, 1e-6): (2.5, 3.0, 5.0, 8.0, 12.0),
    ("oscillator", 4, 1e-8): (1.5, 2.5, 3.0, 5.0),
    ("almg", 4, 1e-8): (1.5, 2.5, 3.0, 5.0),
    ("oscillator", 5, 1e-8): (3.0,),
    ("random_weak", 5, 1e-4): (3.0,),
    ("ising", 5, 1e-4): (3.0,),
    ("oscillator", 7, 1e-4): (3.0,),
    ("almg", 7, 1e-2): (3.0,),
    ("ising", 7, 1e-4): (3.0,),
    ("random_weak", 7, 1e-4): (4.0,),
    ("ising", 9, 1e-4): (4.0,),
    ("oscillator", 9, 1e-2): (4.0,),
}
"""Problem, dimension and noise: lengths that are run. Those of 5 and over are also rows of ``RESULTS``."""

LENGTHS = (1.5, 2.5, 3.0, 4.0, 5.0, 8.0, 12.0)

RESULTS = Path(__file__).with_name("results.jsonl")
"""Rows of the same data by `auto` with the manifold sampler, where the length was 5: other chains of the posterior."""


def cell(name, dim, noise, length, draws):
    problem = get(name)
    posterior = bp.Posterior(
        problem.dataset(noise=noise, seed=0), bp.PMM(list(problem.outputs.values()), dim=dim)
    )
    drawn = Manifold(draws=draws, trajectory=length).run(posterior, jax.random.key(0))
    outputs = outputs_at(posterior, drawn, np.concatenate([problem.train, problem.outside]))
    rhat, ess = rhat_and_ess(outputs)
    return {
        "problem": name,
        "dim": dim,
        "noise": noise,
        "length": length,
        "rhat": float(np.nanmax(rhat)),
        "ess": float(np.nanmin(ess)),
        "steps": float(drawn.stats["n_steps"].mean()) * drawn.stats["n_steps"].size,
        "failed": float(drawn.stats["failed_steps"].mean()),
    }


def table(rows):
    """Markdown: least ESS for each 1000 steps (and of all draws), and 4, 3 or else 2.5 over 5."""
    print("| problem | n | noise | " + " | ".join(f"{x:g}" for x in LENGTHS) + " | 4, 3 or 2.5 over 5 |")
    print("|" + "---|" * (len(LENGTHS) + 4))
    gains = []
    for cell_, lengths in CELLS.items():
        found = {
            r["length"]: (r["ess"], r["steps"]) for r in rows if (r["problem"], r["dim"], r["noise"]) == cell_
        }
        if 5.0 not in lengths:
            found[5.0] = of_five(*cell_)
        if not {*lengths} <= found.keys():
            continue
        worth = {x: 1000 * row[0] / row[1] for x, row in found.items() if row is not None}
        gain = ""
        if 5.0 in worth:
            gains.append(next(worth[x] for x in (4.0, 3.0, 2.5) if x in worth) / worth[5.0])
            gain = f"{gains[-1]:.2f}"
        shown = " | ".join(f"{worth[x]:.3g} ({found[x][0]:.0f})" if x in worth else "" for x in LENGTHS)
        print("| " + " | ".join(f"{x}" for x in cell_[:2]) + f" | {cell_[2]:g} | {shown} | {gain} |")
    print(f"\nGeometric mean of the last column: {np.exp(np.mean(np.log(gains))):.2f}")


def of_five(name, dim, noise):
    """ESS and steps of the row of ``RESULTS`` with trajectories of 5, or None."""
    for line in RESULTS.read_text().splitlines():
        r = json.loads(line)
        same = (r["problem"], r["dim"], r["noise"], r["method"]) == (name, dim, noise, "auto")
        if same and r.get("sampler") == "manifold" and "trajectories of 3" not in r.get("machine", ""):
            return r["ess_min"], r["steps"] * r["draws"]
    return None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if args.table:
        table(rows)
        return
    have = {(r["problem"], r["dim"], r["noise"], r["length"]) for r in rows}
    for (name, dim, noise), lengths in CELLS.items():
        for length in lengths:
            if (name, dim, noise, length) not in have:
                row = cell(name, dim, noise, length, args.draws)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
