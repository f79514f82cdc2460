"""Chains whose mode has no mass are as if they were not there, in everything that a fit says."""

from dataclasses import replace

import numpy as np
import pytest
from line import Exact, line

import bayes_pmm as bp
from bayes_pmm import diagnostics, scatter, validation
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.widening import Widening

AT = np.array([[1.0], [2.5], [4.0]])
TRUTH = np.array([[0.5], [-0.3], [-1.2]])


def astray(draws: Draws) -> Draws:
    """Draws with two chains moved elsewhere, in a mode without mass."""
    sites = {k: np.array(v) for k, v in draws.sites.items()}
    for values in sites.values():
        values[2:] += 3.0
    modes = [{"chains": [0, 1], "mass": 1.0}, {"chains": [2, 3], "mass": 0.0}]
    return replace(draws, sites=sites, info=draws.info | {"modes": modes})


def half(draws: Draws) -> Draws:
    """The chains that have mass, as a run of their own."""
    sites = {k: np.asarray(v)[:2] for k, v in draws.sites.items()}
    info = {k: v for k, v in draws.info.items() if k != "modes"} | {"chains": 2}
    return Draws(sites, {}, info)


def pair(floor=False):
    """A fit with two chains astray, and the one without them."""
    posterior = replace(line(), widening=Widening(0.6, most=0.6))
    fit = bp.fit(posterior, Exact(400), key=0)
    draws = fit.draws
    if floor:
        posterior = replace(posterior, noise=bp.Noise())
        sizes = 0.1 + 0.2 * np.random.default_rng(0).random((4, 400, 1))
        draws = Draws(draws.sites | {"floor": sizes}, {}, draws.info)
    mixed = replace(fit, posterior=posterior, draws=astray(draws))
    return mixed, replace(mixed, draws=half(mixed.draws))


def residual_scores(fit):
    data = fit.posterior.data
    return validation._predicted(fit, data, np.arange(data.n_rows), (0.05, 0.5, 0.95))


def scored(fit):
    return bp.judge_fit(fit, AT, TRUTH).table


# Shares of draws and their quantiles, by counting: of 800 draws, or of 1600 of which half have no weight. The sd
# differs by as much as the unbiased one does.
COUNTED = ("pit", "quantiles", "q05", "q95")

SAID = {
    "mean and sd of bands": lambda f: {k: getattr(f.predict(AT), k)["latent"] for k in ("mean", "sd")},
    "quantiles of bands": lambda f: {"quantiles": f.predict(AT).quantiles["latent"]},
    "covariance": lambda f: {"": f.covariance(AT)},
    "exact scores of left-out rows": lambda f: {
        k: residual_scores(f)[k] for k in ("log_density", "pit", "z")
    },
    "doubts": lambda f: {k: v for k, v in f.doubt_strengths(AT).items() if k != "chains"},
    "residuals": lambda f: dict(
        zip("zp", scatter.residuals(f.posterior.data, f.training_outputs, f.weights), strict=True)
    ),
    "scores": lambda f: {k: v for k, v in _numbers(scored(f)).items() if "log_score" in k},
}


def _numbers(table):
    return {
        f"{region}.{name}": v for region, row in table.items() for name, v in row.items() if np.isscalar(v)
    }


# With a floor bands have noise, which is another draw for another number of chains.
NOISY = ("mean and sd of bands", "quantiles of bands", "covariance")
CASES = [(what, floor) for what in SAID for floor in (False, True) if not (floor and what in NOISY)]


@pytest.mark.parametrize(("what", "floor"), CASES)
def test_chains_without_mass_change_nothing(what, floor):
    mixed, alone = pair(floor)
    found, expected = SAID[what](mixed), SAID[what](alone)
    assert found.keys() == expected.keys() != set()
    for name, value in expected.items():
        tolerance = (
            {"atol": 0.02} if name in COUNTED else {"rtol": 1e-3 if name == "sd" else 1e-6, "atol": 1e-9}
        )
        np.testing.assert_allclose(found[name], value, err_msg=f"{what}: {name}", **tolerance)
    # And the chains that are left out would have changed it.
    info = {k: v for k, v in mixed.draws.info.items() if k != "modes"}
    pooled = replace(mixed, draws=replace(mixed.draws, info=info))
    assert any(
        not np.allclose(SAID[what](pooled)[name], value, atol=0.02) for name, value in expected.items()
    )


def test_chains_without_mass_do_not_speak_of_a_misfit():
    for floor in (False, True):
        mixed, alone = pair(floor)
        said = [diagnostics.misfits(f.posterior, f.draws, f.training_outputs) for f in (mixed, alone)]
        assert said[0] == said[1]


def test_averages_of_models_count_the_mass_of_chains():
    mixed, alone = pair()
    other = bp.fit(mixed.posterior, Exact(400), key=3)
    averages = []
    for fit in (mixed, alone):
        compared = bp.compare({"a": other, "b": fit}, key=0)
        averages.append(compared.predict(AT, "equal").mean["latent"])
    np.testing.assert_allclose(*averages, rtol=1e-9)


def test_replicates_come_from_chains_with_mass():
    mixed, alone = (bp.predictive_check(f) for f in pair())
    np.testing.assert_allclose(mixed.pit, alone.pit, atol=4 * np.sqrt(0.5 / 800))
    np.testing.assert_allclose(mixed.observed, alone.observed, rtol=1e-9, atol=0.05)
