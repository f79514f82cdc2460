"""Manifold as a method: protocol and settings, and agreement with NUTS where both work."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from montecarlo import assert_agrees, z_of_draws

from bayes_pmm.basis import Fourier
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.inference.manifold import FEWEST_STEPS, MOST_STEPS, Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Method
from bayes_pmm.inference.start import AnnealedStarts, Starts
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get


class Found:
    """Annealed starts, searched for once and used by both methods."""

    def __init__(self, posterior, chains=4, candidates=16):
        self.starts = AnnealedStarts(candidates, 8, 8).find(posterior, jax.random.key(0), chains)

    def find(self, posterior, key, chains):  # noqa: ARG002
        return Starts(self.starts.sites[:chains], self.starts.basins, self.starts.ensemble)


def of_problem(problem, noise, known_errors=False, floor=True, missing=True, **pmm):
    data = problem.dataset(noise, seed=0, known_errors=known_errors, missing=missing)
    return Posterior(data, PMM(list(problem.outputs.values()), **pmm), noise=Noise(floor=floor))


@pytest.fixture(scope="module")
def spins():
    posterior = of_problem(get("spins"), 1e-2, known_errors=True, floor=False, dim=2)
    return posterior, Found(posterior)


def outputs_of(posterior, draws, controls):
    """Outputs (chain, draw, N Q) at the controls."""
    outputs = jax.jit(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, controls).ravel())))(draws.sites)
    return np.asarray(outputs)


def assert_same_outputs(posterior, starts, outside, warmup, draws, least_ess):
    controls = np.concatenate([posterior.data.controls, outside])
    found = [
        outputs_of(
            posterior, method(4, warmup, draws, starts=starts).run(posterior, jax.random.key(1)), controls
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
    draws = Manifold(2, 150, 150, starts=AnnealedStarts(8, 8, 8)).run(posterior, jax.random.key(0))
    outputs = outputs_of(posterior, draws, np.array([[-2.0], [0.0], [1.0]]))
    rhat, ess = rhat_and_ess(outputs)
    assert rhat.max() < 1.1
    assert ess.min() > 30
    assert draws.stats["failed_steps"].mean() < 0.1
    assert np.abs(draws.sites["offdiagonal"]).mean() < 0.02
    # Lines go on as lines.
    np.testing.assert_allclose(np.median(outputs[..., 0], axis=(0, 1)), -2.0, atol=0.01)


# Slow: minutes


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


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_nuts_on(name):
    posterior = CASES[name].make()
    assert_same_outputs(posterior, Found(posterior), CASES[name].outside, 1000, 1000, 200)
