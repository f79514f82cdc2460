"""An observable together with levels: the expectation value shares its eigenvectors with the energies.

The secondary matrix for x² is learned beside the primary ones. The energies tell where the eigenvectors turn, so
the observable outside the data is known better than from its own column alone.

    python examples/observable_with_levels.py
"""

import jax
import numpy as np

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def main(warmup=800, draws=800):
    problem = bp.problems.get("oscillator", observable=True)
    print("columns and what they measure:", dict(problem.outputs))
    data = problem.dataset(noise=1e-2, seed=2)
    posterior = bp.Posterior(data, bp.PMM(list(problem.outputs.values()), dim=4))
    fit = bp.fit(posterior, bp.NUTS(warmup=warmup, draws=draws), key=0)
    print(fit)

    bands, exact = fit.predict(problem.outside), problem.exact(problem.outside)
    for q, name in enumerate(data.output_names):
        lo, hi = bands.quantile(0.05)[:, q], bands.quantile(0.95)[:, q]
        inside = np.mean((lo <= exact[:, q]) & (exact[:, q] <= hi))
        print(f"{name}: {inside:.0%} of the exact values outside the data lie inside the 90 % band")
    covariance = fit.covariance(problem.outside[:1])
    print("covariance of the outputs at the first new coupling:\n", covariance)
    return fit, bands


if __name__ == "__main__":
    main()
