"""The samplers draw from the same posterior: seven kinds of model, tempered SMC three that have no learned floor."""

from dataclasses import dataclass
from functools import cache

import jax
import numpy as np
import pytest
from montecarlo import PROBABILITIES, assert_agrees, features, mean_and_error, z_of_draws
from samplers import Found, of_problem, outputs_of

import bayes_pmm as bp
from bayes_pmm.basis import Fourier
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.data import Dataset
from bayes_pmm.inference import NUTS, Manifold, TemperedSMC
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get

pytestmark = pytest.mark.slow


def pencil_with_lines():
    """Differences of levels of a random 4 × 4 pencil, a third of the second line missing, known errors."""
    rng = np.random.default_rng(1)
    A, B = (x + x.T for x in rng.normal(size=(2, 4, 4)))
    c = np.linspace(-0.5, 0.5, 12)
    w = np.linalg.eigvalsh(A + c[:, None, None] * B)
    y = np.stack([w[:, 1] - w[:, 0], w[:, 2] - w[:, 0]], axis=1)
    error = np.full(y.shape, 0.02 * y.std())
    y = y + error * rng.normal(size=y.shape)
    y[:4, 1] = np.nan
    data = Dataset(c[:, None], y, error, ("c",), ("f1", "f2"))
    return Posterior(data, PMM(["E1-E0", "E2-E0"], dim=3), noise=Noise(floor=False))


def transitions():
    """Two levels and the transition strength between them of a random 2 × 2 pencil, with learned floors."""
    rng = np.random.default_rng(2)
    A, B, X = (x + x.T for x in rng.normal(size=(3, 2, 2)))
    c = np.linspace(-0.5, 0.5, 8)
    w, V = np.linalg.eigh(A + c[:, None, None] * B)
    strength = np.einsum("ci,ij,cj->c", V[:, :, 0], X, V[:, :, 1]) ** 2
    y = np.column_stack([w, strength])
    y = y + 0.02 * y.std(0) * rng.normal(size=y.shape)
    data = Dataset(c[:, None], y, None, ("c",), ("E0", "E1", "strength"))
    return Posterior(data, PMM(["E0", "E1", "|<0|A|1>|^2"], dim=2))


@dataclass(frozen=True)
class Case:
    make: object
    outside: np.ndarray


LINE = np.array([[0.8], [1.2]])
CASES = {
    "learned floor": Case(lambda: of_problem(get("oscillator"), 2e-2, dim=3), 1 + LINE),
    "complex": Case(
        lambda: of_problem(
            get("exceptional_point"), 2e-2, known_errors=True, floor=False, dim=2, field="complex"
        ),
        get("exceptional_point").outside[::4],
    ),
    "observable": Case(lambda: of_problem(get("oscillator", observable=True), 2e-2, dim=3), 1 + LINE),
    "transitions": Case(transitions, LINE),
    "differences, missing": Case(pencil_with_lines, LINE),
    "two controls": Case(
        lambda: of_problem(get("two_couplings", points=12), 2e-2, known_errors=True, floor=False, dim=2),
        get("two_couplings").outside[::10],
    ),
    "known errors and floor, masked": Case(
        lambda: of_problem(get("anticrossing"), 2e-2, known_errors=True, dim=2, basis=Fourier(1, 3.0)),
        get("anticrossing").outside[::8],
    ),
}


@cache
def by_nuts(name):
    """Posterior, starts, all controls, and NUTS's outputs there: once for all samplers that are compared with it."""
    posterior = CASES[name].make()
    starts = Found(posterior)
    controls = np.concatenate([posterior.data.controls, CASES[name].outside])
    draws = NUTS(chains=4, warmup=1000, draws=1000, starts=starts).run(posterior, jax.random.key(1))
    outputs = outputs_of(posterior, draws, controls)
    assert_converged(outputs, 200)
    return posterior, starts, controls, outputs


def assert_converged(outputs, least_ess):
    rhat, ess = rhat_and_ess(outputs)
    assert rhat.max() < 1.05
    assert ess.min() > least_ess


@pytest.mark.parametrize("name", CASES)
def test_manifold_agrees_with_nuts(name):
    posterior, starts, controls, exact = by_nuts(name)
    outputs = outputs_of(
        posterior,
        Manifold(chains=4, warmup=1000, draws=1000, starts=starts).run(posterior, jax.random.key(1)),
        controls,
    )
    assert_converged(outputs, 200)
    assert_agrees(z_of_draws(outputs, exact))


@pytest.mark.parametrize("name", ["complex", "differences, missing", "two controls"])
def test_tempered_smc_agrees_with_nuts(name):
    posterior, _, controls, exact = by_nuts(name)
    runs = 12
    draws = TemperedSMC(chains=runs, draws=300).run(posterior, jax.random.key(1))
    outputs = outputs_of(posterior, draws, controls)
    both = np.concatenate([x.reshape(-1, x.shape[-1]) for x in (outputs, exact)])
    frame = both.mean(0), both.std(0), np.quantile(both, PROBABILITIES, axis=0)
    # Members of one run are correlated through resampling: the spread of the runs is the honest error.
    each = features(outputs, *frame).mean(1)
    mean, error = mean_and_error(features(exact, *frame))
    # Eleven degrees of freedom: |t| > 8 has probability 6e-6, as |z| > 4.5 of a normal.
    assert_agrees((each.mean(0) - mean) / np.hypot(each.std(0, ddof=1) / np.sqrt(runs), error), limit=8.0)


def test_tempered_smc_is_not_trusted_where_floors_are_learned():
    # With one step size for all members it was off by a quarter of the probability, and its runs did not show it.
    posterior = CASES["learned floor"].make()
    fit = bp.fit(posterior, TemperedSMC(chains=4, draws=100), key=0)
    assert fit.status != "ok"
    assert any("tempered SMC is not known to reach" in reason for reason in fit.reasons)
