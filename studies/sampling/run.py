"""Sampling study: R-hat, ESS and seconds of every sampler from noise 1e-1 to 1e-8.

    python studies/sampling/run.py --out results.jsonl --methods auto --dims 4 5 --noises 1e-2 1e-4
    python studies/sampling/run.py --out results.jsonl --table

Resumable: cells that are in the file are skipped. Data are exact levels plus noise in units of their spread; R-hat and
ESS (the smaller of bulk and tail) are over the levels at the training and at the outside controls; seconds are of
warm-up and sampling, without compilation and the search for starting points, which are given beside (those of the
textbook model include its compilation).

The problem ``pencil`` is a random matrix pair of the model's own dimension, so that only the noise changes.
"""

import argparse
import json
import math
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import textbook

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.errors import BayesPMMError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

jax.config.update("jax_enable_x64", True)

PROBLEMS = ("oscillator", "ising", "random_weak", "almg", "crossings")
NOISES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
DIMS = (4, 5, 7, 9)
SHARED = "two cores, shared with other work"
METHODS = ("auto", "manifold", "nuts", "textbook", "variational")


def pencil(dim, levels=2, points=10, seed=3):
    """Two lowest levels of a random dim x dim pencil: the model itself, so no noise is too small for it."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, dim, dim))
    matrices = np.diag(np.linspace(0.0, 3.0, dim)) + 0.1 * (a + a.T), 0.4 * (b + b.T)
    return Problem(
        name="pencil",
        summary="random pencil of the model's own dimension",
        control_names=("c",),
        outputs=level_outputs(levels, dim),
        solve=lambda controls: affine_levels(matrices, controls, levels),
        train=line(0.0, 1.0, points),
        outside=beyond(1.0, 2.0, 10),
        exact_dim=dim,
        matrices=matrices,
    )


def plane(dim, levels=3, points=12, seed=5):
    """Three lowest levels of a random affine family with two controls; outside is beyond the square."""
    rng = np.random.default_rng(seed)
    a, b, d = rng.standard_normal((3, dim, dim))
    matrices = np.diag(np.linspace(0.0, 4.0, dim)) + 0.1 * (a + a.T), 0.3 * (b + b.T), 0.3 * (d + d.T)
    return Problem(
        name="plane",
        summary="random affine family with two controls, of the model's own dimension",
        control_names=("c1", "c2"),
        outputs=level_outputs(levels, dim),
        solve=lambda controls: affine_levels(matrices, controls, levels),
        train=np.random.default_rng(seed + 1).uniform(0, 1, (points, 2)),
        outside=np.stack([np.linspace(1.1, 2.0, 10), np.linspace(1.1, 2.0, 10)], axis=1),
        exact_dim=dim,
        matrices=matrices,
    )


def problem_of(name, dim):
    """Problem by name, also the study's own."""
    return (
        {"pencil": pencil, "plane": plane}[name](dim) if name in ("pencil", "plane") else problems.get(name)
    )


def method_of(name, args):
    """The package's method with the study's lengths."""
    if name == "variational":
        return bp.Variational()
    if name == "nuts":
        return bp.NUTS(chains=4, warmup=500, draws=args.draws)  # as `auto` takes it at large noise
    kind = {"auto": bp.Auto, "manifold": bp.Manifold}[name]
    return kind(chains=4, draws=args.draws)


def cell(problem_name, dim, noise, method, args):
    """One cell of the table, as a dict of plain values."""
    problem = problem_of(problem_name, dim)
    data = problem.dataset(noise=noise, seed=args.seed)
    at = np.concatenate([problem.train, problem.outside])
    key = {"problem": problem_name, "dim": dim, "noise": noise, "method": method, "seed": args.seed}
    key["machine"] = args.machine
    began = time.perf_counter()
    about = {}
    if method == "textbook":
        if problem.train.shape[1] > 1:
            return key | {"status": "not run", "error": "the textbook model has one control"}
        judge = lambda outputs: np.nanmax(rhat_and_ess(outputs)[0])
        outputs, seconds = textbook.run(
            data.controls[:, 0], data.values, dim, at[:, 0], args.seed, args.limit, judge
        )
        status = ""
    else:
        posterior = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=dim))
        try:
            done = bp.fit(posterior, method_of(method, args), key=args.seed, controls=problem.outside)
        except BayesPMMError as error:
            return key | {"status": "raised", "error": str(error)}
        outputs = done.sample(at, "model")
        info, stats = done.draws.info, done.draws.stats
        seconds, status = info["seconds"], done.status
        floor = done.draws.sites["floor"].reshape(-1, data.n_outputs) / np.asarray(posterior.scaling.spread)
        about = {
            "sampler": info["sampler"],
            "choice": info.get("choice"),
            "reasons": list(done.reasons),
            "floor": np.median(floor, axis=0).tolist(),
            "pareto_k": info.get("pareto_k"),
            "steps": float(stats["n_steps"].mean()) if "n_steps" in stats else None,
            "step_size": float(stats["step_size"].mean()) if "step_size" in stats else None,
            "failed_steps": float(stats["failed_steps"].mean()) if "failed_steps" in stats else None,
        }
    rhat, ess = rhat_and_ess(outputs)
    lo, hi = np.quantile(outputs[:, :, len(problem.train) :], (0.05, 0.95), axis=(0, 1))
    return key | about | {
        "status": status,
        "rhat": float(np.nanmax(rhat)),
        "ess_min": float(np.nanmin(ess)),
        "ess_median": float(np.nanmedian(ess)),
        "draws": int(outputs.shape[0] * outputs.shape[1]),
        "width": np.mean(hi - lo, axis=0).tolist(),
        "seconds": seconds,
        "total": time.perf_counter() - began,
    }  # fmt: skip


