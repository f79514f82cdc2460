"""Bands on the exact problems: coverage, CRPS, width and convergence next to a Gaussian process and a polynomial.

    python studies/first_bands.py --out results.jsonl            # resumable: finished cells are skipped
    python studies/first_bands.py --out results.jsonl --table    # print the table of what is there

Every method sees the same noisy data (1 % of the spread) and is judged on exact values, inside the training region
and outside it. CRPS and widths are in units of the standard deviation of the output's training data.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.preprocessing import PolynomialFeatures

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.scores import crps

jax.config.update("jax_enable_x64", True)

PROBLEMS = (
    "spins", "ising", "oscillator", "almg", "random_weak", "random_strong", "nv", "exceptional_point", "pairing",
    "crossings", "anticrossing", "two_couplings",
)  # fmt: skip
DRAWS = 2000
METHODS = ("pmm", "gp", "polynomial")
DIMS = {"nv": 9}
"""Dimensions other than the default: nine levels describe eight lines, and twelve would be slow."""
BASES = {"anticrossing": bp.Fourier(1, 3.0)}
"""Bases other than affine: what a user who knows the device would choose."""


def pmm_draws(problem, data, controls, seed, args):
    """Latent draws (S, N, Q) of the PMM with the package's defaults, and what the fit says of itself."""
    pmm = bp.PMM(
        tuple(problem.outputs.values()),
        dim=args.dim or DIMS.get(problem.name),
        basis=BASES.get(problem.name, bp.Affine()),
    )
    done = bp.fit(
        bp.Posterior(data, pmm), bp.NUTS(warmup=args.warmup, draws=args.draws), key=seed, controls=controls
    )
    d = done.diagnosis
    about = {
        "dim": pmm.dim,
        "status": d.status,
        "rhat": d.max_rhat,
        "ess": d.min_ess,
        "divergences": d.divergences,
        "seconds": done.draws.info["seconds"],
        "leapfrogs": float(done.draws.stats["n_steps"].mean()),
    }
    return done.sample(controls).reshape(-1, len(controls), data.n_outputs), about


def gp_draws(data, controls, rng):
    """Latent draws of one Gaussian process per output: RBF and noise, marginal likelihood with restarts."""
    out = np.empty((DRAWS, len(controls), data.n_outputs))
    centre, width = data.controls.mean(0), data.controls.std(0)
    for q in range(data.n_outputs):
        seen = data.mask[:, q]
        kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(np.ones(len(centre)), (1e-1, 1e2)) + WhiteKernel(
            1e-3, (1e-10, 1.0)
        )
        gp = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=8, random_state=0)
        with warnings.catch_warnings():
            # A hyperparameter at its bound is part of what a user of the defaults gets.
            warnings.simplefilter("ignore", ConvergenceWarning)
            gp.fit((data.controls[seen] - centre) / width, data.values[seen, q])
        mean, sd = gp.predict((controls - centre) / width, return_std=True)
        noise = gp.kernel_.k2.noise_level * np.std(data.values[seen, q]) ** 2
        out[:, :, q] = rng.normal(mean, np.sqrt(np.maximum(sd**2 - noise, 1e-30)), (DRAWS, len(controls)))
    return out


def polynomial_draws(data, controls, rng):
    """Latent draws of least squares on monomials, the degree chosen by leave-one-out; Student-t coefficients."""
    out = np.empty((DRAWS, len(controls), data.n_outputs))
    centre, width = data.controls.mean(0), data.controls.std(0)
    for q in range(data.n_outputs):
        seen = data.mask[:, q]
        x, y = (data.controls[seen] - centre) / width, data.values[seen, q]
        best = None
        for degree in range(1, 7):
            features = PolynomialFeatures(degree)
            A = features.fit_transform(x)
            if A.shape[1] > len(y) - 2:
                break
            U, s, Vt = np.linalg.svd(A, full_matrices=False)
            r = y - U @ (U.T @ y)
            loo = np.mean((r / (1 - np.sum(U**2, axis=1))) ** 2)
            if best is None or loo < best[0]:
                dof = len(y) - A.shape[1]
                best = (loo, features, Vt.T @ ((U.T @ y) / s), Vt.T / s, np.sqrt(r @ r / dof), dof)
        _, features, beta, root, sigma, dof = best
        t = rng.normal(size=(DRAWS, len(beta)))
        scale = sigma * np.sqrt(dof / rng.chisquare(dof, DRAWS))
        coefficients = beta + scale[:, None] * (t @ root.T)
        out[:, :, q] = coefficients @ features.transform((controls - centre) / width).T
    return out


