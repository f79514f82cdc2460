"""Variational inference and Laplace: protocol, a closed form, Pareto k, and honest errors."""

import types
from dataclasses import replace

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.data import Dataset
from bayes_pmm.diagnostics import diagnose
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import fit
from bayes_pmm.inference import importance, variational
from bayes_pmm.inference.importance import pareto_k
from bayes_pmm.inference.laplace import Laplace
from bayes_pmm.inference.manifold import Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Draws, Method
from bayes_pmm.inference.start import AnnealedStarts, Starts
from bayes_pmm.inference.variational import Variational
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.problems import get
from bayes_pmm.validation import refit_without


class Found:
    """Annealed starts, searched for once: the search takes longer than most of these tests."""

    def __init__(self, posterior):
        found = AnnealedStarts(4, 6, 6).find(posterior, jax.random.key(0), 1)
        self.sites, self.basins = found.sites, found.basins

    def find(self, posterior, key, chains):  # noqa: ARG002
        return Starts(self.sites * chains, self.basins)


def linear_posterior(size=0.3):
    """One level of a 1x1 matrix: a straight line with known errors, whose posterior is exactly normal."""
    c = np.linspace(0.0, 2.0, 9)[:, None]
    error = np.full((9, 1), size)
    y = 1.5 - 0.8 * c + error * np.random.default_rng(0).normal(size=(9, 1))
    data = Dataset(c, y, error, ("g",), ("E0",))
    return Posterior(data, PMM(["E0"], dim=1), Prior(scale_spread=0.0), Noise(floor=False))


def exact_outputs(posterior, at):
    """Mean and sd (N,) of the outputs of :func:`linear_posterior`, and its log evidence, in closed form."""
    prior, scaling, data = posterior.prior, posterior.scaling, posterior.data
    unit = scaling.scale[0]
    variance = prior.shift_sd**2 + 2 * prior.scale_median**2

    def design(c):
        return unit * np.asarray(scaling.coefficients(posterior.pmm.basis, c))

    A, sigma = design(data.controls), data.errors[:, 0]
    r = data.values[:, 0] - scaling.shift[0]
    C = np.linalg.inv(A.T @ (A / sigma[:, None] ** 2) + np.eye(2) / variance)
    mean = C @ A.T @ (r / sigma**2)
    S = variance * A @ A.T + np.diag(sigma**2)
    evidence = -0.5 * (r @ np.linalg.solve(S, r) + np.linalg.slogdet(2 * np.pi * S)[1])
    B = design(at)
    return scaling.shift[0] + B @ mean, np.sqrt(np.einsum("ni,ij,nj->n", B, C, B)), evidence


@pytest.fixture(scope="module")
def linear():
    posterior = linear_posterior()
    return posterior, Found(posterior)


@pytest.fixture(scope="module")
def small():
    problem = get("oscillator")
    posterior = Posterior(problem.dataset(noise=1e-2, seed=0), PMM(list(problem.outputs.values()), dim=2))
    return posterior, Found(posterior)


METHODS = {
    "full": Variational(guide="full", steps=1200),
    "low-rank": Variational(guide="low-rank", steps=1200),
    "flow": Variational(guide="flow", steps=1200),
    "laplace": Laplace(),
}


@pytest.mark.parametrize("name", METHODS)
def test_straight_line_has_its_closed_form(linear, name):
    linear, starts = linear
    result = replace(METHODS[name], starts=starts).run(linear, jax.random.key(1))
    at = np.array([[-1.0], [1.0], [4.0]])
    mean, sd, evidence = exact_outputs(linear, at)
    outputs = jax.jit(jax.vmap(jax.vmap(lambda s: linear.outputs(s, at)[:, 0])))(result.sites)
    drawn = np.asarray(outputs).reshape(-1, len(at))
    count = len(drawn)
    assert result.info["pareto_k"] < 0.7
    if name == "laplace":
        tolerance = 0.0
        assert result.info["pareto_k"] == 0.0
        assert result.info["log_evidence"] == pytest.approx(evidence, abs=1e-6)
        assert result.info["elbo"] == pytest.approx(evidence, abs=1e-6)
    else:
        # The KL divergence bounds the guide's own error: a mean off by d sd costs d²/2.
        gap = evidence - result.info["elbo"]
        weight_error = result.stats["log_weight"].std() / np.sqrt(count)
        assert -4 * weight_error < gap < 0.01
        tolerance = np.sqrt(2 * 0.01)
    assert np.all(np.abs(drawn.mean(0) - mean) < (tolerance + 4 / np.sqrt(count)) * sd)
    assert np.all(np.abs(drawn.std(0) / sd - 1) < tolerance + 4 / np.sqrt(2 * count))


