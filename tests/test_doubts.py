"""Doubts outside the data: each comes where it should, and only outside."""

import dataclasses

import jax
import numpy as np
import pytest
from line import Exact, line

import bayes_pmm as bp
from bayes_pmm.data import Dataset
from bayes_pmm.doubts import DOUBTS, LIMITS, bend, curvature, find_doubts, prior_sensitivity, strengths
from bayes_pmm.inference.protocol import Draws, outputs_of
from bayes_pmm.inference.start import AnnealedStarts

C = np.linspace(-1.0, 1.0, 9)[:, None]
BEYOND = np.array([[0.5], [1.2], [4.9], [5.5]])


def crossing(gap, floor=True):
    """Posterior of the lower level of [[c, gap], [gap, -c]] with 1 % errors: bent for a gap, else straight lines."""
    y = -np.sqrt(C**2 + gap**2) if gap else -0.7 * C
    noise = 0.01 * np.random.default_rng(0).normal(size=C.shape)
    data = Dataset(C, y + noise, np.full(C.shape, 0.01), ("c",), ("E0",))
    return bp.Posterior(data, bp.PMM(["E0"], dim=2), noise=bp.Noise(floor=floor))


def drawn(posterior, chains=4, draws=60, seed=0):
    """Draws near least squares, enough for outputs that follow the data: this tests doubts, not a sampler."""
    found = AnnealedStarts(candidates=12).find(posterior, jax.random.key(seed), 1).sites[0]
    rng = np.random.default_rng(seed)
    sites = {
        k: np.asarray(v) * np.exp(0.01 * rng.normal(size=(chains, draws, *np.shape(v))))
        for k, v in found.items()
    }
    return Draws(sites, {}, {"sampler": "test", "chains": chains, "draws": draws, "seconds": 0.0})


@dataclasses.dataclass(frozen=True)
class Given:
    """A method that hands back what it was given."""

    draws: Draws

    def run(self, posterior, key, *, progress=None, checkpoint=None):  # noqa: ARG002
        return self.draws


def doubts_of(posterior, draws=None):
    fit = bp.fit(posterior, Given(drawn(posterior) if draws is None else draws), key=0)
    return fit, fit.predict(BEYOND)


@pytest.fixture(scope="module")
def bent():
    return doubts_of(crossing(0.4))


def test_bent_levels_are_not_doubted_near_the_data(bent):
    _, bands = bent
    assert tuple(bands.doubts) == tuple(DOUBTS)
    assert not bands.doubts["uncurved"].any()
    np.testing.assert_array_equal(bands.doubts["far"][:, 0], [False, False, True, True])


def test_straight_levels_are_doubted_everywhere_outside():
    fit, bands = doubts_of(crossing(0.0))
    np.testing.assert_array_equal(bands.doubts["uncurved"][:, 0], [False, True, True, True])
    found = curvature(fit.posterior, fit.draws, fit.sample(C, "model"), fit.weights)
    assert found.shape == (1,)
    assert found[0] < LIMITS.curvature


def test_levels_that_bend_little_are_doubted_however_small_the_noise():
    """The bend is 50 times the noise, but 6 % of the variation."""
    posterior = crossing(0.4)
    y = C + 0.18 * C**2
    data = Dataset(C, y, np.full(C.shape, 1e-3), ("c",), ("E0",))
    posterior = dataclasses.replace(posterior, data=data, scaling=None)
    training = np.broadcast_to(y, (4, 60, *y.shape))
    fit = bp.fit(crossing(0.4), Given(drawn(crossing(0.4))), key=0)
    sites = fit.draws.sites | {"floor": np.full_like(fit.draws.sites["floor"], 1e-4)}
    draws = dataclasses.replace(fit.draws, sites=sites)
    there = outputs_of(posterior, draws, BEYOND)
    assert bend(posterior, training, np.ones(4))[0] == pytest.approx(0.18 * np.std(C**2) / np.std(y))
    assert curvature(posterior, draws, training, np.ones(4))[0] > 20
    found = strengths(posterior, draws, BEYOND, there, training, np.ones(4))["uncurved"]
    np.testing.assert_array_equal(found[:, 0] > 1.0, [False, True, True, True])


