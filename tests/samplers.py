"""Posteriors of the exact problems, starts that are searched for once, and outputs: shared by tests of samplers."""

import jax
import numpy as np

from bayes_pmm.inference.start import AnnealedStarts, Starts
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior


class Found:
    """Annealed starts, searched for once and used by both methods."""

    def __init__(self, posterior, chains=4, candidates=16):
        self.starts = AnnealedStarts(candidates, 8, 8).find(posterior, jax.random.key(0), chains)

    def find(self, posterior, key, chains):  # noqa: ARG002
        return Starts(self.starts.sites[:chains], self.starts.basins, self.starts.ensemble)


def of_problem(problem, noise, known_errors=False, floor=True, missing=True, **pmm):
    data = problem.dataset(noise, seed=0, known_errors=known_errors, missing=missing)
    return Posterior(data, PMM(list(problem.outputs.values()), **pmm), noise=Noise(floor=floor))


def outputs_of(posterior, draws, controls):
    """Outputs (chain, draw, N Q) at the controls."""
    outputs = jax.jit(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, controls).ravel())))(draws.sites)
    return np.asarray(outputs)
