"""What could a rule for the trajectory length gain at most? Several fixed lengths on the same posteriors.

    python studies/sampling/trajectory.py --out trajectory.jsonl
    python studies/sampling/trajectory.py --out trajectory.jsonl --table

A rule that chooses a length for each posterior can do about as well as the best of these. Efficiency is the least ESS
of the outputs for each 1000 steps, which no other work on the machine disturbs. Resumable.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import resumable

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
"""Problem, dimension and noise: lengths that are run. Where 5 is not, it is taken from ``RESULTS`` if that has it."""

EXACT = ("oscillator", "ising", "random_weak", "almg", "crossings")

LENGTHS = (1.5, 2.5, 3.0, 4.0, 5.0, 8.0, 12.0)

RESULTS = Path(__file__).with_name("results.jsonl")
"""Rows of the same data by `auto` with the manifold sampler, where the length was 5: other chains of the posterior."""


def cell(problem, dim, noise, length):
    """Least ESS of the outputs, largest R-hat and steps, with the default numbers of draws."""
    problem = get(problem)
    posterior = bp.Posterior(
        problem.dataset(noise=noise, seed=0), bp.PMM(list(problem.outputs.values()), dim=dim)
    )
    drawn = Manifold(trajectory=length).run(posterior, jax.random.key(0))
    outputs = outputs_at(posterior, drawn, np.concatenate([problem.train, problem.outside]))
    rhat, ess = rhat_and_ess(outputs)
    return {
        "rhat": float(np.nanmax(rhat)),
        "ess": float(np.nanmin(ess)),
        "steps": float(drawn.stats["n_steps"].mean()) * drawn.stats["n_steps"].size,
        "failed": float(drawn.stats["failed_steps"].mean()),
    }


def table(rows):
    """Markdown: what each length gives, how often the first draws of whole fits sufficed, and a Gaussian."""
    print("| problem | n | noise | " + " | ".join(f"{x:g}" for x in LENGTHS) + " | shorter over 5 |")
    print("|" + "---|" * (len(LENGTHS) + 4))
    gains = []
    for (problem, dim, noise), lengths in CELLS.items():
        found = {
            r["length"]: (r["ess"], r["steps"])
            for r in rows
            if (r["problem"], r["dim"], r["noise"]) == (problem, dim, noise)
        }
        if 5.0 not in lengths:
            found |= of_five(problem, dim, noise)
        worth = {x: 1000 * ess / steps for x, (ess, steps) in found.items()}
        # The longest that is below 5.
        short, gain = max(x for x in worth if x < 5.0), ""
        if 5.0 in worth:
            gains.append((short, noise, worth[short] / worth[5.0]))
            gain = f"{gains[-1][-1]:.2f}"
        shown = " | ".join(f"{worth[x]:.3g} ({found[x][0]:.0f})" if x in worth else "" for x in LENGTHS)
        print(f"| {problem} | {dim} | {noise:g} | {shown} | {gain} |")
    for which, chosen in (
        ("2.5 or 3 over 5, noise 1e-4 and above", [g for x, z, g in gains if x < 4.0 and z >= 1e-4]),
        ("2.5 or 3 over 5, noise below 1e-4", [g for x, z, g in gains if x < 4.0 and z < 1e-4]),
        ("4 over 5", [g for x, _, g in gains if x == 4.0]),
    ):
        print(
            f"\n{which}: {np.exp(np.mean(np.log(chosen))):.2g} ({min(chosen):.2g} to {max(chosen):.2g}) in"
            f" {len(chosen)} cells."
        )
    whole_fits()
    gaussian()


def of_five(problem, dim, noise):
    """ESS and steps with trajectories of 5 by length, from the row of ``RESULTS``; empty if there is none."""
    for r in results():
        if (r["problem"], r["dim"], r["noise"]) == (problem, dim, noise) and not is_short(r):
            return {5.0: (r["ess_min"], r["steps"] * r["draws"])}
    return {}


def whole_fits():
    """In how many fits of the exact problems by `auto`, 1e-4 to 1e-2, the first draws sufficed."""
    for which, short in (("5", False), ("3", True)):
        rows = [
            r
            for r in results()
            if 1e-4 <= r["noise"] <= 1e-2 and r["problem"] in EXACT and is_short(r) == short
        ]
        again = sum("went on" in r["choice"] for r in rows)
        print(
            f"\nWhole fits with trajectories of {which}, noise 1e-4 to 1e-2: {len(rows)}, of which {again} needed a"
            " longer run."
        )


def results():
    """Rows of `auto` with the manifold sampler."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    # The cells of this study are of the prior before dilations.
    before = [r for r in rows if not r.get("machine", "").endswith("with dilations")]
    return [r for r in before if r["method"] == "auto" and r.get("sampler") == "manifold"]


def is_short(row):
    return "trajectories of 3" in row.get("machine", "")


def gaussian():
    """Correlations after jittered lengths in independent Gaussian directions, and the ESS that they come to."""
    print(
        "\n| length | cos *t* | cos² *t* | ESS of a coordinate | of its square | the lesser of both for each length |"
    )
    print("|" + "---|" * 6)
    for length in (2.5, 3.0, 4.0, 5.0):
        t = length * np.linspace(0.7, 1.3, 2001)
        rho = np.cos(t).mean(), (np.cos(t) ** 2).mean()
        ess = [(1 - r) / (1 + r) for r in rho]
        print(
            f"| {length:g} | {rho[0]:.2f} | {rho[1]:.2f} | {ess[0]:.2g} | {ess[1]:.2g} | {min(ess) / length:.2g} |"
        )


def main(arguments=None):
    """Run or print."""
    cells = [
        {"problem": p, "dim": n, "noise": z, "length": x}
        for (p, n, z), lengths in CELLS.items()
        for x in lengths
    ]
    resumable.main(__doc__, cells, cell, table, arguments)


if __name__ == "__main__":
    main()
