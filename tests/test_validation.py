"""Left-out data against closed forms of a straight line; plans, failures, importance sampling, predictive checks."""

import re
import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from line import Exact, line, normal, predictive
from scipy import stats

import bayes_pmm as bp
from bayes_pmm import scores
from bayes_pmm.checks import predictive_check, prior_predictive
from bayes_pmm.convergence import import_arviz, psis
from bayes_pmm.defect import Defect
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.protocol import Draws, silent
from bayes_pmm.judging import judge_fit, mixture
from bayes_pmm.judging_plots import ecdf_band, plot_left_out, plot_pit, plot_reliability
from bayes_pmm.loo import _match, loo
from bayes_pmm.plotting import plot_bands
from bayes_pmm.scaling import fit_scaling
from bayes_pmm.validation import k_fold, leave_future_out, outer_rows, refit_without, without

az = import_arviz()
OLD = hasattr(az, "psislw")


def exact_density(posterior, left, row, keep_units=False):
    """Closed-form predictive density of a row given the rows that were not left out."""
    data = posterior.data
    scaling = posterior.scaling if keep_units else None
    kept = replace(posterior, data=data.select(~np.isin(np.arange(data.n_rows), left)), scaling=scaling)
    return predictive(kept, data.controls[[row]], data.errors[[row]])


@pytest.fixture(scope="module")
def straight():
    return line()


@pytest.fixture(scope="module")
def fitted(straight):
    return bp.fit(straight, Exact(), key=0)


@pytest.fixture(scope="module")
def future(straight):
    return leave_future_out(straight, Exact(), key=1, steps=2, share=0.4)


def test_left_out_data_have_their_closed_form(straight, future):
    assert len(future.value) == 2 * (2 + 4)
    for m in range(len(future.value)):
        law = exact_density(straight, future.refits[future.refit[m]].rows, future.row[m])
        y = straight.data.values[future.row[m], 0]
        # 8000 independent draws of a mixture whose components are wider than half of it.
        assert future.log_density[m] == pytest.approx(law.logpdf(y)[0], abs=0.1)
        assert future.pit[m] == pytest.approx(law.cdf(y)[0], abs=0.03)
        assert future.z[m] == pytest.approx(((y - law.mean()) / law.std())[0], abs=0.1)
        np.testing.assert_allclose(
            future.quantiles[:, m],
            law.ppf([[0.05], [0.25], [0.5], [0.75], [0.95]])[:, 0],
            atol=0.1 * law.std()[0],
        )
        z = (y - law.mean()[0]) / law.std()[0]
        crps = law.std()[0] * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
        assert future.crps[m] == pytest.approx(crps, abs=0.03 * law.std()[0])


def test_a_fit_stands_for_its_posterior_where_it_is_drawn_again(straight, fitted, future):
    again = leave_future_out(fitted, Exact(), key=1, steps=2, share=0.4)
    np.testing.assert_array_equal(again.log_density, future.log_density)
    folds = k_fold(fitted, Exact(200), key=1, folds=2)
    np.testing.assert_array_equal(folds.z, k_fold(straight, Exact(200), key=1, folds=2).z)
    defects = [bp.learn_defect(x, Exact(200), key=1).probabilities for x in (fitted, straight)]
    np.testing.assert_array_equal(*defects)
    np.testing.assert_array_equal(*(prior_predictive(x, key=0, draws=3)["model"] for x in (fitted, straight)))


@pytest.mark.parametrize(
    "judge",
    [
        lambda x: judge_fit(x, [0.5], [1.0]),
        predictive_check,
        loo,
        lambda x: bp.with_defect(x, Defect((0.1,), (1.0,))),
        lambda x: bp.compare([x, x], key=0),
        lambda x: bp.compare({"a": x, "b": x}, key=0),
        lambda x: bp.log_evidence(x, key=0),
        lambda x: plot_bands(x, None),
    ],
)
def test_a_posterior_without_draws_says_what_is_missing(straight, judge):
    with pytest.raises(InputError, match=r"needs draws, .* give fit\(posterior, key=0\)"):
        judge(straight)
    with pytest.raises(InputError, match="Dataset is no fit"):
        judge(straight.data)


@pytest.mark.parametrize("refit", [leave_future_out, k_fold, bp.learn_defect])
def test_data_alone_are_no_posterior(straight, refit):
    with pytest.raises(InputError, match="neither a posterior nor a fit"):
        refit(straight.data, key=0)


