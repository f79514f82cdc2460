"""Intervals of any level: in bands, tables, corrections and scores."""

import errno
import pickle
from dataclasses import replace

import numpy as np
import pytest
from canned import canned

import bayes_pmm as bp
from bayes_pmm.bands import LEVELS, QUANTILES, probabilities_of, quantile_column
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.predict import _block_size


@pytest.fixture(scope="module")
def fit():
    return canned(("g",), ("E0", "E1"), error=0.1)


def test_the_default_levels_are_the_stored_quantiles():
    assert probabilities_of(LEVELS) == QUANTILES
    assert [quantile_column(q) for q in QUANTILES] == ["q05", "q25", "q50", "q75", "q95"]


@pytest.mark.parametrize("levels", [(), 0.0, 1.0, (0.5, 95), "wide", (0.5, float("nan")), None])
def test_what_is_no_probability_is_refused(levels, fit):
    with pytest.raises(bp.InputError, match="between 0 and 1"):
        fit.predict([0.5], levels=levels)


def test_bands_hold_the_levels_that_were_asked_for(fit):
    x = np.linspace(0, 2, 4)
    bands = fit.predict(x, levels=(0.95, 0.68))
    assert bands.probabilities == (0.025, 0.16, 0.5, 0.84, 0.975)
    assert bands.levels == (0.68, 0.95)
    draws = fit.sample(x, joint=False).reshape(-1, 4, 2)
    np.testing.assert_allclose(bands.quantile(0.16), np.quantile(draws, 0.16, axis=0))
    np.testing.assert_allclose(bands.interval(0.95), np.quantile(draws, [0.025, 0.975], axis=0))
    assert bands.columns[5:10] == ("q02.5", "q16", "q50", "q84", "q97.5")
    frame = bands.to_dataframe().query("kind == 'predictive' and output == 'E1'")
    np.testing.assert_array_equal(frame["q97.5"], bands.quantile(0.975, "predictive")[:, 1])
    # What the levels do not touch stays.
    np.testing.assert_array_equal(bands.sd["latent"], fit.predict(x).sd["latent"])
    assert fit.predict(x, levels=0.8).levels == (0.8,)


def test_a_quantile_that_is_not_stored_says_how_to_get_it(fit):
    bands = fit.predict([0.5])
    with pytest.raises(bp.InputError, match=r"0.975 is not stored, only 0.05, .*levels=\(0.95,\)"):
        bands.quantile(0.975)
    with pytest.raises(bp.InputError, match="between 0 and 1"):
        bands.quantile(95)
    with pytest.raises(bp.InputError, match="latent or predictive"):
        bands.quantile(0.5, "both")


def test_a_correction_takes_bands_of_any_level(fit):
    x = np.linspace(0, 1, 40)
    bands = fit.predict(x, levels=(0.5, 0.8))
    values = bands.quantile(0.5) + np.random.default_rng(0).normal(size=(40, 2)) * bands.sd["predictive"]
    found = bp.conformal(values, bands, 0.8)
    same = bp.conformal(values, bands.quantiles["predictive"], 0.8, probabilities=bands.probabilities)
    assert found == same
    np.testing.assert_array_equal(
        found.interval(bands),
        found.interval(bands.quantiles["predictive"], probabilities=bands.probabilities),
    )
    with pytest.raises(bp.InputError, match=r"levels=\(0.9,\)"):
        bp.conformal(values, bands, 0.9)


def test_scores_take_any_level(fit):
    x = np.linspace(0, 2, 5)
    found = bp.judge_fit(fit, x, fit.predict(x).mean["latent"], levels=(0.683, 0.95)).table["inside"]
    assert list(found)[1:4] == ["coverage_68.3", "coverage_95", "interval_score_95"]


def test_one_quantile_at_a_time(fit):
    with pytest.raises(bp.InputError, match="one quantile at a time"):
        fit.predict([0.5]).quantile([0.05, 0.95])


def test_a_table_has_the_status_and_is_written_whole_or_not_at_all(fit, tmp_path, monkeypatch):
    bad = replace(fit, diagnosis=Diagnosis("failed", ("chains disagree",), 1.5, 20.0, 0))
    bands = bad.predict([0.5, 2.0])
    assert set(bands.to_dataframe()["status"]) == {"failed"}
    bands.to_csv(tmp_path / "bands.csv")
    header, first, *_ = (tmp_path / "bands.csv").read_text().splitlines()
    assert header.endswith(",doubts,status")
    assert first.endswith(",failed")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in (tmp_path / "bands.csv", tmp_path / "none" / "x.csv", tmp_path / "bands.csv" / "x.csv"):
        with pytest.raises(bp.InputError):
            bands.to_csv(place)
    with pytest.raises(bp.InputError, match="cannot be written"):
        bands.to_csv(tmp_path / ("x" * 300))
    bands.to_csv(tmp_path / ("x" * 250))
    (tmp_path / ("x" * 250)).unlink()
    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(bp.BayesPMMError, match="disk is full"):
        bands.to_csv(tmp_path / "other.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["bands.csv"]


def test_bands_as_an_xarray_dataset(fit):
    bands = fit.predict([0.5, 2.0], levels=0.68)
    found = bands.to_xarray()
    assert found.attrs["status"] == bands.status
    one = found.sel(kind="latent", output="E1", probability=0.84)
    np.testing.assert_array_equal(one["quantile"], bands.quantile(0.84)[:, 1])
    np.testing.assert_array_equal(found["mean"].sel(kind="predictive"), bands.mean["predictive"])
    np.testing.assert_array_equal(found["g"], [0.5, 2.0])
    np.testing.assert_array_equal(found["doubtful"].any("doubt"), bands.doubtful)
    np.testing.assert_array_equal(found["extrapolated"], bands.extrapolated)


def test_nothing_is_compiled_again_for_other_numbers_of_points(fit):
    compiled = fit.posterior.outputs_of_draws
    fit.predict(np.full(60, 0.5))
    before = compiled._cache_size()
    for count in (33, 60, 64):
        fit.predict(np.full(count, 0.4))
    assert fit.posterior.outputs_of_draws is compiled
    assert compiled._cache_size() == before
    # Compiled functions stay where they were compiled.
    again = pickle.loads(pickle.dumps(fit.posterior))
    assert "outputs_of_draws" not in vars(again)
    assert again.scaling == fit.posterior.scaling


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (3, 4), (61, 64), (65, 128), (200, 256), (999, 256)]
)
def test_sizes_of_blocks(count, size):
    assert _block_size(count) == size
