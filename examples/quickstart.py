"""Quickstart: energies against a coupling, a band outside the data.

python examples/quickstart.py
"""

import jax
import numpy as np

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def main(warmup=500, draws=1000):
    # Two levels of a Hamiltonian at ten couplings. Yours come from a solver, or `data, rest = bp.read_dataset(...)`.
    problem = bp.problems.get("oscillator")
    data = problem.dataset(noise=1e-2, seed=1)

    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=4))
    fit = bp.fit(posterior, bp.Auto(warmup=warmup, draws=draws), key=0)
    print(fit)

    g = np.linspace(0, 3, 31)
    bands = fit.predict(g)
    print(bands.to_dataframe().query("kind == 'latent' and g > 1").tail(6).to_string(index=False))

    exact = problem.exact(g[:, None])
    inside = (bands.quantile(0.05) <= exact) & (exact <= bands.quantile(0.95))
    print(f"exact values inside the 90 % band where extrapolated: {inside[bands.extrapolated].mean():.0%}")
    return fit, bands


if __name__ == "__main__":
    main()