@pytest.mark.parametrize("offset", [10.0, 1e3, 1e6])
def test_the_bend_does_not_depend_on_how_far_apart_levels_are(offset):
    y = np.hstack([-0.1 * C**2 + 0.1 * C**3, offset + 0.1 * C**2])
    data = Dataset(C, y, None, ("c",), ("E0", "E1"))
    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=3))
    found = bend(posterior, np.broadcast_to(y, (2, 5, *y.shape)))
    line = np.polynomial.Polynomial.fit(C[:, 0], y[:, 0], 1)(C[:, 0])
    assert found[0] == pytest.approx(np.sqrt(np.mean((y[:, 0] - line) ** 2)) / np.std(y[:, 0]), rel=1e-4)
    # A level that does not vary does not bend, whatever its curve does within the noise.
    flat = dataclasses.replace(data, values=np.hstack([y[:, :1], np.full_like(C, offset)]))
    posterior = bp.Posterior(flat, bp.PMM(["E0", "E1"], dim=3))
    wiggle = flat.values + np.array([0.0, 1e-9]) * C**2
    assert bend(posterior, np.broadcast_to(wiggle, (2, 5, *wiggle.shape)))[1] < 1e-5


def test_a_floor_that_a_polynomial_does_not_need_is_doubted():
    y = C**2 + 0.01 * np.random.default_rng(0).normal(size=C.shape)
    posterior = bp.Posterior(Dataset(C, y, None, ("c",), ("E0",)), bp.PMM(["E0"], dim=2))
    fit = bp.fit(crossing(0.4), Given(drawn(crossing(0.4))), key=0)
    there = outputs_of(posterior, fit.draws, BEYOND)
    training = outputs_of(posterior, fit.draws, C)
    for floor, expected in ((0.01, False), (0.1, True)):
        sites = fit.draws.sites | {"floor": np.full_like(fit.draws.sites["floor"], floor)}
        draws = dataclasses.replace(fit.draws, sites=sites)
        found = strengths(posterior, draws, BEYOND, there, training, np.ones(4))["defect"] > 1.0
        assert found[1:].all() == expected
        assert not found[0].any()  # inside the data


def test_curvature_of_a_parabola_is_its_closed_form(bent):
    fit, _ = bent
    posterior = dataclasses.replace(fit.posterior, noise=bp.Noise(floor=False))
    x = C[:, 0]
    curve = 3.0 + 2.0 * x + 0.5 * x**2
    training = np.broadcast_to(curve[None, None, :, None], (4, 10, 9, 1))
    expected = 0.5 * np.std(x**2) / 0.01
    assert curvature(posterior, fit.draws, training, np.ones(4))[0] == pytest.approx(expected, rel=1e-9)


def test_doubts_are_where_their_strength_exceeds_one(bent):
    fit, bands = bent
    strength = fit.doubt_strengths(BEYOND)
    assert tuple(strength) == tuple(DOUBTS)
    for name, where in bands.doubts.items():
        np.testing.assert_array_equal(strength[name] > 1.0, where)
        assert (strength[name][0] == 0.0).all()  # inside the data
    np.testing.assert_allclose(strength["far"][1:, 0], np.array([0.1, 1.95, 2.25]) / 1.5, rtol=1e-6)
    assert {k: v.tolist() for k, v in find_doubts(strength).items()} == {
        k: v.tolist() for k, v in bands.doubts.items()
    }


