"""Modes: chains are grouped by their outputs, and masses come from left-out data, not from counting chains."""

import jax
import numpy as np
import pytest
from canned import FromPrior
from line import line

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.diagnostics import diagnose
from bayes_pmm.inference.modes import (
    Mode,
    _leave_one_out,
    chain_weights,
    find_modes,
    pseudo_bma_weights,
    stacking_weights,
)
from bayes_pmm.inference.protocol import Draws

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def posterior():
    data = problems.get("spins").dataset(noise=5e-2, seed=0, known_errors=True)
    return bp.Posterior(data, bp.PMM(["E0"], dim=2), noise=bp.Noise(floor=False))


@pytest.fixture(scope="module")
def fitted(posterior):
    return bp.fit(posterior, bp.NUTS(chains=4, warmup=300, draws=400, max_tree_depth=7), key=0)


def shifted(draws, chains, by):
    """Draws whose anchor is shifted in some chains: another mode, and a worse one."""
    anchor = draws.sites["anchor"].copy()
    anchor[chains] += by
    return Draws(draws.sites | {"anchor": anchor}, draws.stats, dict(draws.info))


def outputs_of(posterior, draws):
    return bp.Fit(posterior, draws, None, jax.random.key(0)).sample(posterior.data.controls, "model")


def test_chains_that_agree_are_one_mode(posterior, fitted):
    assert find_modes(posterior, fitted.draws, outputs_of(posterior, fitted.draws), KEY) == (
        Mode((0, 1, 2, 3), 1.0),
    )
    assert fitted.draws.info["modes"] == [{"chains": (0, 1, 2, 3), "mass": 1.0, "pareto_k": None}]
    np.testing.assert_array_equal(fitted.weights, 1.0)


def test_a_mode_that_predicts_worse_gets_no_mass_though_most_chains_are_there(posterior, fitted):
    draws = shifted(fitted.draws, [0, 1, 2], 5.0)
    modes = find_modes(posterior, draws, outputs_of(posterior, draws), KEY)
    assert [m.chains for m in modes] == [(3,), (0, 1, 2)]
    assert modes[0].mass > 0.99
    assert all(np.isfinite(m.pareto_k) for m in modes)
    np.testing.assert_allclose(chain_weights(modes), [0, 0, 0, 4], atol=0.04)


def test_the_band_follows_the_masses_and_the_status_says_so(posterior, fitted):
    draws = shifted(fitted.draws, [0, 1], 5.0)
    modes = find_modes(posterior, draws, outputs_of(posterior, draws), KEY)
    draws.info["modes"] = [vars(m) for m in modes]
    diagnosis = diagnose(draws, outputs_of(posterior, draws))
    assert diagnosis.status == "failed"
    assert any("2 modes" in r and "1.00, 0.00" in r for r in diagnosis.reasons)
    both = bp.Fit(posterior, draws, diagnosis, jax.random.key(0))
    alone = bp.Fit(posterior, fitted.draws, fitted.diagnosis, jax.random.key(0))
    c = posterior.data.controls
    band, truth = both.predict(c), alone.predict(c)
    # Weighted by their masses the wrong chains do not count; two right chains of 200 draws remain.
    sd = truth.sd["latent"]
    assert np.max(np.abs(band.mean["latent"] - truth.mean["latent"]) / sd) < 0.6
    assert np.max(np.abs(band.quantile(0.95) - truth.quantile(0.95)) / sd) < 1.0
    assert band.status == "failed"
    pooled = bp.Fit(posterior, shifted(fitted.draws, [0, 1], 5.0), diagnosis, jax.random.key(0)).predict(c)
    assert np.max(np.abs(pooled.mean["latent"] - truth.mean["latent"]) / sd) > 5.0


def test_stacking_weights_maximise_the_score():
    p = np.random.default_rng(0).normal(size=(40, 3))
    w = stacking_weights(p)
    assert w.sum() == pytest.approx(1.0)
    score = lambda w: np.sum(np.log(np.exp(p) @ w))
    others = np.random.default_rng(1).dirichlet(np.ones(3), 2000)
    assert score(w) >= max(map(score, others)) - 1e-6
    np.testing.assert_allclose(stacking_weights(np.zeros((5, 2))), 0.5)


@pytest.mark.parametrize("spread", [0.01, 0.03, 1.0])
def test_stacking_weights_satisfy_the_conditions_of_the_optimum(spread):
    p = np.random.default_rng(4).normal(0, spread, size=(30, 4))
    w = stacking_weights(p)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1)
    # Karush, Kuhn and Tucker: the mean ratio to the mixture is 1 for what is used, and no more for what is not.
    ratio = np.mean(np.exp(p) / (np.exp(p) @ w)[:, None], axis=0)
    np.testing.assert_allclose(ratio[w > 1e-3], 1.0, atol=1e-4)
    assert ratio.max() <= 1 + 1e-4


def test_modes_that_the_data_hardly_tell_apart_share_by_chains():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(20, 2)) * 0.01
    p[:, 0] += 0.01  # in favour of the first, and less than the data can say
    assert stacking_weights(p)[0] > 0.8
    w = pseudo_bma_weights(p, KEY, [1, 3])
    np.testing.assert_allclose(w, [0.25, 0.75], atol=0.07)
    # A single datum that one of them misses altogether.
    p[4, 0] = -2000.0
    assert pseudo_bma_weights(p, KEY, [1, 3])[0] < 1e-3


def test_pseudo_bma_weights_are_posterior_odds_for_many_alike_data():
    # All data favour the first by the same amount: the bootstrap does not matter.
    p = np.stack([np.full(10, 0.1), np.zeros(10)], axis=1)
    np.testing.assert_allclose(pseudo_bma_weights(p, KEY), [np.e / (1 + np.e), 1 / (1 + np.e)], rtol=1e-9)


def test_constant_outputs_are_one_mode(posterior, fitted):
    outputs = np.zeros((4, 10, 3, 1))
    assert len(find_modes(posterior, fitted.draws, outputs, KEY)) == 1


def test_a_pareto_k_that_cannot_be_told_is_infinite():
    """Not the largest float, which stood in the status as 1.8e+308."""
    assert _leave_one_out(np.random.default_rng(0).normal(size=(10, 3)))[1] == np.inf


def test_modes_of_one_quality_share_the_mass_by_their_chains(posterior, fitted):
    """Told apart by outputs elsewhere, alike at the data."""
    outputs = outputs_of(posterior, fitted.draws).copy()
    outputs[0] += 100.0
    modes = find_modes(posterior, fitted.draws, outputs, KEY)
    assert [m.chains for m in modes] == [(1, 2, 3), (0,)]
    assert modes[0].mass == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("draws", [1, 3])
def test_chains_too_short_to_tell_are_one_mode(draws):
    outputs = np.random.default_rng(0).normal(size=(2, draws, 5, 1))
    assert find_modes(None, None, outputs, KEY) == (Mode((0, 1), 1.0),)
    found = bp.fit(line(), FromPrior(draws), key=0)
    assert found.status == "failed"
    assert f"{draws} draws are too few to judge" in found.reasons[0]