def test_protocol_is_that_of_nuts(small):
    small, starts = small
    settings = {"chains": 2, "draws": 5, "starts": starts}
    key = jax.random.key(0)
    nuts = NUTS(warmup=10, max_tree_depth=3, **settings).run(small, key)
    potential = jax.jit(small.potential)
    stages = []
    for method in (Variational(steps=300, **settings), Laplace(**settings)):
        assert isinstance(method, Method)
        result = method.run(small, key, progress=lambda *report: stages.append(report))
        assert {k: v.shape for k, v in result.sites.items()} == {k: v.shape for k, v in nuts.sites.items()}
        assert all(isinstance(v, np.ndarray) and np.isfinite(v).all() for v in result.sites.values())
        assert all(v.shape == (2, 5) for v in result.stats.values())
        assert nuts.info.keys() - {"max_tree_depth", "thin"} <= result.info.keys()
        assert result.info["chains"] == 2
        assert result.info["draws"] == 5
        # The density that comes with a draw is that of its sites.
        sites = {k: jnp.asarray(v[1, 2]) for k, v in result.sites.items()}
        lp = -potential(small.unconstrain(sites), *small.training)
        assert result.stats["lp"][1, 2] == pytest.approx(float(lp), rel=1e-6)
    assert [r for r in stages if r[0] == "variational"] == [
        ("variational", 250, 300),
        ("variational", 300, 300),
    ]
    assert stages[-1] == ("laplace", 1, 1)


def test_reproducible_by_key(linear):
    linear, starts = linear
    method = Variational(steps=20, draws=4, chains=2, starts=starts)
    first, again, other = (method.run(linear, jax.random.key(k)) for k in (3, 3, 4))
    for name in first.sites:
        np.testing.assert_array_equal(first.sites[name], again.sites[name])
        assert not np.array_equal(first.sites[name], other.sites[name])


def test_comparison_with_exact_draws(linear):
    """Laplace is exact on a straight line; a guide that was hardly fitted is not, and both say how far off."""
    posterior, starts = linear
    exact = Manifold(chains=2, warmup=150, draws=400, starts=starts)
    done = fit(posterior, Laplace(draws=1000, starts=starts, exact=exact), key=jax.random.key(0))
    assert "against manifold, outputs at the data: means off by at most 0." in str(done)
    right = done.draws.info
    assert right["against_exact"]["sampler"] == "manifold"
    assert right["against_exact"]["shift"] < 0.2
    assert 0.85 < right["against_exact"]["narrowest"] <= right["against_exact"]["widest"] < 1.15
    # Without an error in it the comparison is no reason, but for draws that are too few.
    assert right["against_exact"]["rhat"] < 1.1
    assert right["against_exact"]["ess"] > 50
    drawn = Variational(steps=1, starts=starts, exact=exact).run(posterior, jax.random.key(0))
    assert drawn.info["against_exact"]["narrowest"] < 0.7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"shift": 0.6}, "means are off by up to 0.6"),
        ({"narrowest": 0.6}, "are 0.6 to 1 times"),
        ({"widest": 1.5}, "are 1 to 1.5 times"),
        ({"rhat": 1.05}, "have R-hat 1.0500"),
        ({"ess": 30.0}, "an effective sample size of 30"),
    ],
)
def test_what_differs_from_the_exact_draws_is_suspect(change, words):
    exact = {"sampler": "nuts", "shift": 0.1, "narrowest": 1.0, "widest": 1.0, "rhat": 1.001, "ess": 900.0}
    outputs = np.random.default_rng(0).normal(size=(4, 100, 3, 1))
    found = diagnose(Draws({}, {}, {"pareto_k": 0.2, "against_exact": exact | change}), outputs)
    assert found.status == ("ok" if words is None else "suspect")
    assert words is None or words in found.reasons[0]


def test_the_exact_sampler_reports_and_keeps_checkpoints_and_refits_do_without_it(linear, tmp_path):
    posterior, starts = linear
    asked = []

    class Noting:
        def run(self, posterior, key, *, progress, checkpoint=None):
            asked.append(checkpoint)
            progress("exact", 1, 1)
            return Laplace(draws=10, chains=2, starts=starts).run(posterior, key)

    stages = []
    method = Laplace(draws=10, chains=2, starts=starts, exact=Noting())
    report = lambda *stage: stages.append(stage)
    method.run(posterior, jax.random.key(0), progress=report, checkpoint=tmp_path)
    assert stages[-1] == ("exact", 1, 1)
    assert asked == [tmp_path]
    left = np.zeros(posterior.data.values.shape, bool)
    left[-1] = True
    refit_without(posterior, left, method, jax.random.key(0))
    assert asked == [tmp_path]