def test_a_band_wider_than_four_times_what_its_output_varies_is_doubted(bent):
    fit, _ = bent
    posterior = dataclasses.replace(fit.posterior, widening=bp.Widening(0.05, most=1.0))
    spread, training = posterior.scaling.spread[0], fit.training_outputs
    far = np.array([[0.0], [5.0]])  # the distance outside is 2
    draws = np.random.default_rng(0).normal(size=(4, 60, 2, 1))
    draws = spread * (draws - draws.mean((0, 1))) / draws.std((0, 1))
    slope = min(0.05 / bend(posterior, training)[0], 1.0)
    for sd in (0.3, 6.0):
        found = strengths(posterior, fit.draws, far, sd * draws, training, np.ones(4))["wide"]
        np.testing.assert_allclose(found, [[0.0], [sd * (1 + slope * 2**0.5) / LIMITS.width]])
    # The floor and a learned defect are parts of the band.
    with_floor = dataclasses.replace(posterior, noise=bp.Noise())
    sites = fit.draws.sites | {"floor": np.full((4, 60, 1), 3 * spread)}
    args = (dataclasses.replace(fit.draws, sites=sites), far, 0.0 * draws, training, np.ones(4))
    np.testing.assert_allclose(strengths(with_floor, *args)["wide"], [[0.0], [3.0 / LIMITS.width]])
    np.testing.assert_allclose(strengths(with_floor, *args, 4 * draws)["wide"], [[0.0], [5.0 / LIMITS.width]])


def test_values_that_need_vectors_do_not_count_as_bent_levels():
    x = C[:, 0]
    for outputs, expected in ((["E0", "<0|A|0>"], [0.0, 0.0]), (["<0|A|0>"], [0.5])):
        columns = np.stack([1.0 + x, 3.0 * x**2][2 - len(outputs) :], axis=1)
        data = Dataset(C, columns, np.full(columns.shape, 0.01), ("c",), tuple(outputs))
        posterior = bp.Posterior(data, bp.PMM(outputs, dim=2))
        found = bend(posterior, columns[None, None], np.ones(1))
        # Without a level to look at, the rest has to do: a parabola is nothing but bend.
        np.testing.assert_allclose(found, np.array(expected) * 2, atol=1e-9)


def test_chains_that_disagree_outside_are_doubted_there(bent):
    fit, _ = bent
    sites = {k: np.array(v) for k, v in fit.draws.sites.items()}
    sites["offdiagonal"][2:] *= 3.0
    _, bands = doubts_of(fit.posterior, dataclasses.replace(fit.draws, sites=sites))
    assert bands.doubts["chains"][1:].all()
    assert not bands.doubts["chains"][0].any()


def test_a_floor_far_above_the_known_errors_is_doubted(bent):
    fit, _ = bent
    for floor, expected in ((0.02, False), (0.05, True)):
        sites = fit.draws.sites | {"floor": np.full_like(fit.draws.sites["floor"], floor)}
        _, bands = doubts_of(fit.posterior, dataclasses.replace(fit.draws, sites=sites))
        assert bands.doubts["defect"][1:].all() == expected
        assert not bands.doubts["defect"][0].any()


def test_a_tiny_floor_is_no_doubt_however_small_the_known_errors(bent):
    fit, _ = bent
    data = dataclasses.replace(fit.posterior.data, errors=np.full_like(fit.posterior.data.errors, 1e-7))
    posterior = dataclasses.replace(fit.posterior, data=data)
    for share, expected in ((1e-3, False), (0.1, True)):
        floor = share * data.values.std(axis=0).min()
        sites = fit.draws.sites | {"floor": np.full_like(fit.draws.sites["floor"], floor)}
        _, bands = doubts_of(posterior, dataclasses.replace(fit.draws, sites=sites))
        assert bands.doubts["defect"][1:].any() == expected


def test_prior_sensitivity_is_the_derivative_of_reweighted_means(bent):
    fit, _ = bent
    rng = np.random.default_rng(1)
    # Scales that vary and move the outputs with them.
    factor = np.exp(0.3 * rng.normal(size=(4, 60, 1)))
    sites = fit.draws.sites | {"scale": fit.draws.sites["scale"] * factor}
    sites["offdiagonal"] = sites["offdiagonal"] * factor[..., None]
    draws = dataclasses.replace(fit.draws, sites=sites)
    outputs = outputs_of(fit.posterior, draws, BEYOND)
    prior, weights = fit.posterior.prior, np.array([1.0, 2.0, 0.5, 0.5])
    found = prior_sensitivity(fit.posterior, draws, outputs, weights)
    w = np.repeat(weights, 60)
    flat = outputs.reshape(240, -1)

    def mean(log_median):
        moved = np.sum(
            -0.5 * ((np.log(sites["scale"]) - log_median) / prior.scale_spread) ** 2, axis=-1
        ).ravel()
        base = np.sum(-0.5 * (np.log(sites["scale"]) / prior.scale_spread) ** 2, axis=-1).ravel()
        v = w * np.exp(moved - base)
        return v @ flat / v.sum()

    h = 1e-4
    slope = (mean(h) - mean(-h)) / (2 * h)
    centre = w @ flat / w.sum()
    sd = np.sqrt(w @ (flat - centre) ** 2 / w.sum())
    np.testing.assert_allclose(found[:, 0], slope / sd, rtol=1e-5)