def test_rows_distances_and_totals(straight, future):
    rows = [r.rows for r in future.refits]
    assert rows == [(7, 8), (5, 6, 7, 8), (0, 1), (0, 1, 2, 3)]
    last = future.refit == 1
    # Kept are 0 to 1; left out 1.25 to 2.
    np.testing.assert_allclose(future.distance[last], [0.25, 0.5, 0.75, 1.0])
    assert future.extrapolated.all()
    seen = np.isfinite(future.pointwise)
    assert np.flatnonzero(seen[:, 0]).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    twice = future.row == 8
    assert future.pointwise[8, 0] == pytest.approx(future.log_density[twice].mean())
    assert future.elpd == pytest.approx(np.nansum(future.pointwise))
    assert future.se == pytest.approx(np.sqrt(8) * np.std(future.pointwise[seen], ddof=1))
    assert future.status == "ok"
    frame = future.to_dataframe()
    assert frame["g"].tolist() == straight.data.controls[future.row, 0].tolist()
    assert "upper end of g, 2 of 9 rows: ok" in str(future)


def test_units_are_fitted_to_the_kept_rows(straight):
    left = np.zeros((9, 1), bool)
    left[6:] = True
    new = refit_without(straight, left, Exact(50), jax.random.key(0))
    assert new.posterior.scaling != straight.scaling
    assert new.posterior.data.n_rows == 6
    kept = refit_without(straight, left, Exact(50), jax.random.key(0), keep_units=True)
    assert kept.posterior.scaling == straight.scaling


def test_k_fold_is_exact_and_leaves_every_row_out_once(straight):
    found = k_fold(straight, Exact(), key=2, folds=3)
    assert sorted(found.row.tolist()) == list(range(9))
    assert [len(r.rows) for r in found.refits] == [3, 3, 3]
    for m in range(9):
        law = exact_density(straight, found.refits[found.refit[m]].rows, found.row[m])
        assert found.log_density[m] == pytest.approx(law.logpdf(found.value[m])[0], abs=0.1)
    given = k_fold(straight, Exact(20), key=2, folds=[0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert [r.rows for r in given.refits] == [(0, 1, 2, 3), (4, 5, 6, 7, 8)]
    assert np.isnan(given.distance).all()


def grid_posterior():
    c = np.array([[x, t] for x in (0.0, 1.0, 2.0, 3.0) for t in (0.0, 1.0)])
    y = np.stack([c @ [1.0, 0.5], 3 + c @ [1.2, 0.5]], axis=1)
    y[2, 1] = y[7, 0] = np.nan
    data = bp.Dataset(c, y, np.full(y.shape, 0.1), ("x", "t"), ("E0", "E1"))
    return bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2), noise=bp.Noise(floor=False))


@dataclass(frozen=True)
class FromPrior:
    """Draws of the prior: enough for tests of what is left out, and quick."""

    fails: bool = False

    def run(self, posterior, key, *, progress=None, checkpoint=None):  # noqa: ARG002
        if self.fails:
            raise BayesPMMError("no start fits the data")
        sites = jax.jit(jax.vmap(jax.vmap(posterior.prior_sites)))(jax.random.split(key, (2, 50)))
        return Draws({k: np.asarray(v) for k, v in sites.items()}, {}, {"sampler": "prior", "seconds": 0.0})


def test_several_controls_outputs_and_missing_cells():
    posterior = grid_posterior()
    found = leave_future_out(posterior, FromPrior(), key=0, share=0.25)
    # Rows that tie stay together; without one end of t it is constant, and that is said.
    assert [r.name for r in found.refits] == ["upper end of x, 2 of 8 rows", "lower end of x, 2 of 8 rows"]
    assert [text.split(":")[0] for text in found.skipped] == [
        "upper end of t, 4 of 8 rows",
        "lower end of t, 4 of 8 rows",
    ]
    assert "not done: upper end of t" in str(found)
    upper = found.refit == 0
    pairs = list(zip(found.row[upper].tolist(), found.output[upper].tolist(), strict=True))
    assert pairs == [(6, 0), (6, 1), (7, 1)]
    assert np.isfinite(found.log_density).all()
    only = leave_future_out(posterior, FromPrior(), key=0, direction=[1.0, 1.0], share=0.1)
    assert [r.rows for r in only.refits] == [(7,)]
    lower = leave_future_out(posterior, FromPrior(), key=0, control="x", end="lower", share=0.25)
    assert [r.rows for r in lower.refits] == [(0, 1)]
    ends = dict(outer_rows(posterior.data, 0.25))
    assert {name: np.flatnonzero(rows).tolist() for name, rows in ends.items()} == {
        "upper end of x": [6, 7],
        "lower end of x": [0, 1],
        "upper end of t": [1, 3, 5, 7],
        "lower end of t": [0, 2, 4, 6],
    }
    with pytest.raises(InputError, match="nothing could be left out"):
        leave_future_out(posterior, FromPrior(), key=0, control="t")


