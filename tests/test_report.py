"""The report: what a reader has to know about a run stands on the page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from canned import canned

from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.report import SHOWN, render_report, summary


@pytest.fixture(scope="module")
def fit():
    fit = canned(("g",), ("E0", "E1"), error=0.125)
    info = fit.draws.info | {"warmup": 7, "seconds": 8.2, "total_seconds": 63.9}
    return replace(fit, draws=replace(fit.draws, info=info))


def test_the_summary_is_json_whatever_the_numbers(fit):
    """Chains that stay at different places have an infinite R-hat, for which JSON has no word."""
    info = fit.draws.info | {"against_exact": {"sampler": "nuts", "shift": float("nan")}, "seconds": np.inf}
    failed = replace(
        fit, diagnosis=Diagnosis("failed", ("x",), np.inf, np.nan, 0), draws=replace(fit.draws, info=info)
    )
    found = json.loads(json.dumps(summary(failed), allow_nan=False))
    assert found["max_rhat"] is found["min_ess"] is found["seconds"] is None
    assert found["against_exact"] == {"sampler": "nuts", "shift": None}
    assert found["sigma"] == summary(fit)["sigma"]
    failed = replace(failed, draws=fit.draws)
    assert "Largest R-hat inf, smallest effective sample size nan" in text_of(render_report(failed))


def text_of(page):
    """The page without its pictures and markup."""
    page = re.sub(r"<(style|img).*?(</style>|>)", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_the_page_says_where_the_data_are_from_and_how_long_it_took(fit):
    about = {"data file": "a<b.csv", "where": "g<=1", "seed": "5", "begun": "2020-01-02 03:04 UTC"}
    page = render_report(fit, None, None, about)
    text = text_of(page)
    assert "a&lt;b.csv" in page
    assert "2020-01-02 03:04 UTC" in text
    assert "2 with 7 warm-up draws and 12 draws each, sampling 8.2 s of 63.9 s" in text
    assert "Bands in numbers" not in text


def test_the_floor_stands_beside_the_known_errors_and_the_spread(fit):
    spread = np.std(fit.posterior.data.values[:, 0])
    floor = np.median(fit.draws.sites["floor"][..., 0], axis=1).mean()
    assert f"E0 {spread:.4g} 0.125 {floor:.4g}" in text_of(render_report(fit))


def test_a_short_table_of_the_bands(fit):
    bands = fit.predict(np.linspace(0, 2, 50), levels=0.68)
    text = text_of(render_report(fit, bands))
    assert f"{SHOWN} of 50 controls" in text
    assert "median 68 % from to" in text
    first = re.search(r" 0 E0 (\S+) (\S+) (\S+) ", text)
    numbers = [bands.quantile(q)[0, 0] for q in (0.5, 0.16, 0.84)]
    np.testing.assert_allclose([float(x) for x in first.groups()], numbers, rtol=0.01, atol=0.01)
    assert "outside the data" in text


def test_the_masses_of_modes_are_called_what_they_are(fit):
    modes = [{"chains": [0], "mass": 0.25}, {"chains": [1], "mass": 0.75}]
    found = replace(fit, draws=replace(fit.draws, info=fit.draws.info | {"modes": modes}))
    text = text_of(render_report(found))
    assert "mass by left-out data (pseudo-BMA+)" in text
    info = fit.draws.info | {"modes": modes, "masses_by": "bridge sampling"}
    assert "mass by bridge sampling" in text_of(
        render_report(replace(fit, draws=replace(fit.draws, info=info)))
    )
    assert "stacking" not in text