def test_fixed_scales_have_no_sensitivity_and_a_straight_line_is_uncurved():
    fit = bp.fit(line(size=0.05), Exact(100), key=0)
    bands = fit.predict(np.array([[1.0], [3.0]]))
    assert not bands.doubts["prior"].any()
    np.testing.assert_array_equal(bands.doubts["uncurved"][:, 0], [False, True])
    np.testing.assert_array_equal(bands.doubtful, bands.doubts["uncurved"])
    assert len(bands.doubt_lines) == 1
    assert bands.doubt_lines[0].startswith("1 of 1 extrapolated")
    table = bands.to_dataframe()
    assert list(table["doubts"]) == ["", "", "uncurved", "uncurved"]


def test_chains_without_weight_do_not_bend():
    """Neither a bend nor a residual of theirs counts."""
    c = np.linspace(-1.0, 1.0, 9)[:, None]
    y = np.hstack([1e-3 * (c + c**2), 10.0 + c])
    data = Dataset(c, y, np.full(y.shape, 1e-5), ("c",), ("E0", "E1"))
    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=3))
    training = np.broadcast_to(y, (2, 20, *y.shape)).copy()
    alone = bend(posterior, training[:1])
    np.testing.assert_allclose(alone[0], np.std(c**2) / np.std(c + c**2))
    training[1, :, :, 0] += 5.0 + 3.0 * c[:, 0] ** 2
    np.testing.assert_allclose(bend(posterior, training, np.array([2.0, 0.0])), alone)
    assert bend(posterior, training)[0] != pytest.approx(alone[0])
    floor = np.full((2, 20, 2), 1e-5)
    draws = Draws({"floor": floor}, {}, {})
    noise = np.sqrt(2e-10)
    found = curvature(posterior, draws, training, np.array([2.0, 0.0]))
    np.testing.assert_allclose(found[0], 1e-3 * np.std(c**2) / noise)


def test_a_defect_that_dominates_the_band_is_doubted(bent):
    fit, _ = bent
    posterior, draws = fit.posterior, fit.draws
    there = outputs_of(posterior, draws, BEYOND)
    sd = there.std(axis=(0, 1))
    rng = np.random.default_rng(0)

    def doubt(times):
        defect = times * sd * rng.normal(size=there.shape)
        args = posterior, draws, BEYOND, there, fit.training_outputs, fit.weights, defect
        return find_doubts(strengths(*args))["defect"][:, 0]

    # Of the variance 1/5 and 4/5; the limit is 0.7.
    np.testing.assert_array_equal(doubt(0.5), np.zeros(4, bool))
    np.testing.assert_array_equal(doubt(2.0), [False, True, True, True])


def test_residuals_far_above_the_known_errors_are_doubted_where_no_floor_is_learned():
    posterior = crossing(0.4, floor=False)
    draws = drawn(posterior)
    there = outputs_of(posterior, draws, BEYOND)

    def doubt(errors_off):
        sign = np.where(np.arange(9) % 2, 1.0, -1.0)[:, None]
        training = np.broadcast_to(posterior.data.values + 0.01 * errors_off * sign, (4, 60, 9, 1))
        return find_doubts(strengths(posterior, draws, BEYOND, there, training, np.ones(4)))["defect"][:, 0]

    np.testing.assert_array_equal(doubt(1.0), np.zeros(4, bool))
    np.testing.assert_array_equal(doubt(1.5 * LIMITS.floor), [False, True, True, True])