def test_a_refit_without_draws_is_visible(straight):
    found = leave_future_out(straight, FromPrior(fails=True), key=0, control="g", end="upper")
    assert found.status == "failed"
    assert np.isnan(found.log_density).all()
    assert np.isnan(found.elpd)
    assert "failed" in str(found)
    assert "no start fits" in str(found)


def test_refits_with_fewer_rows_than_outputs():
    names = tuple(f"E{k}" for k in range(5))
    c = np.linspace(0.0, 1.0, 6)[:, None]
    data = bp.Dataset(c, np.arange(5) + 0.1 * c, np.full((6, 5), 0.1), ("x",), names)
    posterior = bp.Posterior(data, bp.PMM(names, dim=5), noise=bp.Noise(floor=False))
    future = leave_future_out(posterior, FromPrior(), key=0, share=0.3)
    assert [r.rows for r in future.refits] == [(4, 5), (0, 1)]
    assert future.skipped == ()


def test_rows_without_values_are_no_data(straight):
    data = straight.data
    empty = np.full((3, 1), np.nan)
    more = replace(
        data,
        controls=np.concatenate([data.controls, [[7.0], [8.0], [9.0]]]),
        values=np.concatenate([data.values, empty]),
        errors=np.concatenate([data.errors, 0.0 * empty]),
        row_labels=None,
    )
    same = bp.Posterior(more, straight.pmm, straight.prior, straight.noise)
    assert same.scaling == straight.scaling
    for (name, rows), (_, with_empty) in zip(outer_rows(data, 0.3), outer_rows(more, 0.3), strict=True):
        np.testing.assert_array_equal(with_empty, [*rows, False, False, False], err_msg=name)


