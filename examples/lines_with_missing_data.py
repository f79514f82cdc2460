"""Two measured lines of a spin, with error bars and missing cells: differences of levels.

A line is the distance of an excited level from the ground level, and at low field the two lines are not resolved,
so one of them is missing there. The known errors enter the likelihood datum by datum; the learned floor takes up
what they do not explain.

    python examples/lines_with_missing_data.py
"""

import jax
import numpy as np

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def lines(field):
    """Lines (GHz) of a spin 1 with D = 2.87 GHz in a field (mT) that is tilted from its axis by 20 degrees."""
    s = np.sqrt(0.5)
    Sz, Sx = np.diag([1.0, 0.0, -1.0]), np.array([[0, s, 0], [s, 0, s], [0, s, 0]])
    tilt = np.deg2rad(20)
    H = [2.87 * Sz @ Sz + 0.02803 * b * (np.cos(tilt) * Sz + np.sin(tilt) * Sx) for b in field]
    w = np.linalg.eigvalsh(H)
    return w[:, 1:] - w[:, :1]


def main(warmup=800, draws=800):
    rng = np.random.default_rng(0)
    field = np.linspace(1.0, 15.0, 12)
    error = rng.uniform(0.5e-3, 1.5e-3, (12, 2))
    seen = lines(field) + error * rng.normal(size=(12, 2))
    seen[:3, 1] = np.nan  # the upper line is not resolved at low field

    data = bp.Dataset.from_columns(
        {"B_mT": field}, {"f1": seen[:, 0], "f2": seen[:, 1]}, {"f1": error[:, 0], "f2": error[:, 1]}
    )
    posterior = bp.Posterior(data, bp.PMM(["E1-E0", "E2-E0"], dim=4))
    fit = bp.fit(posterior, bp.NUTS(warmup=warmup, draws=draws), key=0)
    print(fit)

    new = np.linspace(16.0, 27.0, 12)
    bands, exact = fit.predict(new), lines(new)
    for b, lo, mid, hi, x in zip(
        new, bands.quantile(0.05), bands.quantile(0.5), bands.quantile(0.95), exact, strict=True
    ):
        print(f"{b:5.1f} mT", *(f"{n}: {m:.4f} [{a:.4f}, {z:.4f}] exact {e:.4f}" for n, a, m, z, e in
                                zip(data.output_names, lo, mid, hi, x, strict=True)))  # fmt: skip
    return fit, bands


if __name__ == "__main__":
    main()
