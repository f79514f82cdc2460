"""Which prior of the scales? One fit for each task under a wide prior, reweighted to others.

    python -m studies.extrapolation.hyperprior --out FOLDER [--tasks ising/1/1e-2 ...]

The priors differ in log-normal median and spread of the matrices' scales only, so draws under (1, 1) are weighed by the
ratio of those two densities. ``size`` is the effective number of weighted draws (Kish): below 100 a line means little.
The family almg, whose training data show no interaction of levels, is shown apart. Resumable: a task whose file is
there is not fitted again.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from scipy import stats

import bayes_pmm as bp
from bayes_pmm import problems, scores
from bayes_pmm.basis import parse_basis

DRAWN = (1.0, 1.0)
GRID = [
    (1, 1),
    (1, 0.7),
    (1, 0.5),
    (1.5, 1),
    (1.5, 0.7),
    (1.5, 0.5),
    (2, 1),
    (2, 0.7),
    (2, 0.5),
    (3, 1),
    (0.7, 0.7),
]
FAMILIES = ("oscillator", "ising", "random_weak", "random_strong", "pairing", "almg")
TASKS = [
    *(f"{family}/{h}/1e-2" for h in range(4) for family in FAMILIES),
    *(f"{family}/{h}/1e-4" for h in (1, 2, 3) for family in FAMILIES[:-1]),
]
ADDED = 1e-4


def draw(name: str, path: Path) -> None:
    """Fit one task under the wide prior and store latent draws, scales and exact values in units of the spread."""
    task = problems.task(name)
    median, spread = DRAWN
    prior = bp.Prior(
        scale_median=median, scale_spread=spread, secondary_median=median, secondary_spread=spread
    )
    pmm = bp.PMM(tuple(task.problem.outputs.values()), basis=parse_basis(task.basis))
    method = bp.Manifold(chains=2, warmup=120, draws=150, starts=bp.AnnealedStarts(candidates=24))
    posterior = bp.Posterior(task.data, pmm, prior)
    fit = bp.fit(posterior, method, key=1, controls=task.controls)
    draws = fit.sample(task.controls) / task.spread
    # In units of the prior's median, which is not the same for all matrices.
    scale = median * fit.draws.sites["scale"] / np.asarray(posterior.matrix_prior.hyperparameters()[0])
    np.savez(
        path,
        draws=draws.reshape(-1, *draws.shape[2:]),
        scale=scale.reshape(-1, scale.shape[-1]),
        truth=task.truth / task.spread,
    )


def judged(path: Path, median: float, spread: float) -> tuple[float, float, np.ndarray, float]:
    """Coverage, mean CRPS, PIT values and effective number of draws under another prior of the scales."""
    with np.load(path) as stored:
        draws, scale, truth = stored["draws"], stored["scale"], stored["truth"]
    log = lambda m, s: stats.lognorm(s, scale=m).logpdf(scale).sum(axis=1)
    ratio = log(median, spread) - log(*DRAWN)
    w = np.exp(ratio - ratio.max())
    return (
        float(scores.coverage(draws, truth, weights=w)),
        float(scores.crps(draws, truth, fair=False, weights=w).mean()),
        scores.pit(draws, truth, weights=w).ravel(),
        float(w.sum() ** 2 / np.sum(w**2)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    args.out.mkdir(parents=True, exist_ok=True)
    paths = {name: args.out / f"{name.replace('/', '_')}.npz" for name in args.tasks}
    for name, path in paths.items():
        if not path.exists():
            draw(name, path)
            print(f"{name} drawn", flush=True)
    print(
        "| median | spread | coverage | CRPS (geometric mean) | ECE | size median (least) | coverage almg |"
    )
    print("|---|---|---|---|---|---|---|")
    for median, spread in GRID:
        main_, apart = [], []
        for name, path in paths.items():
            (apart if name.startswith("almg") else main_).append(judged(path, median, spread))
        coverage, crps, pits, size = zip(*main_, strict=True)
        lost = f"{np.mean([j[0] for j in apart]):.2f}" if apart else "–"
        mean_crps = np.exp(np.mean(np.log(np.array(crps) + ADDED)))
        print(
            f"| {median:g} | {spread:g} | {np.mean(coverage):.2f} | {mean_crps:.4f} "
            f"| {scores.ece(np.concatenate(pits)):.3f} | {np.median(size):.0f} ({min(size):.0f}) | {lost} |"
        )


if __name__ == "__main__":
    main()
