"""What a console or a notebook shows: a few lines with shapes, names and the status, and no arrays."""

from dataclasses import replace

import numpy as np
import pytest
from canned import canned

import bayes_pmm as bp
from bayes_pmm.checks import predictive_check
from bayes_pmm.diagnostics import Diagnosis


@pytest.fixture(scope="module")
def fit():
    return canned(rows=300, error=0.1)


def test_they_are_short(fit):
    bands = fit.predict(fit.posterior.data.controls)
    judged = bp.judge_fit(fit, [[0.5, 0.5]], [[1.0, 2.0, 1.0]])
    for thing in (fit, fit.posterior, fit.posterior.data, bands, judged):
        text = repr(thing)
        assert len(text.splitlines()) < 15
        assert len(text) < 2000
        assert "array" not in text
        assert "E1" in text or thing is judged


def test_results_and_problems_are_a_few_lines_without_arrays():
    fit = canned(draws=60, error=0.1)
    compared = bp.compare({"a": fit, "b": fit}, key=0)
    task = bp.problems.task("ising/0/1e-2")
    results = {
        fit.draws: "Draws by canned: 2 chains x 60, sites",
        bp.loo(fit): "elpd",
        bp.Evidence(-1.0, 0.1, "bridge", None, 300.0, 2, 9): "log evidence -1.00 ± 0.10 (bridge)",
        compared.models[0]: "Compared('a', ok, elpd",
        task: "Task ising/0/1e-2/10: 10 training points, 2 outputs, 12 points outside",
        task.problem: "Problem(name='ising'",
    }
    for result, words in results.items():
        text = repr(result)
        assert words in text
        assert len(text) < 2000
        assert "array" not in text


def test_data_say_what_is_missing_and_known():
    data = bp.Dataset.from_columns(
        {"g": [0.0, 1.0, 2.0]}, {"E0": [1.0, np.nan, 4.0], "E1": [2.0, 3.0, 5.0]}, {"E1": 0.1}
    )
    text = repr(replace(data, source="levels.csv"))
    assert "levels.csv: 3 rows, 5 data (1 missing)" in text
    assert "g: 0 to 2" in text
    assert "E0: 1 to 4, 1 missing" in text
    assert "E1: 2 to 5, errors known" in text


def test_a_fit_says_its_status_and_how_long_it_took(fit):
    bad = replace(fit, diagnosis=Diagnosis("failed", ("stuck",), 2.0, 3.0, 0))
    assert "status: failed\n  - stuck\n" in repr(bad)
    assert "0.5 s" in repr(fit)
    instant = replace(fit, draws=replace(fit.draws, info=fit.draws.info | {"seconds": 0.0}))
    assert "sampling" not in repr(instant)
    timed = replace(fit, draws=replace(fit.draws, info=fit.draws.info | {"total_seconds": 63.7}))
    assert "sampling 0.5 s of 63.7 s" in str(timed)
    resumed = replace(fit, draws=replace(fit.draws, info=fit.draws.info | {"total_seconds": 0.2}))
    assert "sampling 0.5 s\n" in str(resumed)


def test_bands_show_their_head_and_count_doubts(fit):
    bands = fit.predict([[0.5, 0.5], [9.0, 9.0], [0.4, 0.4]])
    text = repr(bands)
    assert "3 of 9 predictions extrapolated, 3 doubtful" in text
    assert f"STATUS: {bands.status.upper()}" in text
    assert "and 1 more" in text
    assert "predictive" not in text.splitlines()[2]
    html = bands._repr_html_()
    assert "<table" in html
    assert "3 doubtful<br>STATUS" in html


def test_bands_show_digits_for_a_small_width_on_a_large_offset(fit):
    bands = fit.predict([[0.5, 0.5]])
    small = replace(
        bands,
        mean={k: 1e4 + 1e-5 * v for k, v in bands.mean.items()},
        sd={k: 1e-5 * v for k, v in bands.sd.items()},
    )
    shown = {line.split()[3] for line in repr(small).splitlines()[3:6]}
    assert len(shown) == 3


def test_predictive_checks_show_digits_of_the_spread():
    fit = canned(("g",), ("E0",), error=1e-6)
    check = predictive_check(fit)
    moved = replace(check, observed=check.observed + 1e4, replicated=1e-3 * check.replicated + 1e4)
    lines = str(moved).splitlines()
    smallest, largest = (next(x for x in lines if x.split()[0] == name).split()[2] for name in ("min", "max"))
    assert smallest != largest
    assert float(smallest) == pytest.approx(moved.observed[0, 0], abs=1e-3 * check.replicated[0, 0].std())
