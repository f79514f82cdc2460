"""Neutron matter: energy per neutron against two three-nucleon couplings, with the published split.

    python studies/neutron_matter.py PATH/mbpt3.csv [--output E_016] [--dims 2,3]

Rows 0-29 train, rows 30-99 validate. For each dimension the script fits the posterior, and beside it the best
deterministic model of the same dimension: least squares from many random starts, the one with the smallest training
residual. It prints the mean relative error of the posterior median and of the deterministic fit on the validation
rows, and the share of these rows inside the 90 % predictive band. The data are not part of this repository
(arXiv:2410.00247; columns c1, c3, E_012, E_016, E_020).
"""

import argparse

import jax
import numpy as np
from scipy.optimize import least_squares

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def deterministic(c, y, new, dim, starts, seed=0):
    """Lowest eigenvalue of M0 + c1 M1 + c3 M3 with M0 diagonal: best of many least-squares fits."""
    centre, width, m, s = c.mean(0), c.std(0), y.mean(), y.std()
    upper = np.triu_indices(dim)
    k = len(upper[0])

    def matrices(t):
        M = np.zeros((3, dim, dim))
        M[0][np.diag_indices(dim)] = t[:dim]
        for i in (1, 2):
            M[i][upper] = t[dim + (i - 1) * k : dim + i * k]
            M[i] = M[i] + M[i].T - np.diag(np.diag(M[i]))
        return M

    def curve(t, c):
        x = (c - centre) / width
        M = matrices(t)
        return np.linalg.eigvalsh(M[0] + x[:, :1, None] * M[1] + x[:, 1:, None] * M[2])[:, 0]

    rng = np.random.default_rng(seed)
    best = None
    for _ in range(starts):
        start = rng.normal(size=dim + 2 * k)
        fit = least_squares(lambda t: curve(t, c) - (y - m) / s, start, method="trf", max_nfev=300)
        if best is None or fit.cost < best.cost:
            best = fit
    return m + s * curve(best.x, new), np.sqrt(2 * best.cost / len(y)) * s


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path")
    parser.add_argument("--output", default="E_016")
    parser.add_argument("--dims", default="2,3")
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    whole, _ = bp.read_dataset(args.path, ["c1", "c3"], [args.output])
    train = whole.select(np.arange(30))
    c, y = whole.controls[30:], whole.values[30:, 0]
    print("| n | posterior: mean rel. error | least squares: mean rel. error | ratio | 90 % predictive coverage |"
          " coverage where extrapolated | floor | R-hat | ESS | divergences | s | status |")  # fmt: skip
    print("|" + "---|" * 12)
    for dim in map(int, args.dims.split(",")):
        posterior = bp.Posterior(train, bp.PMM(["E0"], dim=dim))
        fit = bp.fit(posterior, bp.NUTS(warmup=args.warmup, draws=args.draws), key=0, controls=c)
        bands = fit.predict(c)
        error = np.mean(np.abs(bands.quantile(0.5)[:, 0] / y - 1))
        point, _ = deterministic(train.controls, train.values[:, 0], c, dim, args.starts)
        reference = np.mean(np.abs(point / y - 1))
        lo, hi = bands.quantile(0.05, "predictive")[:, 0], bands.quantile(0.95, "predictive")[:, 0]
        inside, out = (lo <= y) & (y <= hi), bands.extrapolated[:, 0]
        d = fit.diagnosis
        print(
            f"| {dim} | {error:.2e} | {reference:.2e} | {error / reference:.2f} | {inside.mean():.2f} |"
            f" {inside[out].mean():.2f} ({out.sum()} rows) | {fit.draws.sites['floor'].mean():.2g} MeV |"
            f" {d.max_rhat:.4f} | {d.min_ess:.0f} | {d.divergences} | {fit.draws.info['seconds']:.0f} | {d.status} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
