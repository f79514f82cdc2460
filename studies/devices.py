"""How a fit's time depends on the device and on the number of chains.

    JAX_PLATFORMS=cpu  python studies/devices.py --out devices.jsonl
    JAX_PLATFORMS=cuda python studies/devices.py --out devices.jsonl
    python studies/devices.py --out devices.jsonl --table

On a CPU each chain has a thread, on an accelerator all chains are one batch. Chains are short and alike (100 draws of
warm-up, 100 kept), so that only their number changes; ESS is the least of the levels at the training and at the
outside controls. Seconds are of sampling, after compilation; `starts` are of 48 and 1000 starting points, `predict` of
20000 draws at 200 controls, `smc` of two runs. Resumable: what has a line is skipped.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import numpy as np

import bayes_pmm as bp
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference import NUTS, AnnealedStarts, Draws, Manifold, TemperedSMC
from bayes_pmm.predict import outputs_at
from bayes_pmm.problems import get

jax.config.update("jax_enable_x64", True)

NOISE = {"manifold": 1e-3, "nuts": 1e-1}
METHODS = {"manifold": Manifold, "nuts": NUTS}


def posterior_of(dim, noise):
    problem = get("oscillator")
    data = problem.dataset(noise=noise, seed=0)
    return problem, bp.Posterior(data, bp.PMM(list(problem.outputs.values()), dim=dim))


def chains(name, dim, count):
    """Seconds of sampling, and the least ESS, of so many chains."""
    problem, posterior = posterior_of(dim, NOISE[name])
    method = METHODS[name](chains=count, warmup=100, draws=100)
    draws = method.run(posterior, jax.random.key(0))
    controls = np.concatenate([problem.train, problem.outside])
    rhat, ess = rhat_and_ess(outputs_at(posterior, draws, controls))
    return {
        "seconds": draws.info["seconds"],
        "transitions": 200 * count,
        "rhat": float(np.nanmax(rhat)),
        "ess_min": float(np.nanmin(ess)),
        "steps": float(draws.stats["n_steps"].mean()),
    }


def starts(dim, count):
    _, posterior = posterior_of(dim, 1e-2)
    search = AnnealedStarts(candidates=count)
    search.find(posterior, jax.random.key(1), 4)
    began = time.perf_counter()
    best = search.find(posterior, jax.random.key(0), 4).basins[0]
    return {"seconds": time.perf_counter() - began, "log_evidence": best.log_evidence}


def predict(dim, count):
    problem, posterior = posterior_of(dim, 1e-2)
    keys = jax.random.split(jax.random.key(0), (4, count // 4))
    sites = jax.jit(jax.vmap(jax.vmap(posterior.prior_sites)))(keys)
    draws = Draws(jax.tree.map(np.asarray, sites), {}, {})
    at = np.linspace(problem.train.min(), problem.outside.max(), 200)[:, None]
    outputs_at(posterior, draws, at)
    began = time.perf_counter()
    outputs_at(posterior, draws, at)
    return {"seconds": time.perf_counter() - began}


def smc(dim, count):
    _, posterior = posterior_of(dim, 1e-1)
    draws = TemperedSMC(chains=2, draws=count).run(posterior, jax.random.key(0))
    return {"seconds": draws.info["seconds"], "stages": draws.info["stages"]}


def cells():
    """What is measured: name, dimension, number, and the function."""
    for dim in (4, 7):
        for count in (4, 64, 512):
            yield "manifold", dim, count, lambda dim=dim, count=count: chains("manifold", dim, count)
            yield "nuts", dim, count, lambda dim=dim, count=count: chains("nuts", dim, count)
        for count in (48, 1000):
            yield "starts", dim, count, lambda dim=dim, count=count: starts(dim, count)
        yield "predict", dim, 20000, lambda dim=dim: predict(dim, 20000)
    for count in (300, 3000):
        yield "smc", 4, count, lambda count=count: smc(4, count)


def table(rows):
    """Markdown, devices side by side."""
    kinds = sorted({r["device"] for r in rows})
    print("| what | n | number | " + " | ".join(f"{k}: s | ESS/s" for k in kinds) + " |")
    print("|" + "---|" * (3 + 2 * len(kinds)))
    at = {(r["name"], r["dim"], r["count"], r["device"]): r for r in rows}
    for key in dict.fromkeys((r["name"], r["dim"], r["count"]) for r in rows):
        line = []
        for kind in kinds:
            r = at.get((*key, kind))
            line += ["", ""] if r is None else [f"{r['seconds']:.3g}", _per_second(r)]
        print(f"| {key[0]} | {key[1]} | {key[2]} | " + " | ".join(line) + " |")


def _per_second(r):
    return f"{r['ess_min'] / r['seconds']:.3g}" if "ess_min" in r else ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", nargs="+", help="names of what is measured")
    parser.add_argument("--most", type=int, default=20000, help="largest number of chains, starts or members")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if args.table:
        table(rows)
        return
    kind = jax.devices()[0].device_kind
    if kind == "cpu":
        kind = f"{len(os.sched_getaffinity(0))} CPU cores"
    have = {(r["name"], r["dim"], r["count"], r["device"]) for r in rows}
    for name, dim, count, run in cells():
        if (name, dim, count, kind) in have or (args.only and name not in args.only) or count > args.most:
            continue
        about = {"name": name, "dim": dim, "count": count, "device": kind, "jax": jax.__version__}
        row = about | run()
        with args.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
