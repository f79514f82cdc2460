"""Log evidence: closed forms, quadrature, images under the discrete gauge, modes, error estimates, nested sampling."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crossing import crossing, exact_evidence, exact_line_evidence, walked
from jax.flatten_util import ravel_pytree
from line import Exact, line, normal
from scipy import stats
from scipy.special import logsumexp

from bayes_pmm import evidence
from bayes_pmm.data import Dataset
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.evidence import Evidence, bridge, log_evidence, nested_log_evidence
from bayes_pmm.fit import fit
from bayes_pmm.inference.mixture import fit_mixture, image_signs
from bayes_pmm.inference.nested import NestedSampling
from bayes_pmm.inference.protocol import Draws, silent
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior

FEW = {"proposals": 5000}


@pytest.fixture(scope="module")
def straight():
    return fit(line(), Exact(1000), key=0)


@pytest.fixture(scope="module")
def curved():
    return walked()


@pytest.fixture(scope="module")
def bridged(curved):
    return log_evidence(curved, key=1, **FEW)


@dataclass(frozen=True)
class WithFloor:
    """Exact draws of the line with a learned floor: the floor from its marginal on a fine grid, the line given it."""

    draws: int = 250

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        k1, k2, k3 = jax.random.split(key, 3)
        grid, log_p = floor_marginal(posterior)
        cell = np.asarray(
            jax.random.choice(k1, len(grid), (4, self.draws), p=np.exp(log_p - logsumexp(log_p)))
        )
        edge = np.log(grid[1] / grid[0])
        floor = grid[cell] * np.exp(edge * (np.asarray(jax.random.uniform(k2, cell.shape)) - 0.5))
        z = np.asarray(jax.random.normal(k3, (*cell.shape, 2)))
        x = np.empty_like(z)
        data = posterior.data
        for i in np.ndindex(cell.shape):
            noisy = replace(data, errors=np.sqrt(data.errors**2 + floor[i] ** 2))
            mean, C, _ = normal(replace(posterior, data=noisy))
            x[i] = mean + np.linalg.cholesky(C) @ z[i]
        info = {"sampler": "exact", "chains": 4, "draws": self.draws, "seconds": 0.0}
        return Draws({"anchor": x[..., 0], "shift": x[..., 1:], "floor": floor[..., None]}, {}, info)


def floor_marginal(posterior, size=600):
    """Grid of floors, even in the logarithm, and the log mass of prior times likelihood in each cell."""
    width = posterior.noise.floor_scale * posterior.scaling.spread[0]
    grid = np.exp(np.linspace(np.log(1e-6 * width), np.log(1e4 * width), size))
    log_prior = stats.halfcauchy.logpdf(grid, scale=width) + np.log(grid) + np.log(np.log(grid[1] / grid[0]))
    return grid, log_prior + np.array([exact_line_evidence(posterior, f) for f in grid])


@pytest.mark.parametrize("method", ["bridge", "importance"])
def test_straight_line_has_its_closed_form(straight, method):
    found = log_evidence(straight, key=1, method=method, **FEW)
    assert found.method == method
    assert found.se < 0.05
    assert abs(found.log_z - exact_line_evidence(straight.posterior)) < 3 * found.se
    assert found.images == 1
    assert found.parameters == 2
    assert found.status == "ok"


def test_learned_floor_agrees_with_quadrature():
    posterior = replace(line(), noise=Noise())
    found = log_evidence(fit(posterior, WithFloor(), key=0), key=1, **FEW)
    assert found.se < 0.1
    assert abs(found.log_z - logsumexp(floor_marginal(posterior)[1])) < 3 * found.se


def test_two_by_two_agrees_with_quadrature(curved, bridged):
    exact = exact_evidence(curved.posterior)
    for found in (bridged, log_evidence(curved, key=1, method="importance", **FEW)):
        assert found.images == 2
        assert found.se < 0.1
        assert abs(found.log_z - exact) < 3 * found.se


def test_every_image_is_counted(curved, bridged, monkeypatch):
    # The walkers stayed in one image; a proposal that knows only this one finds its share.
    assert np.all(curved.draws.sites["offdiagonal"] > 0)
    monkeypatch.setattr(evidence, "image_signs", lambda _: np.ones((1, bridged.parameters)))
    single = log_evidence(curved, key=1, **FEW)
    assert abs(bridged.log_z - single.log_z - np.log(2)) < 3 * np.hypot(bridged.se, single.se)


def test_image_of_the_draws_does_not_matter(curved, bridged):
    prior = curved.posterior.matrix_prior
    keys = jax.random.split(jax.random.key(3), (4, 1000))
    sites = jax.jit(jax.vmap(jax.vmap(prior.random_image)))(curved.draws.sites, keys)
    draws = replace(curved.draws, sites={k: np.asarray(v) for k, v in sites.items()})
    assert 0.4 < np.mean(draws.sites["offdiagonal"] > 0) < 0.6
    found = log_evidence(replace(curved, draws=draws), key=1, **FEW)
    assert abs(found.log_z - bridged.log_z) < 3 * np.hypot(found.se, bridged.se)


@pytest.mark.parametrize(
    ("outputs", "dim", "field", "order"),
    [
        (["E0", "E1"], 3, "real", 4),
        (["E0", "<0|A|0>"], 3, "complex", 2),
        (["E0"], 2, "complex", 1),
        (["E0"], 1, "real", 1),
    ],
)
def test_images_have_one_density(outputs, dim, field, order):
    rng = np.random.default_rng(0)
    c = np.linspace(0, 1, 6)[:, None]
    names = tuple(f"y{i}" for i in range(len(outputs)))
    posterior = Posterior(
        Dataset(c, rng.normal(size=(6, len(outputs))), np.zeros((6, len(outputs))), ("g",), names),
        PMM(outputs, dim=dim, field=field),
    )
    signs = image_signs(posterior)
    assert len(signs) == order
    assert len(np.unique(signs, axis=0)) == order
    sites = posterior.prior_sites(jax.random.key(0))
    x, unravel = ravel_pytree(posterior.unconstrain(sites))
    at = jax.jit(jax.vmap(lambda x: posterior.potential(unravel(x), *posterior.training)))(x[None, :] * signs)
    np.testing.assert_allclose(at, at[0], rtol=1e-10)
    # They are the images that the prior itself draws.
    image = jax.jit(
        lambda k: ravel_pytree(posterior.unconstrain(posterior.matrix_prior.random_image(sites, k)))[0]
    )
    drawn = np.stack([np.asarray(image(k)) for k in jax.random.split(jax.random.key(1), 40)])
    apart = np.abs(drawn[:, None] - (np.asarray(x) * signs)[None]).max(-1)
    assert np.all(apart.min(1) < 1e-12)
    assert set(apart.argmin(1)) == set(range(order))


def test_modes_are_added_whatever_their_chains():
    # Two normals with masses 2.7 and 0.3, and as many chains in each.
    heavy, light = (
        stats.multivariate_normal([0, 0], np.eye(2)),
        stats.multivariate_normal([9, 0], 0.2 * np.eye(2)),
    )
    density = lambda x: np.logaddexp(np.log(2.7) + heavy.logpdf(x), np.log(0.3) + light.logpdf(x))
    rng = np.random.default_rng(0)
    draws = [law.rvs(size=(2, 400), random_state=rng) for law in (heavy, light)]
    mixtures = [fit_mixture(d, np.ones((1, 2)), rng) for d in draws]
    value, error, _, _, masses = evidence._bridge_all(mixtures, draws, density, rng, 2000)
    assert error < 0.05
    assert abs(value - np.log(3.0)) < 3 * error
    np.testing.assert_allclose(masses, [0.9, 0.1], atol=3 * error * 0.1)
    value, error, _, _, masses = evidence._weigh_all(mixtures, [0.5, 0.5], density, rng, 4000)
    assert error < 0.05
    assert abs(value - np.log(3.0)) < 3 * error
    np.testing.assert_allclose(masses, [0.9, 0.1], atol=3 * error * 0.1)


def in_modes(given, groups):
    """The fit with chains said to be in modes of equal mass."""
    modes = [{"chains": g, "mass": 1 / len(groups)} for g in groups]
    return replace(given, draws=replace(given.draws, info=given.draws.info | {"modes": modes}))


def test_masses_of_modes_are_shares_of_the_evidence(straight):
    # Chains 0 and 1 stay where the draws were; the others sit 8 sd off, where the density is e^-32 of it.
    posterior = straight.posterior
    anchor = straight.draws.sites["anchor"].copy()
    anchor[2:] += 8 * anchor.std()
    off = replace(straight, draws=replace(straight.draws, sites=straight.draws.sites | {"anchor": anchor}))
    off = in_modes(off, [(0, 1), (2, 3)])
    found = log_evidence(off, key=1, **FEW)
    assert [m.chains for m in found.modes] == [(0, 1), (2, 3)]
    assert found.modes[0].mass > 0.999
    assert abs(found.log_z - exact_line_evidence(posterior)) < 3 * found.se
    assert "in chains 0, 1" in str(found)
    weighed = evidence.with_mode_masses(off, found)
    np.testing.assert_allclose(weighed.weights, [2, 2, 0, 0], atol=1e-2)
    assert any("by bridge sampling" in reason for reason in weighed.reasons)
    assert not any("a guess" in reason for reason in weighed.reasons)
    doubted = evidence.with_mode_masses(off, replace(found, reasons=("few terms decide",)))
    assert any("a guess (few terms decide)" in reason for reason in doubted.reasons)
    assert off.draws.info["modes"][0]["mass"] == 0.5


@pytest.mark.parametrize("method", ["bridge", "importance"])
def test_modes_that_overlap_are_counted_once(straight, method):
    """The space is divided between them: chains of one mode that are said to be in two give the same evidence."""
    found = log_evidence(in_modes(straight, [(0, 1), (2, 3)]), key=1, method=method, **FEW)
    assert len(found.modes) == 2
    assert found.se < 0.2
    assert abs(found.log_z - exact_line_evidence(straight.posterior)) < 3 * found.se


def test_masses_of_another_fit_are_refused(straight):
    found = log_evidence(straight, key=1, **FEW)
    assert [m.mass for m in found.modes] == [1.0]
    assert evidence.with_mode_masses(straight, found).status == straight.status
    with pytest.raises(InputError, match="of this very fit"):
        evidence.with_mode_masses(in_modes(straight, [(0, 1), (2, 3)]), found)


def test_bridge_error_knows_autocorrelation():
    rng, z = np.random.default_rng(0), []
    q = stats.t(8, 0.7, 1.5)
    for _ in range(200):
        x = np.empty((4, 300))
        x[:, 0] = rng.normal(size=4)
        for i in range(1, 300):
            x[:, i] = 0.9 * x[:, i - 1] + np.sqrt(1 - 0.9**2) * rng.normal(size=4)
        y = q.rvs(size=1000, random_state=rng)
        value, error, _, _ = bridge(stats.norm.logpdf(x) - q.logpdf(x), stats.norm.logpdf(y) - q.logpdf(y))
        z.append(value / error)
    # The standard deviation of 200 normals is known to 5 %; the error estimate itself varies by more.
    assert 0.8 < np.std(z) < 1.25
    assert abs(np.mean(z)) < 4 / np.sqrt(200)


def test_nested_sampling_agrees_for_the_line(straight):
    nested = nested_log_evidence(straight.posterior, key=0, settings=NestedSampling(live=60, sweeps=1))
    assert nested.se < 0.5
    assert abs(nested.log_z - exact_line_evidence(straight.posterior)) < 3 * nested.se
    checked = log_evidence(straight, key=1, **FEW).checked(nested)
    assert checked.status == "ok"
    assert checked.check is nested


@pytest.mark.slow
def test_nested_sampling_agrees_for_two_by_two(curved):
    nested = nested_log_evidence(curved.posterior, key=0)
    assert nested.images == 2
    assert abs(nested.log_z - exact_evidence(curved.posterior)) < 3 * nested.se
    # The walk of the fixture is a short one, which is a reason of its own.
    assert not any("nested" in reason for reason in log_evidence(curved, key=1).checked(nested).reasons)


def test_disagreement_is_a_reason():
    one = Evidence(10.0, 0.1, "bridge", 0.1, 100.0, 4, 10)
    far = Evidence(8.0, 0.3, "nested", None, None, 4, 10)
    checked = one.checked(far)
    assert checked.status == "suspect"
    assert "nested, may have missed" in checked.reasons[0]
    assert checked.reasons[0] in str(checked)
    assert one.checked(replace(far, log_z=9.2)).status == "ok"
    assert one.checked(replace(far, log_z=np.nan)).status == "suspect"


def test_poor_overlap_is_a_reason(straight):
    # Draws of something else: the proposal misses most of the posterior.
    narrow = {k: v.mean((0, 1)) + 0.05 * (v - v.mean((0, 1))) for k, v in straight.draws.sites.items()}
    found = log_evidence(
        replace(straight, draws=replace(straight.draws, sites=narrow)), key=1, method="importance", **FEW
    )
    assert found.pareto_k > 0.7
    assert any("Pareto k" in r for r in found.reasons)


def test_bad_input(straight):
    with pytest.raises(InputError, match="method 'exact' is unknown"):
        log_evidence(straight, key=0, method="exact")
    with pytest.raises(InputError, match="proposals = 3"):
        log_evidence(straight, key=0, proposals=3)
    few = replace(straight.draws, sites={k: v[:1, :12] for k, v in straight.draws.sites.items()})
    with pytest.raises(InputError, match="12 draws are too few for 2 parameters"):
        log_evidence(replace(straight, draws=few), key=0)
    approximate = replace(straight.draws, info=straight.draws.info | {"pareto_k": 0.1})
    with pytest.raises(InputError, match="cannot be bridged"):
        log_evidence(replace(straight, draws=approximate), key=0, method="bridge")
    assert log_evidence(replace(straight, draws=approximate), key=0, **FEW).method == "importance"
    free = replace(crossing(), prior=Prior(gauge="none", growth=0.0, dilation=0.0, centre="all"))
    sites = jax.jit(jax.vmap(free.prior_sites))(jax.random.split(jax.random.key(0), 100))
    draws = Draws({k: np.asarray(v)[None] for k, v in sites.items()}, {}, {"sampler": "prior"})
    with pytest.raises(InputError, match="flat directions"):
        log_evidence(replace(straight, posterior=free, draws=draws), key=0)
    for wrong in (
        {"live": 3},
        {"live": 50, "replaced": 50},
        {"remainder": 0.0},
        {"sweeps": 0},
        {"replaced": 2.5},
    ):
        with pytest.raises(InputError):
            NestedSampling(**wrong)


def test_draws_outside_the_support_are_an_error(straight):
    nowhere = {k: jnp.full_like(v, jnp.nan) for k, v in straight.draws.sites.items()}
    broken = replace(straight, draws=replace(straight.draws, sites=nowhere))
    with pytest.raises(BayesPMMError, match="some draws lie at the edge"):
        log_evidence(broken, key=0)


def test_chains_that_never_moved_have_no_evidence(straight):
    sites = {k: np.array(v) for k, v in straight.draws.sites.items()}
    for v in sites.values():
        v[0] = v[0, :1]
    stuck = replace(straight, draws=replace(straight.draws, sites=sites))
    assert np.isfinite(log_evidence(stuck, key=1, **FEW).log_z)  # the others moved
    with pytest.raises(BayesPMMError, match="chains 0 never moved"):
        log_evidence(in_modes(stuck, [(0,), (1, 2, 3)]), key=1, **FEW)
