"""Datasets: what they refuse, what they keep, and where their controls end."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pmm.columns import shown
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError

NAN, INF = float("nan"), float("inf")


def good(**changes):
    fields = {
        "controls": [[0.0, 1.0], [1.0, 1.0], [2.0, 3.0]],
        "values": [[1.0, NAN], [2.0, 5.0], [3.0, 6.0]],
        "errors": [[0.1, NAN], [0.2, 0.0], [0.3, 0.0]],
        "control_names": ["a", "b"],
        "output_names": ["E0", "E1"],
    }
    return fields | changes


def test_what_is_given_comes_back_in_float64_and_read_only():
    data = Dataset(**good())
    assert (data.n_rows, data.n_controls, data.n_outputs, data.n_observed) == (3, 2, 2, 5)
    assert data.control_names == ("a", "b")
    np.testing.assert_array_equal(data.mask, [[True, False], [True, True], [True, True]])
    np.testing.assert_array_equal(data.errors, [[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]])
    np.testing.assert_allclose(data.rms_errors, [np.sqrt((0.01 + 0.04 + 0.09) / 3), 0.0], rtol=1e-15)
    for array in (data.controls, data.values, data.errors):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1.0


def test_later_changes_to_the_users_arrays_do_not_reach_it():
    controls = np.array([[0.0], [1.0]])
    data = Dataset(controls, np.array([[1.0], [2.0]]), None, ["g"], ["E0"])
    controls[0, 0] = 7.0
    assert data.controls[0, 0] == 0.0
    np.testing.assert_array_equal(data.errors, np.zeros((2, 1)))


def test_rms_of_errors_counts_only_observed_rows_and_does_not_overflow():
    data = Dataset([[0.0], [1.0], [2.0]], [[1.0], [NAN], [2.0]], [[3e200], [9e300], [4e200]], ["g"], ["E"])
    np.testing.assert_allclose(data.rms_errors, [5e200 / np.sqrt(2)], rtol=1e-14)


BAD = {
    "control missing": ({"controls": [[0, 1], [NAN, 1], [2, 3]]}, ["row 1", "column a", "missing"]),
    "control infinite": ({"controls": [[0, 1], [1, 1], [2, -INF]]}, ["row 2", "column b", "infinite"]),
    "control constant": ({"controls": [[0, 1], [1, 1], [2, 1]]}, ["column b", "constant", "1.0"]),
    "control constant where observed": (
        {"controls": [[0, 1], [0, 2], [2, 3]], "values": [[1, 2], [3, 4], [NAN, NAN]], "errors": None},
        ["column a", "constant"],
    ),
    "no control": ({"controls": np.zeros((3, 0)), "control_names": []}, ["no controls"]),
    "no output": ({"values": np.zeros((3, 0)), "output_names": [], "errors": None}, ["no outputs"]),
    "control twice": ({"control_names": ["a", "a"]}, ["column a", "twice"]),
    "output twice": ({"output_names": ["E0", "E0"]}, ["column E0", "twice"]),
    "control is output": ({"output_names": ["E0", "a"]}, ["column a", "twice"]),
    "name empty": ({"output_names": ["E0", ""]}, ["column ''", "not empty"]),
    "name no text": ({"output_names": ["E0", 3]}, ["column 3"]),
    "controls flat": ({"controls": [0.0, 1.0, 2.0]}, ["controls", "(N, 2)", "(3,)"]),
    "names missing": ({"control_names": ["a"]}, ["controls", "(N, 1)", "(3, 2)"]),
    "values short": ({"values": [[1, 2], [3, 4]]}, ["outputs", "(3, 2)", "(2, 2)"]),
    "errors flat": ({"errors": [0.1, 0.1]}, ["errors", "(3, 2)", "(2,)"]),
    "labels short": ({"row_labels": ["line 2"]}, ["row_labels", "expected 3, got 1"]),
    "ragged": ({"values": [[1, 2], [3], [4, 5]]}, ["outputs", "rectangular"]),
    "text": ({"values": [["1", "2"], ["3", "4"], ["5", "6"]]}, ["outputs", "real numbers"]),
    "complex": ({"values": np.ones((3, 2)) * 1j}, ["outputs", "real numbers"]),
    "value infinite": ({"values": [[1, 2], [3, INF], [4, 5]]}, ["row 1", "column E1", "infinite"]),
    "output missing": ({"values": [[1, NAN], [3, NAN], [4, NAN]]}, ["column E1", "every value"]),
    "error negative": ({"errors": [[0.1, 0], [-0.2, 0], [1, 0]]}, ["row 1", "column E0", "-0.2"]),
    "error zero": ({"errors": [[0.1, 0], [0.0, 0], [1, 0]]}, ["row 1", "column E0", "is 0.0"]),
    "error infinite": ({"errors": [[0.1, 0], [0.1, 0], [1, INF]]}, ["row 1", "column E1", "is 0.0"]),
    "errors all infinite": ({"errors": [[0.1, 0], [0.1, INF], [1, INF]]}, ["row 1", "column E1", "is inf"]),
    "error missing": ({"errors": [[0.1, 0], [0.1, 0], [NAN, 0]]}, ["row 2", "column E0", "missing"]),
    "no rows": ({"controls": np.zeros((0, 2)), "values": np.zeros((0, 2)), "errors": None}, ["no rows (0)"]),
    "named by the reader": (
        {
            "values": [[1, 2], [3, INF], [4, 5]],
            "source": "t.csv",
            "row_labels": ["line 2", "line 4", "line 5"],
        },
        ["t.csv: line 4, column E1: "],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case):
    changes, words = BAD[case]
    with pytest.raises(InputError) as caught:
        Dataset(**good(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_columns_keep_their_order_and_errors_find_their_output():
    data = Dataset.from_columns(
        {"b": [1, 2, 3], "a": [0.0, 1.0, 5.0]},
        {"E1": [1.0, None, 3.0], "E0": [4.0, 5.0, 6.0], "r": np.ma.masked_equal([7.0, -1.0, 9.0], -1.0)},
        {"E0": 0.5, "r": [0.1, 0.2, 0.3]},
    )
    assert data.control_names == ("b", "a")
    assert data.output_names == ("E1", "E0", "r")
    np.testing.assert_array_equal(data.controls, [[1, 0], [2, 1], [3, 5]])
    np.testing.assert_array_equal(data.values, [[1, 4, 7], [NAN, 5, NAN], [3, 6, 9]])
    np.testing.assert_array_equal(data.errors, [[0, 0.5, 0.1], [0, 0.5, 0], [0, 0.5, 0.3]])


BAD_COLUMNS = {
    "no control": (({}, {"E": [1, 2]}), ["no controls"]),
    "no output": (({"g": [1, 2]}, {}), ["no controls or no outputs"]),
    "lengths": (({"g": [1, 2, 3]}, {"E": [1, 2]}), ["output E", "expected 3", "(2,)"]),
    "scalar output": (({"g": [1, 2]}, {"E": 1.0}), ["output E", "expected 2"]),
    "error of nothing": (({"g": [1, 2]}, {"E": [1, 2]}, {"F": 0.1}), ["error F", "no such output", "E"]),
    "error length": (({"g": [1, 2]}, {"E": [1, 2]}, {"E": [0.1]}), ["error E", "expected 2"]),
    "error negative": (({"g": [1, 2]}, {"E": [1, 2]}, {"E": -0.1}), ["row 0", "column E", "-0.1"]),
    "text": (({"g": ["x", "y"]}, {"E": [1, 2]}), ["control g", "real numbers"]),
    "table": (({"g": [[1, 2], [3, 4]]}, {"E": [1, 2]}), ["control g", "(2, 2)"]),
    "newline in a name": (({"g\nh": [1, 1]}, {"E": [1, 2]}), ["column 'g\\nh'", "constant"]),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_bad_columns_are_refused_in_one_line(case):
    arguments, words = BAD_COLUMNS[case]
    with pytest.raises(InputError) as caught:
        Dataset.from_columns(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_selected_rows_keep_their_names_in_messages():
    data = Dataset.from_columns({"g": [0.0, 1, 2, 3]}, {"E": [1.0, 2, NAN, 4]}, {"E": [0.1, 0.2, 0, 0.4]})
    part = data.select([3, 1])
    np.testing.assert_array_equal(part.controls, [[3.0], [1.0]])
    np.testing.assert_array_equal(part.errors, [[0.4], [0.2]])
    assert part.row_labels == ("row 3", "row 1")
    assert part.select(np.array([True, True])).row_labels == ("row 3", "row 1")
    with pytest.raises(InputError, match="every value is missing"):
        data.select([2])
    for wrong in ([9], ["a"], [0.5, 1.0], [True], [[0, 1]], 1, []):
        with pytest.raises(InputError, match="rows: expected row numbers from 0 to"):
            data.select(wrong)
    with pytest.raises(InputError, match="constant"):
        data.select([1])


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([0.5, 0.5], "expected shape (K, 2), got (2,)"),
        ([[0.5]], "expected shape (K, 2), got (1, 1)"),
        ([[0.5, 0.5], [NAN, 0.5]], "row 1, column a: nan"),
        ([["x", "y"]], "real numbers"),
    ],
)
def test_bad_new_controls_are_refused(points, words):
    data = Dataset.from_columns({"a": [0, 1], "b": [0, 1]}, {"E": [1, 2]})
    with pytest.raises(InputError, match=re.escape(words)):
        data.extrapolated(points)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda p: st.tuples(
            st.lists(st.lists(st.floats(), min_size=p, max_size=p), min_size=1, max_size=6),
            st.lists(st.floats(), min_size=6, max_size=6),
            st.lists(st.floats(), min_size=6, max_size=6),
        )
    )
)
def test_any_numbers_make_a_dataset_or_an_input_error(drawn):
    controls, values, errors = drawn
    n, p = len(controls), len(controls[0])
    try:
        data = Dataset(
            controls,
            np.array(values[:n])[:, None],
            np.array(errors[:n])[:, None],
            [f"c{i}" for i in range(p)],
            ["E"],
        )
    except InputError:
        return
    assert np.isfinite(data.controls).all()
    assert np.isfinite(data.errors).all()
    assert np.isfinite(data.rms_errors).all()
    observed = data.mask[:, 0]
    assert not data.extrapolated(data.controls)[observed].any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("E 0", "E 0"),
        (" E", "' E'"),
        ("", "''"),
        ("a\u2028b", "'a\\u2028b'"),
        ("x" * 99, f"{'x' * 30}...{'x' * 27}"),
    ],
)
def test_names_are_shown_in_one_short_line(text, expected):
    assert shown(text) == expected


def test_fewer_rows_than_outputs_are_taken_for_a_transposed_table_where_users_give_data():
    columns = {name: [1.0, 2.0] for name in "xyz"}
    with pytest.warns(UserWarning, match=r"fewer rows \(2\) than outputs \(3\).*transpose"):
        assert Dataset.from_columns({"c": [0.0, 1.0]}, columns).n_rows == 2
    # Left-out rows may leave as few.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = Dataset([[0.0], [1.0]], np.ones((2, 3)), None, ("c",), tuple("xyz"))
    assert few.n_rows == 2


def test_as_a_dataframe():
    data = Dataset.from_columns({"g": [0.0, 1.0]}, {"E0": [1.0, np.nan], "E1": [3.0, 4.0]}, {"E1": 0.1})
    table = data.to_dataframe()
    assert list(table.columns) == ["g", "E0", "E1", "error E1"]
    again = Dataset.from_columns(table[["g"]], table[["E0", "E1"]], {"E1": table["error E1"]})
    for name in ("controls", "values", "errors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))


def test_coordinates_of_an_xarray_dataset_are_columns():
    ds = xr.Dataset({"E0": ("g", [1.0, 2.0])}, coords={"g": [0.0, 1.0]})
    data = Dataset.from_columns(ds[["g"]], ds[["E0"]])
    np.testing.assert_array_equal(data.controls, [[0.0], [1.0]])
    np.testing.assert_array_equal(data.values, [[1.0], [2.0]])


def test_control_columns_avoid_the_names_of_a_table():
    data = Dataset.from_columns({"z": [1.0, 2.0, 3.0], "c": [0.0, 1.0, 3.0]}, {"E0": [1.0, 2.0, 3.0]})
    columns = data.control_columns([2, 0], ("z", "pit"))
    assert list(columns) == ["control z", "c"]
    np.testing.assert_array_equal(columns["control z"], [3.0, 1.0])


def test_columns_may_be_tables_or_one_named_column():
    table = pd.DataFrame({"g": [0.0, 1.0, 2.0], "E0": [1.0, 2.0, 3.0], "E1": [4.0, 5.0, 6.0]})
    data = Dataset.from_columns(table["g"], table[["E0", "E1"]], 0.1)
    assert (data.control_names, data.output_names) == (("g",), ("E0", "E1"))
    np.testing.assert_array_equal(data.errors, 0.1)
    np.testing.assert_array_equal(data.controls[:, 0], table["g"])
    for bad in (table["g"].to_numpy(), [1.0, 2.0]):
        with pytest.raises(InputError, match="no names of columns"):
            Dataset.from_columns(bad, table[["E0"]])


def test_tables_with_names_are_read_by_these():
    table = pd.DataFrame(
        {"g": [0.0, 1.0, 2.0], "h": [5.0, 7.0, 6.0], "E0": [1.0, 2.0, 3.0], "E1": [4.0, 5.0, 6.0]}
    )
    data = Dataset(table[["h", "g"]], table[["E1", "E0"]], None, ("g", "h"), ("E0", "E1"))
    np.testing.assert_array_equal(data.controls[:, 0], table["g"])
    np.testing.assert_array_equal(data.values[:, 0], table["E0"])
    with pytest.raises(InputError, match="column J is missing"):
        Dataset(table[["h"]], table[["E0"]], None, ("J",), ("E0",))


def test_tables_with_other_row_labels_are_not_paired_by_position():
    frame = pd.DataFrame({"g": [0.0, 1.0, 2.0], "E0": [0.5, 0.7, 0.8], "e": [0.1, 0.1, 0.2]})
    turned = frame.sort_values("g", ascending=False)
    for make in (
        lambda: Dataset.from_columns(frame[["g"]], turned[["E0"]]),
        lambda: Dataset.from_columns({"g": frame["g"]}, {"E0": turned["E0"]}),
        lambda: Dataset.from_columns(frame[["g"]], frame[["E0"]], {"E0": turned["e"]}),
        lambda: Dataset(frame[["g"]], turned[["E0"]], None, ("g",), ("E0",)),
        lambda: Dataset.from_columns(
            {"g": frame.set_index("g").to_xarray()["g"]}, {"E0": turned.set_index("g").to_xarray()["E0"]}
        ),
    ):
        with pytest.raises(InputError, match="rows have different labels"):
            make()
    # Bare numbers, and tables of one order, are what they were.
    data = Dataset.from_columns(turned[["g"]], turned[["E0"]], {"E0": turned["e"].to_numpy()})
    assert data.controls[0, 0] == 2.0
    mixed = Dataset.from_columns({"g": [0.0, 1.0, 2.0]}, {"E0": turned["E0"]})
    assert mixed.values[0, 0] == 0.8


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (pd.date_range("2024-01-01", periods=3), r"\(t - t0\) / np.timedelta64"),
        (np.array([1.0, 2.0, 3.0]) + 0j, r"\.real"),
        (["1.0", "2.0", "3.0"], "pandas.to_numeric"),
        ([[1.0], [2.0, 3.0], [1.0]], "columns of one length"),
    ],
)
def test_messages_say_how_to_convert(values, remedy):
    with pytest.raises(InputError, match=remedy):
        Dataset.from_columns({"g": [0.0, 1.0, 2.0]}, {"E0": values})


def test_the_missing_value_of_pandas_is_one():
    values = np.array([0.5, pd.NA, 0.8], dtype=object)
    assert list(Dataset.from_columns({"g": [0.0, 1.0, 2.0]}, {"E0": values}).mask[:, 0]) == [
        True,
        False,
        True,
    ]


def test_a_text_is_one_name():
    data = Dataset(np.arange(3.0)[:, None], np.arange(3.0)[:, None], None, "field", "E0")
    assert (data.control_names, data.output_names) == (("field",), ("E0",))


def test_rows_by_a_slice():
    data = Dataset(np.arange(5.0)[:, None], np.arange(5.0)[:, None], None, ("g",), ("E0",))
    assert data.select(slice(1, 4)).controls.ravel().tolist() == [1.0, 2.0, 3.0]


def test_what_to_do_about_columns_that_are_not_flat_or_have_no_name():
    with pytest.raises(InputError, match=r"give it flat \(\.ravel\(\)\)"):
        Dataset.from_columns({"g": np.ones((8, 1))}, {"E0": np.ones(8)})
    with pytest.raises(InputError, match=r"rename it, for example with df\.columns"):
        Dataset.from_columns({0: [0.0, 1.0]}, {"E0": [0.0, 1.0]})
