"""Conditions and grids as users write them: read right, or refused in one line that helps."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pmm.conditions import Condition, parse_where
from bayes_pmm.errors import InputError
from bayes_pmm.grids import controls_from_at, parse_grid, read_grid


@pytest.fixture
def table(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def message_of(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable(), message
    return message


# --- conditions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g<=1", [("g", "<=", 1.0)]),
        (" g >= -1e-3 ", [("g", ">=", -1e-3)]),
        ("c3>-4 and c1<=0", [("c3", ">", -4.0), ("c1", "<=", 0.0)]),
        ("a==1 and a!=2\tand b<.5", [("a", "==", 1.0), ("a", "!=", 2.0), ("b", "<", 0.5)]),
        ("E (MeV) <3", [("E (MeV)", "<", 3.0)]),
        ("<n>>=3", [("<n>", ">=", 3.0)]),
        ("band<1 and brandy>2", [("band", "<", 1.0), ("brandy", ">", 2.0)]),
    ],
)
def test_conditions_are_read(text, expected):
    assert parse_where(text) == [Condition(*item) for item in expected]


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "''"),
        ("g", "g is not"),
        ("g=1", "g=1"),
        ("<1", "<1"),
        ("g<", "g<"),
        ("1<g", "1<g"),
        ("g<one", "g<one"),
        ("g<inf", "g<inf"),
        ("g<nan", "g<nan"),
        ("g<1_0", "g<1_0"),
        ("a<1 and", "'' is not"),
        ("a<1 and and b<2", "'' is not"),
        ("a<1 or b<2x", "a<1 or b<2x"),
        ("a<1, b=2", "a<1, b=2"),
        ("a\n<x", "'a\\n<x'"),
    ],
)
def test_pieces_that_are_no_comparison_are_named(text, piece):
    message = message_of(parse_where, text)
    assert message.startswith("--where ")
    assert piece in message


# --- grids


def test_a_grid_is_a_product_with_the_first_control_slowest():
    grid = parse_grid(" c3=-4:-6:2, c1 = 0:1:3 ,k=7", ["c1", "c3", "k"])
    np.testing.assert_array_equal(
        grid, [[0, -4, 7], [0, -6, 7], [0.5, -4, 7], [0.5, -6, 7], [1, -4, 7], [1, -6, 7]]
    )


def test_a_grid_equals_linspace_and_takes_the_largest_floats():
    np.testing.assert_array_equal(parse_grid("g=0:3:61", ["g"])[:, 0], np.linspace(0, 3, 61))
    np.testing.assert_array_equal(parse_grid("g=-1.7e308:1.7e308:3", ["g"])[:, 0], [-1.7e308, 0, 1.7e308])
    assert parse_grid("a=0:1:1000,b=0:1:1000", ["a", "b"]).shape == (1_000_000, 2)
    assert parse_grid("g=2:2:1", ["g"]).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["'' is not"]),
        ("a=0:1:3", ["control b is missing"]),
        ("a=0:1:3,b=1,a=2", ["control a", "twice"]),
        ("a=0:1:3,b=1,c=2", ["no control c", "a, b"]),
        ("a=0:1:3,b", ["b is not NAME"]),
        ("a=0:1:3,b=", ["b= is not NAME"]),
        ("a=0:1:3,=1", ["=1 is not NAME"]),
        ("a=0:1:3,", ["'' is not NAME"]),
        ("a=0:1,b=1", ["a=0:1 is not NAME"]),
        ("a=0:1:2:3,b=1", ["a=0:1:2:3 is not NAME"]),
        ("a=0:x:2,b=1", ["a=0:x:2 is not NAME"]),
        ("a=0:inf:2,b=1", ["a=0:inf:2"]),
        ("a=nan,b=1", ["a=nan"]),
        ("a=0:1e999:2,b=1", ["a=0:1e999:2"]),
        ("a=0:1:2.5,b=1", ["a=0:1:2.5", "whole"]),
        ("a=0:1:-2,b=1", ["a=0:1:-2", "whole"]),
        ("a=0:1:0,b=1", ["a=0:1:0", "at least 2"]),
        ("a=0:1:1,b=1", ["a=0:1:1", "at least 2"]),
        ("a=1:1:5,b=1", ["a=1:1:5", "different ends", "a=1.0"]),
        ("a=0:1:1001,b=0:1:1000", ["1,000,000", "lower the counts"]),
        ("a=0:1:999999999999999999,b=0:1:999999999999999999", ["1,000,000"]),
        (f"a=0:1:{'9' * 5000},b=1", ["is not NAME"]),
    ],
)
def test_bad_grids_are_refused(text, words):
    message = message_of(parse_grid, text, ["a", "b"])
    assert message.startswith("grid ")
    assert len(message) < 400
    assert all(word in message for word in words), message


def test_a_grid_file_keeps_the_order_of_its_rows_and_takes_columns_by_name(table):
    path = table("E,b,a\nx,3,0\n,1,2\nnan,1,2\n")
    np.testing.assert_array_equal(read_grid(path, ["a", "b"]), [[0, 3], [2, 1], [2, 1]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\n0\n", ["no column b"]),
        ("a,b,a\n0,1,2\n", ["column a", "2 times"]),
        ("a,b\n0,1\n1,\n", ["line 3, column b", "empty"]),
        ("a,b\n0,1\nx,1\n", ["line 3, column a", "x is not"]),
        ("a,b\n0,inf\n", ["line 2, column b", "infinite"]),
        ("a,b\n", ["no row"]),
    ],
)
def test_bad_grid_files_are_refused(table, content, words):
    message = message_of(read_grid, table(content), ["a", "b"])
    assert all(word in message for word in words), message


def test_at_is_rest_a_grid_or_a_file(table):
    rest = np.array([[5.0], [6.0]])
    assert controls_from_at("rest", ["g"], rest) is rest
    np.testing.assert_array_equal(controls_from_at("g=0:1:2", ["g"], rest), [[0], [1]])
    np.testing.assert_array_equal(
        controls_from_at(str(table("g\n3\n4\n", "g=1.csv")), ["g"], None), [[3], [4]]
    )


@pytest.mark.parametrize(
    ("at", "rest", "words"),
    [
        ("rest", None, ["--at rest", "no --where"]),
        ("rest", np.zeros((0, 1)), ["--at rest", "excluded no row"]),
        ("absent.csv", None, ["absent.csv", "no such file", "g=0:1:11"]),
        ("0:1:5", None, ["0:1:5", "no such file", "g=0:1:11"]),
        ("h=0:1:5", None, ["no control h"]),
        ("a\0b", None, ["no such file"]),
    ],
)
def test_bad_at_is_refused(at, rest, words):
    message = message_of(controls_from_at, at, ["g"], rest)
    assert all(word in message for word in words), message


# --- anything at all


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from(["a", "b", "=", ":", ",", "0", "1", "-2.5e3", "<", ">=", " and ", " "]), max_size=20
    ).map("".join)
)
def test_random_options_end_in_a_result_or_an_input_error(text):
    for parse in (parse_where, lambda text: parse_grid(text, ["a", "b"])):
        try:
            result = parse(text)
        except InputError as error:
            message = str(error)
        else:
            message = "fine"
            assert len(result) > 0
        assert message.isprintable()


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=6, unique=True))
def test_numbers_written_by_repr_come_back_exactly(tmp_path_factory, numbers):
    path = Path(tmp_path_factory.getbasetemp()) / "repr.csv"
    path.write_text("g\n" + "\n".join(map(repr, numbers)) + "\n")
    assert read_grid(path, ["g"])[:, 0].tolist() == numbers
