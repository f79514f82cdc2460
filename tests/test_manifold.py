"""Manifold as a method: protocol and settings, and agreement with NUTS where both work."""

import jax
import numpy as np
import pytest
from montecarlo import assert_agrees, z_of_draws
from samplers import Found, of_problem, outputs_of

from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.inference.manifold import FEWEST_STEPS, MOST_STEPS, Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Method
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get


@pytest.fixture(scope="module")
def spins():
    posterior = of_problem(get("spins"), 1e-2, known_errors=True, floor=False, dim=2)
    return posterior, Found(posterior)


def assert_same_outputs(posterior, starts, outside, warmup, draws, least_ess):
    controls = np.concatenate([posterior.data.controls, outside])
    found = [
        outputs_of(
            posterior,
            method(chains=4, warmup=warmup, draws=draws, starts=starts).run(posterior, jax.random.key(1)),
            controls,
        )
        for method in (Manifold, NUTS)
    ]
    for x in found:
        rhat, ess = rhat_and_ess(x)
        assert rhat.max() < 1.05
        assert ess.min() > least_ess
    assert_agrees(z_of_draws(*found))


def test_protocol(spins):
    posterior, starts = spins
    method = Manifold(chains=2, warmup=100, draws=100, trajectory=2.0, starts=starts)
    assert isinstance(method, Method)
    reports = []
    result = method.run(posterior, jax.random.key(0), progress=lambda *r: reports.append(r))
    one = posterior.prior_sites(jax.random.key(0))
    assert {k: v.shape for k, v in result.sites.items()} == {k: (2, 100, *v.shape) for k, v in one.items()}
    assert all(isinstance(v, np.ndarray) and np.isfinite(v).all() for v in result.sites.values())
    assert result.stats.keys() == {
        "acceptance_rate",
        "energy",
        "failed_steps",
        "lp",
        "n_steps",
        "newton_iterations",
        "step_size",
    }
    assert all(v.shape == (2, 100) and np.isfinite(v).all() for v in result.stats.values())
    assert np.all((result.stats["failed_steps"] >= 0) & (result.stats["failed_steps"] <= 1))
    assert np.all(result.stats["newton_iterations"] >= 1)
    # After the warm-up all chains share one step size and number of steps.
    assert np.unique(result.stats["step_size"]).size == np.unique(result.stats["n_steps"]).size == 1
    assert FEWEST_STEPS <= result.stats["n_steps"][0, 0] <= MOST_STEPS
    assert result.info.keys() >= {"sampler", "chains", "warmup", "draws", "seconds", "basins"}
    assert result.info["sampler"] == "manifold"
    assert (result.info["chains"], result.info["warmup"], result.info["draws"]) == (2, 100, 100)
    assert result.info["basins"] == [vars(b) for b in starts.starts.basins]
    assert reports[0][0] == "starts"
    assert reports[-1] == ("sampling", 400, 400)
    # The density that comes with a draw is that of its sites.
    potential = jax.jit(posterior.potential)
    for i, j in ((0, 0), (1, 57)):
        z = posterior.unconstrain({k: v[i, j] for k, v in result.sites.items()})
        assert result.stats["lp"][i, j] == pytest.approx(-float(potential(z, *posterior.training)), rel=1e-6)

    again, other = (method.run(posterior, jax.random.key(k)) for k in (0, 1))
    for name, value in result.sites.items():
        np.testing.assert_array_equal(value, again.sites[name])
        assert not np.array_equal(value, other.sites[name])
    assert not np.array_equal(result.sites["gaps"][0], result.sites["gaps"][1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chains": 0}, "chains = 0 is too few; use at least 1"),
        ({"warmup": 9}, "warmup = 9 is too few; use at least 10"),
        ({"draws": 3}, "draws = 3 is too few; use at least 4"),
        ({"target_accept": 1.0}, r"target_accept = 1\.0 must lie between 0 and 1"),
        ({"target_accept": float("nan")}, "target_accept = nan must lie between 0 and 1"),
        ({"trajectory": 0.0}, r"trajectory = 0\.0 must be positive"),
        ({"trajectory": float("nan")}, "trajectory = nan must be positive"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Manifold(**settings)


def test_agrees_with_nuts(spins):
    posterior, starts = spins
    assert_same_outputs(posterior, starts, get("spins").outside, 500, 800, 200)


def test_levels_that_cross_exactly():
    """Lines that do not interact: all couplings vanish, where a Jacobian of couplings loses rank."""
    c = np.linspace(-1, 1, 8)[:, None]
    y = np.sort(np.hstack([c, 0.3 * c + 0.05, np.full_like(c, 0.9)]), axis=1)[:, :2]
    error = np.full(y.shape, 1e-6)
    y = y + error * np.random.default_rng(0).normal(size=y.shape)
    posterior = Posterior(
        Dataset(c, y, error, ("c",), ("E0", "E1")), PMM(["E0", "E1"], dim=3), noise=Noise(floor=False)
    )
    draws = Manifold(chains=2, warmup=150, draws=150, starts=AnnealedStarts(8, 8, 8)).run(
        posterior, jax.random.key(0)
    )
    outputs = outputs_of(posterior, draws, np.array([[-2.0], [0.0], [1.0]]))
    rhat, ess = rhat_and_ess(outputs)
    assert rhat.max() < 1.1
    assert ess.min() > 30
    assert draws.stats["failed_steps"].mean() < 0.1
    assert np.abs(draws.sites["offdiagonal"]).mean() < 0.02
    # Lines go on as lines.
    np.testing.assert_allclose(np.median(outputs[..., 0], axis=(0, 1)), -2.0, atol=0.01)