def scores(draws, truth, spread, n_train):
    """Coverage of the 90 % band, CRPS and width, inside (the first n_train rows) and outside."""
    result = {}
    for region, rows in (("in", slice(0, n_train)), ("out", slice(n_train, None))):
        lo, hi = np.quantile(draws[:, rows], [0.05, 0.95], axis=0)
        result[f"coverage_{region}"] = float(np.mean((truth[rows] >= lo) & (truth[rows] <= hi)))
        result[f"crps_{region}"] = float(np.mean(crps(draws[:, rows], truth[rows]) / spread))
        result[f"width_{region}"] = float(np.mean((hi - lo) / spread))
    return result


def cell(name, seed, args):
    """All methods on one data set."""
    problem = problems.get(name)
    noise = None if problem.measured_sd is not None else args.noise
    data = problem.dataset(noise=noise, seed=seed, known_errors=noise is None)
    controls = np.concatenate([problem.train, problem.outside])
    truth, spread = problem.exact(controls), np.nanstd(data.values, axis=0)
    rng = np.random.default_rng(seed)
    began = time.perf_counter()
    draws, about = pmm_draws(problem, data, controls, seed, args)
    about["wall"] = time.perf_counter() - began
    methods = {
        "pmm": draws,
        "gp": gp_draws(data, controls, rng),
        "polynomial": polynomial_draws(data, controls, rng),
    }
    n = len(problem.train)
    return {
        "problem": name,
        "seed": seed,
        "dim_asked": args.dim,
        "pmm": about,
        "scores": {k: scores(v, truth, spread, n) for k, v in methods.items()},
    }


def table(results):
    """Markdown table, one line per problem, averaged over seeds."""
    head = (
        "| problem | n | cov in | cov out: PMM | GP | poly | CRPS out: PMM | GP | poly | CRPS in: PMM | GP | poly "
        "| width out: PMM | GP | poly | max R-hat | min ESS | divergences | s | status |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name in dict.fromkeys(r["problem"] for r in results):
        cells = [r for r in results if r["problem"] == name]
        mean = lambda m, k: np.mean([r["scores"][m][k] for r in cells])  # noqa: B023, E731
        about = [r["pmm"] for r in cells]
        statuses = [a["status"] for a in about]
        three = lambda k, f: " | ".join(f.format(mean(m, k)) for m in METHODS)  # noqa: B023, E731
        lines.append(
            f"| {name} | {about[0]['dim']} | {mean('pmm', 'coverage_in'):.2f} | {three('coverage_out', '{:.2f}')} "
            f"| {three('crps_out', '{:.3g}')} | {three('crps_in', '{:.3g}')} | {three('width_out', '{:.2g}')} "
            f"| {max(a['rhat'] for a in about):.3f} | {min(a['ess'] for a in about):.0f} "
            f"| {sum(a['divergences'] for a in about)} | {np.mean([a['seconds'] for a in about]):.0f} "
            f"| {', '.join(f'{statuses.count(s)} {s}' for s in dict.fromkeys(statuses))} |"
        )
    ratio = lambda m: np.exp(  # noqa: E731
        np.mean(
            [
                np.log((r["scores"]["pmm"]["crps_out"] + 1e-4) / (r["scores"][m]["crps_out"] + 1e-4))
                for r in results
            ]
        )
    )

    def pooled(method):
        return np.mean([r["scores"][method]["coverage_out"] for r in results])

    lines.append("")
    lines.append(
        f"Pooled coverage outside of the 90 % band: {', '.join(f'{m} {pooled(m):.2f}' for m in METHODS)}."
        f" Geometric mean of the CRPS outside relative to the GP {ratio('gp'):.2f}, to the polynomial"
        f" {ratio('polynomial'):.2f} ({len(results)} data sets; 1e-4 added to both sides)."
    )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=1e-2)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--warmup", type=int, default=800)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    results = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if not args.table:
        done = {(r["problem"], r["seed"], r["dim_asked"]) for r in results}
        for seed in range(args.seeds):
            for name in args.problems.split(","):
                if (name, seed, args.dim) in done:
                    continue
                result = cell(name, seed, args)
                results.append(result)
                with args.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print(json.dumps(result), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
