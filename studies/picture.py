"""The README's picture: the demo's band, a Gaussian process on the same data, and the exact levels.

python studies/picture.py RUN docs/band.png      # RUN: a folder made by `bayes-pmm demo`
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    fit = bp.load(args.run)
    data, g = fit.posterior.data, np.linspace(0, 3, 61)
    bands, exact = fit.predict(g), bp.problems.get("oscillator").exact(g[:, None])
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    for q, ax in enumerate(figure.subplots(1, 2)):
        kernel = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(1.0, (1e-1, 1e2)) + WhiteKernel(1e-3, (1e-10, 1.0))
        gp = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=8, random_state=0)
        gp.fit(data.controls, data.values[:, q])
        mean, sd = gp.predict(g[:, None], return_std=True)
        ax.fill_between(
            g,
            mean - 1.645 * sd,
            mean + 1.645 * sd,
            color="C1",
            alpha=0.2,
            lw=0,
            label="Gaussian process, 90 %",
        )
        ax.plot(g, mean, color="C1", lw=1)
        lo, _, mid, _, hi = bands.quantiles["latent"][:, :, q]
        ax.fill_between(g, lo, hi, color="C0", alpha=0.3, lw=0, label="bayes_pmm, 90 %")
        ax.plot(g, mid, color="C0", lw=1.2)
        ax.plot(g, exact[:, q], "k--", lw=1.2, label="exact")
        ax.plot(data.controls[:, 0], data.values[:, q], "ko", ms=4, label="data")
        ax.set(xlabel="g", ylabel=data.output_names[q])
    ax.legend(fontsize="small", frameon=False)
    figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
