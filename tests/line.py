"""A straight line with known errors: a 1x1 matrix whose posterior and predictive densities are closed forms."""

from dataclasses import dataclass

import jax
import numpy as np
from scipy import stats

from bayes_pmm.data import Dataset
from bayes_pmm.inference.protocol import Draws, silent
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.widening import Widening


def line(n=9, size=0.3, outlier=0.0):
    """Posterior of one level of a 1x1 matrix; the last value is moved by ``outlier`` errors."""
    c = np.linspace(0.0, 2.0, n)[:, None]
    error = np.full((n, 1), size)
    y = 1.5 - 0.8 * c + error * np.random.default_rng(0).normal(size=(n, 1))
    y[-1] += outlier * size
    return Posterior(
        Dataset(c, y, error, ("g",), ("E0",)),
        PMM(["E0"], dim=1),
        Prior(scale_spread=0.0),
        Noise(floor=False),
        widening=Widening(0.0),
    )


def normal(posterior):
    """Mean (2,) and covariance of the sites (anchor, shift), and the design of the outputs at controls."""
    prior, scaling, data = posterior.prior, posterior.scaling, posterior.data
    variance = prior.shift_sd**2 + 2 * prior.scale_median**2
    design = lambda c: scaling.scale[0] * np.asarray(scaling.coefficients(posterior.pmm.basis, c))
    A, sigma = design(data.controls), data.errors[:, 0]
    C = np.linalg.inv(A.T @ (A / sigma[:, None] ** 2) + np.eye(2) / variance)
    return C @ A.T @ ((data.values[:, 0] - scaling.shift[0]) / sigma**2), C, design


def predictive(posterior, controls, errors):
    """Exact predictive distribution at controls (N, 1): a frozen normal of shape (N,)."""
    mean, C, design = normal(posterior)
    B = design(controls)
    variance = np.einsum("ni,ij,nj->n", B, C, B) + np.asarray(errors)[:, 0] ** 2
    return stats.norm(posterior.scaling.shift[0] + B @ mean, np.sqrt(variance))


@dataclass(frozen=True)
class Exact:
    """Independent draws of the line's posterior, as an inference method."""

    draws: int = 2000

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        mean, C, _ = normal(posterior)
        z = np.asarray(jax.random.normal(key, (4, self.draws, 2))) @ np.linalg.cholesky(C).T + mean
        info = {"sampler": "exact", "chains": 4, "draws": self.draws, "seconds": 0.0}
        return Draws({"anchor": z[..., 0], "shift": z[..., 1:]}, {}, info)