def table(rows):
    """Markdown page of what is there: an overview, then one table for each machine."""
    print("# Sampling: all cells\n")
    print(
        "Printed by `python studies/sampling/run.py --out studies/sampling/results.jsonl --table`; see {doc}`sampling`."
    )
    overview(rows)
    for machine in dict.fromkeys(r.get("machine", SHARED) for r in rows):
        print(f"\n## {machine[0].upper()}{machine[1:]}\n")
        # A later row of a cell replaces an earlier one.
        cells = {
            (r["problem"], r["dim"], r["noise"], r["method"]): r
            for r in rows
            if r.get("machine", SHARED) == machine
        }
        one_table(cells)
        for one, other in (("auto", "textbook"), ("nuts", "manifold")):
            against(cells, one, other)


def overview(rows):
    """In how many problems `auto` sufficed, by dimension and noise, the last row of each cell."""
    last = {
        (r["problem"], r["dim"], r["noise"]): r
        for r in rows
        if r["method"] == "auto" and r["problem"] in PROBLEMS
    }
    print("\n## Cells in which `auto` has R-hat < 1.01 and min ESS > 400, of those that were run\n")
    print("| n | " + " | ".join(f"{z:g}" for z in NOISES) + " | all |")
    print("|" + "---|" * (len(NOISES) + 2))
    for dim in sorted({n for _, n, _ in last}):
        found = [[good(r) for (_, n, z), r in last.items() if (n, z) == (dim, noise)] for noise in NOISES]
        line = [f"{sum(f)} of {len(f)}" if f else "" for f in found]
        print(f"| {dim} | " + " | ".join(line) + f" | {sum(map(sum, found))} of {sum(map(len, found))} |")
    print(f"\n{sum(map(good, last.values()))} of {len(last)} in all.")


def good(row):
    return row.get("rhat", math.inf) < 1.01 and row["ess_min"] > 400


def one_table(cells):
    """The table of one machine."""
    print(
        "| problem | n | noise | method | status | R-hat | ESS min (median) of draws | s (with starts) |"
        " ESS/s min (median) | steps | failed | floor |"
    )
    print("|" + "---|" * 12)
    for (p, n, z, m), r in sorted(cells.items(), key=lambda kv: (kv[0][0], kv[0][1], -kv[0][2], kv[0][3])):
        if "rhat" not in r:
            print(f"| {p} | {n} | {z:g} | {m} | {r['status']} | | | | | | | |")
            continue
        name = m if m != "auto" else f"auto: {r['sampler']}"
        if r.get("pareto_k") is not None:
            name += f", k = {r['pareto_k']:.1f}"
        floor = " ".join(f"{f:.1g}" for f in r.get("floor", []))
        opt = lambda k, f, r=r: "" if r.get(k) is None else format(r[k], f)
        print(
            f"| {p} | {n} | {z:g} | {name} | {r['status']} | {r['rhat']:.3f} | {r['ess_min']:.0f}"
            f" ({r['ess_median']:.0f}) of {r['draws']} | {r['seconds']:.0f} ({r['total']:.0f}) |"
            f" {r['ess_min'] / r['seconds']:.2g} ({r['ess_median'] / r['seconds']:.2g}) | {opt('steps', '.0f')} |"
            f" {opt('failed_steps', '.2f')} | {floor} |"
        )


def against(cells, one, other):
    """Minimum ESS per second of a method over that of another, for each noise, on the cells that both have."""
    gains = defaultdict(list)
    for (p, n, z, m), r in cells.items():
        mine = cells.get((p, n, z, one))
        if m == other and mine and "rhat" in mine and "rhat" in r:
            speed = [x["ess_min"] / x["seconds"] for x in (mine, r)]
            gains[z].append((speed[0] / speed[1], r["rhat"] < 1.01))
    for z, found in sorted(gains.items(), reverse=True):
        each = [g for g, _ in found]
        print(
            f"\nmin ESS/s of {one} over {other} at {z:g}: geometric mean {math.exp(np.mean(np.log(each))):.2g}"
            f" ({min(each):.2g} to {max(each):.2g}) over {len(found)} cells; {other} converged in"
            f" {sum(c for _, c in found)}."
        )


def main(arguments=None):
    """Run or print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--methods", nargs="+", default=["auto"], choices=METHODS)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--dims", nargs="+", type=int, default=list(DIMS))
    parser.add_argument("--noises", nargs="+", type=float, default=list(NOISES))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machine", default=SHARED, help="goes into the rows; one table each")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for the textbook model")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore", FutureWarning)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if args.table:
        table(rows)
        return
    have = {(r["problem"], r["dim"], r["noise"], r["method"], r["seed"]) for r in rows}
    for dim in args.dims:
        for noise in args.noises:
            for name in args.problems:
                for method in args.methods:
                    if (name, dim, noise, method, args.seed) in have:
                        continue
                    row = cell(name, dim, noise, method, args)
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