@pytest.mark.parametrize(("error", "batched"), [(0.3, False), (1e-6, False), (1e-6, True)])
def test_manifold_has_the_closed_form(error, batched):
    posterior = linear_posterior(error)
    at = np.linspace(-1, 3, 7)[:, None]
    mean, sd, _ = exact_outputs(posterior, at)
    method = Manifold(chains=4, warmup=200, draws=500, starts=Found(posterior), batched=batched)
    draws = method.run(posterior, jax.random.key(0))
    outputs = np.asarray(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, at)))(draws.sites))[..., 0]
    _, ess = rhat_and_ess(outputs)
    assert ess.min() > 300
    z = (outputs.reshape(-1, 7) - mean) / sd
    assert np.max(np.abs(z.mean(0)) * np.sqrt(ess)) < 4.5
    assert np.max(np.abs(np.log(z.std(0)))) < 4.5 / np.sqrt(2 * ess.min())


def test_bad_guide_has_high_pareto_k(linear):
    linear, starts = linear
    # One step leaves the guide at 0.3 of the posterior's width.
    result = Variational(steps=1, starts=starts).run(linear, jax.random.key(1))
    assert result.info["pareto_k"] > 0.7


@pytest.mark.parametrize("width", [0.5, 0.7, 1.5])
def test_pareto_k_agrees_with_arviz_and_theory(width):
    z = np.random.default_rng(0).normal(size=4000)
    log_weights = -0.5 * (width * z) ** 2 + 0.5 * z**2
    k = pareto_k(log_weights)
    assert k == pytest.approx(float(arviz.psislw(log_weights)[1]), abs=0.05)
    if width < 1:
        assert k == pytest.approx(1 - width**2, abs=0.25)
    else:
        assert k < 0.5


@pytest.mark.parametrize(
    ("log_weights", "expected"),
    [
        (np.full(100, 7.0), 0.0),
        (np.zeros(10), np.inf),
        (np.full(100, np.nan), np.inf),
        (np.where(np.arange(1000) == 3, 0.0, -5000.0 - np.arange(1000)), np.inf),
    ],
    ids=["equal", "too few", "no finite one", "one weight holds everything"],
)
def test_pareto_k_of_degenerate_weights(log_weights, expected):
    assert pareto_k(log_weights) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guide": "wide"}, "guide 'wide' is unknown; use 'full', 'low-rank', 'flow'"),
        ({"steps": 0}, "steps = 0 is too few"),
        ({"draws": 3}, "draws = 3 is too few"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 must be positive"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Variational(**settings)


def test_infinite_elbo_is_said(linear):
    linear, starts = linear
    method = Variational(steps=100, learning_rate=1e200, starts=starts)
    with pytest.raises(
        BayesPMMError, match=r"ELBO was not finite in \d+ of 100 steps.*smaller learning rate.*NUTS"
    ):
        method.run(linear, jax.random.key(0))


def test_whitening_survives_degenerate_levels():
    flat = fake(lambda x: -(levels(x)[0] ** 2) - x @ x, np.array([1.0, 1.0, 0.0]))
    assert np.array_equal(variational._whitening(flat), 0.1 * np.eye(3))
    flat = fake(lambda x: jnp.log(x[0]), np.zeros(1))
    with pytest.raises(BayesPMMError, match="not finite at the best starting point"):
        variational._whitening(flat)


def levels(x):
    return jnp.linalg.eigvalsh(
        jnp.array([[1.0, 0.0], [0.0, 0.0]]) * x[0]
        + jnp.diag(jnp.array([0.0, 1.0])) * x[1]
        + x[2] * jnp.array([[0.0, 1.0], [1.0, 0.0]])
    )


def fake(log_density, start):
    start = jnp.asarray(start)
    return types.SimpleNamespace(log_density=log_density, start=start, size=start.size)


@pytest.mark.parametrize(
    ("log_density", "start", "settings", "message"),
    [
        (
            lambda x: -(levels(x)[0] ** 2),
            [1.0, 1.0, 0.0],
            {},
            "Hessian is not finite, because two levels.*use NUTS",
        ),
        (
            lambda x: -((x[0] - 1) ** 2),
            [0.0, 0.0],
            {},
            "not safely positive definite.*use NUTS, or a smaller dim",
        ),
        (
            lambda x: -((1 - x[0]) ** 2) - 100 * (x[1] - x[0] ** 2) ** 2,
            [-1.0, 1.0],
            {"max_iterations": 3},
            "no mode found in 3 iterations.*use NUTS, or give known errors",
        ),
    ],
    ids=["degenerate", "not identified", "no mode"],
)
def test_laplace_says_why_it_fails(log_density, start, settings, message):
    with pytest.raises(BayesPMMError, match=message):
        Laplace(**settings)._normal_at_mode(fake(log_density, np.array(start)))


def test_draws_outside_the_support_are_an_error():
    flat = fake(lambda x: jnp.log(x[0]), np.ones(1))
    with pytest.raises(BayesPMMError, match=r"not finite at \d+ of 4000 draws.*try this"):
        importance.weighed_draws(
            flat,
            lambda key: (jax.random.normal(key, (1,)), 0.0),
            jax.random.key(0),
            1,
            4,
            name="x",
            remedy="try this",
        )
