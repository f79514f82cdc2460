"""NUTS: what is its own, beside the protocol tests of all samplers (test_checkpoint, test_agreement)."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.inference import AnnealedStarts
from bayes_pmm.inference.nuts import NUTS

METHOD = NUTS(chains=2, warmup=20, draws=30, starts=AnnealedStarts(candidates=8, stages=6, late_stages=2))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def posterior():
    data = problems.get("spins").dataset(noise=1e-2, seed=0, known_errors=True)
    return bp.Posterior(data, bp.PMM(["E0"], dim=2), noise=bp.Noise(floor=False))


@pytest.mark.parametrize("batched", [False, True])
def test_thinned_draws_are_every_third_of_all(posterior, batched):
    every = replace(METHOD, batched=batched).run(posterior, KEY)
    third = replace(METHOD, batched=batched, thin=3, draws=10).run(posterior, KEY)
    for name, values in every.sites.items():
        np.testing.assert_array_equal(third.sites[name], values[:, 2::3], err_msg=name)
    steps = every.stats["n_steps"].reshape(2, 10, 3)
    np.testing.assert_array_equal(third.stats["n_steps"], steps.sum(axis=2))
    diverging = every.stats["diverging"].reshape(2, 10, 3)
    np.testing.assert_array_equal(third.stats["diverging"], diverging.any(axis=2))
