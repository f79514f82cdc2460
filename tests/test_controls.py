"""Controls as users have them: matched by name where there are names, refused in one line where they are wrong."""

import numpy as np
import pandas as pd
import pytest
from canned import FromPrior, canned

import bayes_pmm as bp
from bayes_pmm.columns import columns_by_name

J, H = np.array([0.1, 0.5, 2.0]), np.array([0.9, 0.4, 0.3])
PLAIN = np.stack([J, H], axis=1)
TABLE = pd.DataFrame({"note": ["a", "b", "c"], "h": H, "J": J})


@pytest.fixture(scope="module")
def fit():
    return canned()


@pytest.mark.parametrize(
    "controls",
    [
        TABLE,
        TABLE[["h", "J"]],
        {"h": H, "J": J},
        {"h": list(H), "J": pd.Series(J, index=[5, 6, 7])},
        TABLE[["h", "J"]].to_records(index=False),
        pd.DataFrame(PLAIN),
        PLAIN.tolist(),
    ],
    ids=["extra column", "exchanged", "dict", "dict of others", "records", "without names", "list"],
)
def test_names_decide_and_not_the_order(fit, controls):
    expected = fit.predict(PLAIN)
    found = fit.predict(controls)
    np.testing.assert_array_equal(found.controls, PLAIN)
    np.testing.assert_array_equal(found.mean["latent"], expected.mean["latent"])
    np.testing.assert_array_equal(fit.sample(controls), fit.sample(PLAIN))
    np.testing.assert_array_equal(
        fit.posterior.data.extrapolated(controls), fit.posterior.data.extrapolated(PLAIN)
    )


def test_the_controls_of_a_fit_are_matched_by_name(fit):
    found = bp.fit(fit.posterior, FromPrior(4), key=0, controls=TABLE)
    np.testing.assert_array_equal(found.controls, PLAIN)


def test_one_value_for_all_rows_and_one_point(fit):
    np.testing.assert_array_equal(fit.predict({"J": J, "h": 0.5}).controls, [[x, 0.5] for x in J])
    assert fit.predict({"J": 1, "h": 0.5}).controls.shape == (1, 2)
    one = canned(("g",), ("E0",))
    for controls in (0.5, np.float64(0.5), [0.5], [[0.5]], {"g": 0.5}, pd.Series([0.5])):
        np.testing.assert_array_equal(one.predict(controls).controls, [[0.5]])


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (TABLE[["h"]], "column J is missing; the table has h"),
        ({"J": J, "h": H[:2]}, "differ in length"),
        (pd.concat([TABLE, TABLE[["h"]]], axis=1), "h is there 2 times"),
        ({"J": J, "h": ["a", "b", "c"]}, "column h: expected real numbers"),
        ("J=0:1:11", "J=0:1:11 is text"),
        ([["a", "b"]], "expected real numbers"),
        ([0.1, 0.9], r"one point as \[\[...\]\]"),
        (TABLE.assign(J=np.nan), "J is not finite"),
    ],
)
def test_wrong_controls_are_one_line(fit, controls, words):
    with pytest.raises(bp.InputError, match=words) as caught:
        fit.predict(controls)
    assert "\n" not in str(caught.value)


def test_exact_values_are_matched_by_name_too(fit):
    exact = fit.posterior.data.values[:3]
    table = pd.DataFrame(exact[:, ::-1], columns=list(fit.posterior.data.output_names[::-1]))
    plain, named = bp.judge_fit(fit, PLAIN, exact), bp.judge_fit(fit, TABLE, table)
    np.testing.assert_array_equal(plain.pits, named.pits)
    with pytest.raises(bp.InputError, match="do not fit 3 controls"):
        bp.judge_fit(fit, PLAIN, exact[:2])
    with pytest.raises(bp.InputError, match="rows have different labels"):
        bp.judge_fit(fit, TABLE, table.iloc[::-1])
    with pytest.raises(bp.InputError, match="every exact value is missing"):
        bp.judge_fit(fit, PLAIN, np.full((3, 3), np.nan))
    with pytest.raises(bp.InputError, match="exact values: the column E1"):
        bp.judge_fit(fit, PLAIN, table[["E0"]])
    for wrong in ([1.0], [1.0, 2.0], [1.0, 1.0, 0.0], ["a", "b", "c"], 1.0):
        with pytest.raises(bp.InputError, match="spread = "):
            bp.judge_fit(fit, PLAIN, exact, spread=wrong)


def test_a_dataset_from_parts_of_a_dataframe():
    table = pd.DataFrame({"g": [0.0, 1.0, 2.0], "E0": [1.0, 2.0, 4.0], "s": 0.1})
    data = bp.Dataset.from_columns(table[["g"]], table[["E0"]], {"E0": table["s"]})
    assert data.control_names == ("g",)
    np.testing.assert_array_equal(data.errors, np.full((3, 1), 0.1))


def test_a_series_must_have_the_name_of_the_control():
    assert columns_by_name(pd.Series([1.0, 2.0], name="g"), ["g"]).tolist() == [1.0, 2.0]
    assert columns_by_name(pd.Series([1.0, 2.0]), ["g"]).tolist() == [1.0, 2.0]
    with pytest.raises(bp.InputError, match="the column is called J where g is wanted"):
        columns_by_name(pd.Series([1.0, 2.0], name="J"), ["g"])


def test_exact_values_may_be_a_series_of_any_name():
    one = canned(("g",), ("E0",))
    exact = pd.Series([1.0, 2.0], name="exact_E0")
    assert bp.judge_fit(one, [0.2, 0.4], exact).table["inside"]["count"] == 2


def test_text_is_no_number_even_where_python_reads_it_as_one():
    with pytest.raises(bp.InputError, match="column g: expected real numbers"):
        columns_by_name({"g": np.array(["1_000", 2.0], dtype=object)}, ["g"])
    assert columns_by_name({"g": np.array([1, None], dtype=object)}, ["g"])[0, 0] == 1


def test_numbers_of_any_shape_without_names_pass():
    assert columns_by_name(np.zeros((2, 3, 4)), ["a"]).shape == (2, 3, 4)
