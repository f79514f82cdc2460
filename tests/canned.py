"""Fits without sampling: draws of the prior stand for those of the posterior."""

from dataclasses import dataclass

import jax
import numpy as np

import bayes_pmm as bp
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.inference.protocol import Draws, silent


@dataclass(frozen=True)
class FromPrior:
    """Draws of the prior, as an inference method."""

    draws: int = 12

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        found = jax.vmap(posterior.prior_sites)(jax.random.split(key, 2 * self.draws))
        sites = {name: np.asarray(v).reshape(2, self.draws, *v.shape[1:]) for name, v in found.items()}
        return Draws(sites, {}, {"sampler": "canned", "chains": 2, "draws": self.draws, "seconds": 0.5})


def canned(controls=("J", "h"), outputs=("E0", "E1", "E1-E0"), rows=12, draws=12, error=None, seed=0):
    """Fit with two chains; controls are uniform between 0 and 1, and the names of outputs are their expressions."""
    rng = np.random.default_rng(0)
    c = rng.uniform(size=(rows, len(controls)))
    y = {name: k + c.sum(axis=1) + 0.1 * c[:, 0] ** 2 for k, name in enumerate(outputs)}
    errors = None if error is None else dict.fromkeys(outputs, error)
    data = bp.Dataset.from_columns(dict(zip(controls, c.T, strict=True)), y, errors)
    posterior = bp.Posterior(data, bp.PMM(outputs, dim=2))
    drawn = FromPrior(draws).run(posterior, jax.random.key(seed))
    return bp.Fit(posterior, drawn, Diagnosis("ok", (), 1.0, 500.0, 0), jax.random.key(1))