def test_settings_that_cannot_be_used(straight):
    for wrong, message in (
        ({"control": "h"}, "no control is called"),
        ({"direction": [0.0]}, "direction of shape"),
        ({"direction": [1.0], "end": "lower"}, "end = 'lower' beside a direction"),
        ({"share": 1.0}, "share"),
        ({"share": "a"}, "share = 'a'"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": 1.5}, "steps = 1.5"),
        ({"end": "left"}, "end = 'left'"),
        ({"levels": 1.5}, "levels = 1.5"),
        ({"method": "nutz"}, "sampler 'nutz' is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            leave_future_out(straight, **({"method": Exact(20), "key": 0} | wrong))
    for folds in (1, 10, [0] * 9, [0, 1]):
        with pytest.raises(InputError, match="folds"):
            k_fold(straight, Exact(20), key=0, folds=folds)


def test_left_out_data_have_the_levels_that_were_asked_for(straight):
    for judge in (leave_future_out, k_fold):
        usual = judge(straight, Exact(200), key=0)
        other = judge(straight, Exact(200), key=0, levels=0.68)
        assert other.probabilities == (0.16, 0.5, 0.84)
        np.testing.assert_array_equal(other.quantiles[1], usual.quantiles[2])
        assert "q16" in other.to_dataframe().columns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few values
            found = bp.conformal(other.value, other, 0.68)
            by_hand = bp.conformal(other.value, other.quantiles, 0.68, probabilities=other.probabilities)
        assert found == by_hand
        assert len(plot_left_out(other).axes) == 1
        with pytest.raises(InputError, match=r"leave out, with levels=\(0.68,\)"):
            bp.conformal(usual.value, usual.quantiles, 0.68)


def test_a_correction_counts_every_datum_once(straight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few values, and refits that are not judged here
        once, twice = (leave_future_out(straight, Exact(200), key=0, steps=s, share=0.4) for s in (1, 2))
        found = [bp.conformal(left.value, left, 0.5) for left in (once, twice)]
    assert len(twice.value) > len(once.value) == found[0].count == found[1].count
    # That of the refit without all outer rows, from which it is furthest.
    furthest = np.lexsort((-twice.distance, twice.output, twice.row))
    keep = np.unique(np.stack([twice.row, twice.output])[:, furthest], axis=1, return_index=True)[1]
    chosen = furthest[keep]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_hand = bp.conformal(
            twice.value[chosen], twice.quantiles[:, chosen], 0.5, probabilities=twice.probabilities
        )
    assert found[1] == by_hand


def test_refits_keep_what_the_user_chose(straight):
    data = straight.data
    labels = tuple(f"line {i + 2}" for i in range(data.n_rows))
    chosen = replace(
        straight,
        data=replace(data, row_labels=labels),
        scaling=fit_scaling(data, straight.pmm.outputs, straight.pmm.basis, np.array([0.3])),
    )
    left = np.zeros(data.values.shape, bool)
    left[-2:] = True
    refit = refit_without(chosen, left, Exact(20), jax.random.key(0)).posterior
    assert refit.data.row_labels == labels[:-2]
    np.testing.assert_allclose(refit.scaling.control_reference, [0.3])
    assert refit.scaling.spread != chosen.scaling.spread
    usual = refit_without(straight, left, Exact(20), jax.random.key(0)).posterior
    np.testing.assert_allclose(usual.scaling.control_reference, data.controls[:-2].mean(0))


def test_a_correction_from_refits_that_are_not_ok_says_so(straight):
    folds = k_fold(straight, Exact(200), key=0, levels=0.5)
    well = tuple(replace(r, status="ok", reasons=()) for r in folds.refits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bp.conformal(folds.value, replace(folds, refits=well), 0.5)
    bad = (replace(well[0], status="failed"), *well[1:])
    with pytest.warns(UserWarning, match=f"1 of 5 refits are not ok .{well[0].name}: failed"):
        assert bp.conformal(folds.value, replace(folds, refits=bad), 0.5) == found


def test_what_comes_from_a_fit_repeats_its_status(fitted):
    bad = replace(fitted, diagnosis=Diagnosis("failed", ("chains disagree",), 1.5, 20.0, 0))
    at = np.array([[-1.0], [1.0]])
    for found in (judge_fit(bad, at, 1.5 - 0.8 * at), loo(bad), predictive_check(bad)):
        assert str(found).startswith("STATUS: FAILED: chains disagree")
    assert "STATUS" not in str(predictive_check(bad, kind="prior"))
    assert "STATUS" not in str(judge_fit(fitted, at, 1.5 - 0.8 * at))
    bands = bad.predict(at)
    assert (bands.status, bands.reasons[0]) == ("failed", "chains disagree")


def test_bands_say_what_the_fit_and_these_controls_have_against_them(fitted, monkeypatch):
    at = np.array([[5.0]])
    there = Diagnosis("failed", ("R-hat 1.2", "two modes"), 1.2, 20.0, 0)
    monkeypatch.setattr(sys.modules["bayes_pmm.fit"], "diagnose", lambda *_: there)
    bands = fitted.predict(at)
    assert (bands.status, bands.reasons) == ("failed", there.reasons)
    before = replace(fitted, diagnosis=Diagnosis("suspect", ("R-hat 1.02", "two modes"), 1.02, 300.0, 0))
    bands = before.predict(at)
    assert bands.status == "failed"
    # That of the worse status comes first: pictures and tables show one.
    assert bands.reasons == ("at these controls: R-hat 1.2", "R-hat 1.02", "two modes")


def test_a_statistic_gives_one_number_for_each_row_of_values(fitted):
    for wrong in (lambda y, c: y.mean(), lambda y, c: y, lambda y, c: y.mean(axis=0)):  # noqa: ARG005
        with pytest.raises(InputError, match="statistic mine: gives shape"):
            predictive_check(fitted, {"mine": wrong})
    with pytest.raises(InputError, match="'residuals' is built in"):
        predictive_check(fitted, {"residuals": np.mean})


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-9, 0.0), (1.0, 1e6)])
def test_a_chosen_reference_stays_in_any_unit(scale, offset):
    c = offset + scale * np.arange(11.0)[:, None]
    data = bp.Dataset(c, np.sin(np.arange(11.0))[:, None], None, ("g",), ("E0",))
    model = bp.PMM(["E0"], dim=2)
    chosen = offset + scale * 8.0
    left = np.zeros((11, 1), bool)
    left[-2:] = True
    for reference, expected in ((np.array([chosen]), chosen), (None, offset + scale * 4.0)):
        scaling = fit_scaling(data, model.outputs, model.basis, reference)
        kept = without(bp.Posterior(data, model, scaling=scaling), left)
        assert kept.scaling.control_reference[0] == pytest.approx(expected, rel=1e-12)


def test_a_refit_that_failed_says_what_was_outside_and_does_not_stand_for_others():
    """Three steps of leave-future-out, of which the shortest cannot be fitted."""

    @dataclass(frozen=True)
    class Sometimes(Exact):
        def run(self, posterior, key, **options):
            if len(posterior.data.controls) <= 4:
                raise BayesPMMError("no start fits the data")
            return super().run(posterior, key, **options)

    found = leave_future_out(line(), Sometimes(300), key=0, end="upper", share=0.6, steps=3)
    failed = np.isnan(found.log_density)
    assert failed.any()
    assert not failed.all()
    np.testing.assert_array_equal(found.extrapolated, found.distance > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a refit that is not ok, and few values
        correction = bp.conformal(found.value, found, 0.5)
    # Each datum that another refit predicted counts once.
    assert correction.count == len(np.unique(found.row[~failed]))


def test_a_sampler_that_is_unknown_is_no_failed_refit(fitted):
    for judge in (lambda: loo(fitted, refit="nutz"), lambda: bp.learn_defect(fitted, "nutz", key=0)):
        with pytest.raises(InputError, match="sampler 'nutz' is unknown"):
            judge()
    with pytest.raises(InputError, match="share = 2"):
        bp.learn_defect(fitted, share=2, key=0)
    with pytest.raises(InputError, match="float is no defect"):
        bp.with_defect(fitted, 0.3)


def test_judge_fit_takes_the_exact_mixture(fitted):
    at = np.array([[-1.0], [1.0], [4.0]])
    truth = 1.5 - 0.8 * at
    found = judge_fit(fitted, at, truth)
    assert found.outside[:, 0].tolist() == [True, False, True]
    draws = fitted.sample(at).reshape(-1, 3, 1)
    spread = fitted.posterior.scaling.spread[0]
    expected = scores.crps(draws, truth)[:, 0] / spread
    assert found.table["inside"]["crps"] == pytest.approx(expected[1])
    assert found.table["outside"]["crps"] == pytest.approx(expected[[0, 2]].mean())
    # Without a floor the density is a kernel estimate: the normal's own, nearly.
    law = predictive(fitted.posterior, at, np.zeros((3, 1)))
    expected = law.logpdf(truth[:, 0]) + np.log(spread)
    assert found.table["inside"]["log_score"] == pytest.approx(expected[1], abs=0.1)


def test_a_learned_defect_widens_the_mixture_as_it_widens_the_bands(fitted):
    defect = Defect((0.0, 0.3, 1.0), (0.2, 0.5, 0.3))
    wider = replace(fitted, defect=defect)
    at = np.array([[1.0], [3.0], [5.0]])
    mean, sd, _ = mixture(wider, at)
    draws = wider.sample(at).reshape(-1, 3, 1)
    assert np.all(sd[:, 0] == 0)
    variance = mean.var(0) + np.mean(sd**2, axis=0)
    # The kurtosis of this mixture of normals is below 9, and that of the rest 3.
    np.testing.assert_allclose(draws.var(0), variance, rtol=4 * np.sqrt(10 / len(draws)))
    assert np.all(sd.max(0)[2] > 2 * sd.max(0)[1])


def test_weights_of_chains_reach_the_mixture(fitted):
    modes = [{"chains": [0, 1], "mass": 1.0}, {"chains": [2, 3], "mass": 0.0}]
    half = replace(fitted, draws=replace(fitted.draws, info=fitted.draws.info | {"modes": modes}))
    mean, _, w = mixture(half, [[4.0]])
    draws = fitted.sample([[4.0]], "model")
    assert np.average(mean[:, 0, 0], weights=w) == pytest.approx(draws[:2].mean())
    ours = loo(half, moment_matching=False)
    alone = Draws({k: v[:2] for k, v in fitted.draws.sites.items()}, {}, {"seconds": 0.0})
    diagnosis = replace(fitted.diagnosis, min_ess=fitted.diagnosis.min_ess / 2)
    other = loo(replace(fitted, draws=alone, diagnosis=diagnosis), moment_matching=False)
    np.testing.assert_allclose(ours.log_density, other.log_density, rtol=1e-10)


@pytest.mark.arviz
def test_loo_is_that_of_arviz_and_near_the_closed_form(straight, fitted):
    ours = loo(fitted)
    r_eff = min(1.0, fitted.diagnosis.min_ess / 8000)
    theirs = az.loo(fitted.idata, pointwise=True, reff=r_eff)
    np.testing.assert_allclose(
        ours.log_density, (theirs["loo_i"] if OLD else theirs.elpd_i).values, atol=1e-8
    )
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k.values, atol=1e-6)
    exact = [
        exact_density(straight, [i], i, keep_units=True).logpdf(straight.data.values[i])[0] for i in range(9)
    ]
    np.testing.assert_allclose(ours.log_density, exact, atol=0.03)
    assert set(ours.how) == {"psis"}
    assert len(ours.above) == 0
    assert ours.elpd == pytest.approx(sum(exact), abs=0.1)
    in_sample = predictive(straight, straight.data.controls, straight.data.errors)
    np.testing.assert_allclose(ours.in_sample, in_sample.logpdf(straight.data.values[:, 0]), atol=0.03)
    assert ours.p_loo == pytest.approx(np.sum(ours.in_sample) - ours.elpd)
    assert "says nothing about bands outside" in str(ours)


@pytest.mark.arviz
def test_moment_matching_and_refits_mend_what_importance_sampling_cannot():
    posterior = line(outlier=15.0)
    fit = bp.fit(posterior, Exact(1000), key=0)
    plain, matched = loo(fit, moment_matching=False), loo(fit)
    exact = np.array([
        exact_density(posterior, [i], i, keep_units=True).logpdf(posterior.data.values[i])[0] for i in range(9)
    ])  # fmt: skip
    bad = plain.above
    assert 8 in bad
    assert "not to be trusted: E0 in row" in str(plain)
    assert plain.log_density[8] > exact[8] + 3
    assert len(matched.above) == 0
    assert {matched.how[i] for i in bad} == {"moment matching"}
    np.testing.assert_allclose(matched.log_density[bad], exact[bad], atol=0.15)
    assert matched.to_dataframe()["how"].tolist() == list(matched.how)
    assert matched.refits == ()


def test_refits_are_the_last_resort_and_exact():
    posterior = line(outlier=6.0)
    fit = bp.fit(posterior, Exact(100), key=0)
    bad = loo(fit, moment_matching=False).above
    assert len(bad) > 0
    found = loo(fit, moment_matching=False, refit=Exact(2000))
    assert {i for i, how in enumerate(found.how) if how == "refit"} == set(bad.tolist())
    assert [r.rows for r in found.refits] == [(i,) for i in bad]
    assert len(found.above) == 0
    for i in bad:
        law = exact_density(posterior, [i], i, keep_units=True)
        assert found.log_density[i] == pytest.approx(law.logpdf(posterior.data.values[i])[0], abs=0.15)


def test_a_value_far_out_is_not_trusted_after_a_refit_either():
    posterior = line(outlier=40.0)
    found = loo(bp.fit(posterior, Exact(500), key=0), moment_matching=False, refit=Exact(2000))
    last = posterior.data.n_rows - 1
    assert found.how[last] == "refit"
    assert last in found.above
    exact = exact_density(posterior, [last], last, keep_units=True).logpdf(posterior.data.values[last])[0]
    assert found.log_density[last] < exact - 1
    assert "standard deviations out, where few draws decide" in str(found)


def test_a_refit_that_fails_leaves_the_importance_weights_and_says_so():
    fit = bp.fit(line(outlier=6.0), Exact(100), key=0)
    plain = loo(fit, moment_matching=False)
    found = loo(fit, moment_matching=False, refit=FromPrior(fails=True))
    np.testing.assert_array_equal(found.log_density, plain.log_density)
    np.testing.assert_array_equal(found.above, plain.above)
    assert [r.status for r in found.refits] == ["failed"] * len(plain.above)
    assert "no start fits" in found.refits[0].reasons[0]


def test_importance_weights_of_an_approximation_count(straight):
    # Draws three times too wide, with their weights.
    mean, C, _ = normal(straight)
    L = 3 * np.linalg.cholesky(C)
    z = np.random.default_rng(3).normal(size=(4, 4000, 2)) @ L.T + mean
    quadratic = np.einsum("csi,ij,csj->cs", z - mean, np.linalg.inv(C), z - mean)
    draws = Draws(
        {"anchor": z[..., 0], "shift": z[..., 1:]},
        {"log_weight": -0.5 * quadratic * (1 - 1 / 9)},
        {"seconds": 0.0, "pareto_k": 0.1},
    )
    wide = bp.Fit(straight, draws, bp.fit(straight, Exact(20), key=0).diagnosis, jax.random.key(0))
    found = loo(replace(wide, diagnosis=replace(wide.diagnosis, min_ess=None)))
    exact = [
        exact_density(straight, [i], i, keep_units=True).logpdf(straight.data.values[i])[0] for i in range(9)
    ]
    np.testing.assert_allclose(found.log_density, exact, atol=0.06)


@pytest.mark.arviz
@pytest.mark.parametrize(
    "log_ratios",
    [
        np.where(np.arange(1000) == 0, 800.0, 0.0),  # one draw carries all
        np.where(np.arange(1000) < 997, -np.inf, 0.01 * np.arange(1000)),  # hardly any is left
        np.where(np.arange(1000) < 200, 3.0, 0.0),  # the largest are all the same
    ],
)
def test_psis_trusts_no_weights_without_a_tail(log_ratios):
    weights, k = psis(np.stack([log_ratios, log_ratios]))
    assert weights.shape == (2, 1000)
    assert np.all(k > 0.7)
    np.testing.assert_allclose(np.exp(weights).sum(axis=1), 1.0, rtol=1e-9)


@pytest.mark.arviz
def test_psis_smooths_and_normalises():
    rng = np.random.default_rng(0)
    # Weights e^{0.9 x} of exponential x are Pareto with k = 0.9.
    heavy, k = psis(0.9 * rng.exponential(size=(40, 4000)))
    assert k.mean() == pytest.approx(0.9, abs=0.1)
    np.testing.assert_allclose(np.exp(heavy).sum(axis=1), 1.0)
    assert psis(rng.normal(size=4000) * 0.1)[1] < 0.5


def test_few_draws_are_refused(straight):
    with pytest.raises(InputError, match="too few"):
        loo(bp.fit(straight, Exact(5), key=0))


def test_posterior_check_sees_a_bend_that_a_line_cannot_follow(straight):
    c = straight.data.controls
    bent = bp.Dataset(c, 1.5 - 0.8 * c + 1.2 * (c - 1) ** 2, straight.data.errors, ("g",), ("E0",))
    good = predictive_check(bp.fit(straight, Exact(500), key=0))
    bad = predictive_check(bp.fit(replace(straight, data=bent, scaling=None), Exact(500), key=0))
    k = good.statistics.index("residuals")
    assert good.p_value[k, 0] > 0.05
    assert bad.p_value[k, 0] < 0.02
    assert bad.pit[k, 0] > 0.99
    assert good.replicated.shape == (6, 1, 2000)
    frame = good.to_dataframe()
    assert frame["statistic"].tolist() == ["min", "max", "sd", "step", "curvature", "residuals"]


def test_checks_of_replications_are_uniform_for_data_of_the_prior(straight):
    # Under its prior the model's own data are anywhere among the replications.
    data = prior_predictive(straight, key=5, draws=60)["predictive"]
    again = prior_predictive(straight, key=6, draws=2000)["predictive"]
    below = np.mean(again.max(axis=1)[:, None] < data.max(axis=1)[None], axis=0)
    assert stats.kstest(below.ravel(), "uniform").pvalue > 0.01
    check = predictive_check(
        bp.fit(straight, Exact(20), key=0), {"mean": lambda y, _: y.mean(axis=1)}, kind="prior", draws=4000
    )
    assert "residuals" not in check.statistics
    k = check.statistics.index("mean")
    y, mean = straight.data.values, again.mean(axis=1)[:, 0]
    assert check.observed[k, 0] == pytest.approx(y.mean())
    assert check.pit[k, 0] == pytest.approx(np.mean(mean < y.mean()), abs=4 * np.sqrt(0.5 / 2000))
    assert 0 < check.pit[k, 0] < 1


def test_prior_predictive_adds_noise_of_known_size(straight):
    found = prior_predictive(straight, key=0, draws=4000)
    assert found["model"].shape == (4000, 9, 1)
    np.testing.assert_array_equal(found["latent"], found["model"])
    r = (found["predictive"] - found["model"]) / 0.3
    assert abs(r.std() - 1) < 4 / np.sqrt(2 * r.size)
    assert prior_predictive(straight, key=0, controls=[[7.0]], draws=10)["latent"].shape == (10, 1, 1)
    with pytest.raises(InputError, match=r"draws = 2\.5 is not a whole number"):
        prior_predictive(straight, key=0, draws=2.5)
    with pytest.raises(InputError, match="draws = 1"):
        prior_predictive(straight, key=0, draws=1)


@pytest.mark.arviz
@pytest.mark.parametrize("count", [20, 80])
def test_band_of_the_distribution_function_is_simultaneous(count):
    at, low, high = ecdf_band(count)
    u = np.sort(np.random.default_rng(0).random((2000, count)), axis=1)
    F = np.stack([np.searchsorted(row, at, side="right") / count for row in u])
    inside = np.all((F - low >= -1e-9) & (high - F >= -1e-9), axis=1).mean()
    assert inside == pytest.approx(0.95, abs=0.025)


def test_pictures_have_their_panels(future, fitted, tmp_path):
    figure = plot_pit({"inside": np.linspace(0.01, 0.99, 30), "outside": [0.1, np.nan, 0.4]})
    assert [ax.get_title() for ax in figure.axes] == ["inside", "outside"]
    figure.savefig(tmp_path / "pit.png")
    at = np.linspace(-1, 3, 9)[:, None]
    figure = plot_reliability(judge_fit(fitted, at, 1.5 - 0.8 * at))
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "inside, 5 values",
        "outside, 4 values",
    ]
    figure.savefig(tmp_path / "reliability.png")
    figure = plot_left_out(future)
    assert len(figure.axes) == 1
    assert len(figure.legends[0].get_texts()) == 5
    figure.savefig(tmp_path / "left.png")
    with pytest.raises(InputError, match="from 0 to 1"):
        plot_pit([1.2])
    with pytest.raises(InputError, match="no control"):
        plot_left_out(future, "h")


@pytest.mark.slow
def test_the_page_on_judging_runs():
    page = Path(__file__).parent.parent / "docs" / "judging.md"
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    names = {}
    exec(compile(code, str(page), "exec"), names)
    assert np.all(names["low"] <= names["high"])
    assert names["future"].refits


@pytest.mark.parametrize("size", [0.6, 0.8])
def test_moment_matching_gives_the_density_of_a_datum_that_holds_the_posterior(size):
    """A normal prior and one normal datum: without it the prior remains, 1/size times as wide as the posterior."""
    y, variance = 2.0, 1 / (1 + 1 / size**2)
    x = variance * y / size**2 + np.sqrt(variance) * np.random.default_rng(0).normal(size=(8000, 1))

    def evaluate(x):
        ll = stats.norm(x, size).logpdf(y)
        return stats.norm(0, 1).logpdf(x[:, 0]) + ll[:, 0], ll

    lp, ll = evaluate(x)
    found, k = _match(0, x, lp, ll[:, 0], np.zeros(len(x)), evaluate, 0.4, 1.0)
    assert k < 0.7
    assert found == pytest.approx(stats.norm(0, np.hypot(1, size)).logpdf(y), abs=0.05)


@dataclass(frozen=True)
class Spoiled(Exact):
    """Exact draws, but of the n-th run one is no number."""

    bad: int = 1
    runs: list = field(default_factory=list)

    def run(self, posterior, key, *, progress=silent, checkpoint=None):
        found = super().run(posterior, key, progress=progress, checkpoint=checkpoint)
        self.runs.append(1)
        if len(self.runs) == self.bad:
            found.sites["shift"][0, 3] = np.nan
        return found


def test_a_refit_that_is_not_finite_is_a_failed_one(straight):
    future = leave_future_out(straight, Spoiled(200, bad=2), key=0)
    assert [r.status == "failed" for r in future.refits] == [False, True]
    assert "not finite" in future.refits[1].reasons[0]
    np.testing.assert_array_equal(np.isnan(future.log_density), future.refit == 1)
    folds = k_fold(straight, Spoiled(200), 3, key=0)
    np.testing.assert_array_equal(np.isnan(folds.z), folds.refit == 0)
    with pytest.warns(UserWarning, match="not left out to learn the defect: upper end of g: .*not finite"):
        assert bp.learn_defect(straight, Spoiled(200), key=0).scale > 0
