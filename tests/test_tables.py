"""Tables as users write them: read right, or refused in one line that helps."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.tables import read_dataset, read_table

NAN = float("nan")
PLAIN = "g,E0,E1,s0,note\n0,1,2,.1,x\n1,3,4,.2,y\n2,5,6,.3,z\n"
LONG = "g,which,value,err\n0,E0,1,.1\n0,E1,2,.2\n1,E0,3,.3\n1,other,x,y\n2,E1,,\n2,E1,5,.5\n"


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


# --- good tables


def test_a_plain_table_is_read_in_the_order_of_the_options(table):
    data, rest = read_dataset(table(PLAIN), ["g"], ["E1", "E0"], ["-", "s0"])
    assert rest is None
    assert data.control_names == ("g",)
    assert data.output_names == ("E1", "E0")
    np.testing.assert_array_equal(data.controls, [[0], [1], [2]])
    np.testing.assert_array_equal(data.values, [[2, 1], [4, 3], [6, 5]])
    np.testing.assert_array_equal(data.errors, [[0, 0.1], [0, 0.2], [0, 0.3]])
    assert data.row_labels == ("line 2", "line 3", "line 4")


SAME = {
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "windows": PLAIN.replace("\n", "\r\n"),
    "old mac": PLAIN.replace("\n", "\r"),
    "no newline at the end": PLAIN.rstrip("\n"),
    "blank lines at the end": PLAIN + "\n  \n\r\n",
    "rows of commas at the end": PLAIN + ",,,,\n,, ,\n",
    "a spreadsheet's line of the separator": "sep=,\n" + PLAIN,
    "spaces": PLAIN.replace(",", " ,  "),
    "tabs around": PLAIN.replace(",", "\t,\t"),
    "quotes": '"g", "E0","E1","s0","no,te"\n"0","1", "2",".1","x\ny"\n1,3,4,.2,","\n2,5,6,.3,""""\n',
    "exponents": PLAIN.replace("\n1,3,", "\n+1.,30e-1,").replace(",5,6,", ",.5E+1,6.0,"),
    "comments": '# made by hand, "roughly\n#\n' + PLAIN.replace("\n1,", "\n  # 9,9,9\n1,") + "# end",
    "accents": PLAIN.replace("note", "größe"),
    "duplicates that nobody uses": "x,g,E0,E1,s0,x\n,0,1,2,.1,\na,1,3,4,.2,b\n1,2,5,6,.3,2\n",
}


@pytest.mark.parametrize("case", SAME)
def test_ways_of_writing_the_same_table(table, case):
    reference, _ = read_dataset(table(PLAIN, "reference.csv"), ["g"], ["E0", "E1"], ["s0", "-"])
    data, _ = read_dataset(table(SAME[case]), ["g"], ["E0", "E1"], ["s0", "-"])
    np.testing.assert_array_equal(data.controls, reference.controls)
    np.testing.assert_array_equal(data.values, reference.values)
    np.testing.assert_array_equal(data.errors, reference.errors)


def test_names_with_spaces_commas_and_unicode(table):
    path = table('"γ, Δ",E (MeV)\n0,1\n1,2\n')
    data, _ = read_dataset(path, ["γ, Δ"], ["E (MeV)"])
    assert data.control_names + data.output_names == ("γ, Δ", "E (MeV)")


def test_missing_cells_and_rows_without_any_output(table):
    text = "g,E0,E1,s\n0,,nan,\n1,NaN,2,.1\n2,3, ,?\n3,-NAN,5,.2\n"
    data, _ = read_dataset(table(text), ["g"], ["E0", "E1"], [None, "s"])
    np.testing.assert_array_equal(data.controls, [[1], [2], [3]])
    np.testing.assert_array_equal(data.values, [[NAN, 2], [3, NAN], [NAN, 5]])
    np.testing.assert_array_equal(data.errors, [[0, 0.1], [0, 0], [0, 0.2]])
    assert data.row_labels == ("line 3", "line 4", "line 5")


def test_cells_that_say_that_they_are_missing(table):
    data, _ = read_dataset(
        table("g,E0,s\n0,1,.1\n1,n/a,n/a\n2,NA,NA\n3,na,\n4,N/A,x\n5,2,.1\n"), "g", "E0", "s"
    )
    np.testing.assert_array_equal(data.controls, [[0], [5]])


def test_a_single_text_is_one_name(table):
    path = table('V (cm),"T0, lower",s\n0,1,.1\n1,2,.1\n')
    data, _ = read_dataset(path, "V (cm)", "T0, lower", "s")
    assert data.control_names + data.output_names == ("V (cm)", "T0, lower")
    np.testing.assert_array_equal(data.errors, [[0.1], [0.1]])


def test_lines_are_counted_with_comments_and_a_quoted_cell_is_none(table):
    found = read_table(table('# a\na,b\n# b\n"x\n# y",1\n2,3 # c\n'))
    assert found.lines == [4, 6]
    assert found.rows == [["x\n# y", "1"], ["2", "3 # c"]]


def test_columns_that_no_option_names_are_never_looked_at(table):
    text = "junk,g,,E0,\n1_0,0,inf,1,x\n,1,nan,2,\n"
    data, _ = read_dataset(table(text), ["g"], ["E0"])
    np.testing.assert_array_equal(data.values, [[1], [2]])


def test_where_splits_the_table_and_rest_keeps_rows_without_outputs(table):
    text = "a,b,E\n0,1,1\n1,2,\n2,3,FAILED\n3,1,4\n4,0,5\n5,9,6\n"
    data, rest = read_dataset(table(text), ["b", "a"], ["E"], where="a>2.5 and b<=1")
    np.testing.assert_array_equal(data.controls, [[1, 3], [0, 4]])
    np.testing.assert_array_equal(rest, [[1, 0], [2, 1], [3, 2], [9, 5]])


def test_where_that_keeps_everything_leaves_an_empty_rest(table):
    _, rest = read_dataset(table(PLAIN), ["g"], ["E0"], where="g<9")
    assert rest.shape == (0, 1)


@pytest.mark.parametrize(
    ("where", "kept"),
    [("n<2", [1]), ("n<=2", [1, 2]), ("n>2", [3]), ("n>=2", [2, 3]), ("n==2", [2]), ("n!=2", [1, 3])],
)
def test_each_comparison(table, where, kept):
    text = "n,a,E\n" + "".join(f"{n},{a},{n}\n" for n in (1, 2, 3) for a in (0, 1))
    data, _ = read_dataset(table(text), ["a"], ["E"], where=where)
    assert sorted(set(data.values[:, 0])) == kept


def test_a_long_table_has_a_row_per_value(table):
    data, rest = read_dataset(table(LONG), ["g"], ["E1", "E0"], ["err"], long=("which", "value"))
    assert rest is None
    assert data.output_names == ("E1", "E0")
    np.testing.assert_array_equal(data.controls, [[0], [0], [1], [2]])
    np.testing.assert_array_equal(data.values, [[NAN, 1], [2, NAN], [NAN, 3], [5, NAN]])
    np.testing.assert_array_equal(data.errors, [[0, 0.1], [0.2, 0], [0, 0.3], [0.5, 0]])


def test_a_long_tables_errors_may_be_known_for_one_output_only(table):
    data, _ = read_dataset(table(LONG), ["g"], ["E1", "E0"], ["-", "err"], long=("which", "value"))
    np.testing.assert_array_equal(data.errors, [[0, 0.1], [0, 0], [0, 0.3], [0, 0]])


def test_a_long_tables_rest_has_each_point_once(table):
    text = "g,w,v\n" + "".join(f"{g},{w},{g}\n" for g in (3, 1, 2, 0) for w in ("p", "q", "r"))
    data, rest = read_dataset(table(text), ["g"], ["p", "q"], where="g<2", long=("w", "v"))
    np.testing.assert_array_equal(data.controls, [[1], [1], [0], [0]])
    np.testing.assert_array_equal(rest, [[3], [2]])


def test_lines_are_counted_as_an_editor_does(table):
    found = read_table(table('a,b\n"x\ny",1\n\n2,3\n'.replace("\n\n", "\n")))
    assert found.lines == [2, 4]
    assert found.header == ["a", "b"]
    assert found.rows == [["x\ny", "1"], ["2", "3"]]


def test_fewer_rows_than_outputs_are_read_with_a_warning(table):
    path = table("g,E0,E1,E2\n0,1,2,3\n1,2,3,4\n")
    with pytest.warns(UserWarning, match=r"t\.csv: fewer rows \(2\) than outputs \(3\).*transpose"):
        data, _ = read_dataset(path, ["g"], ["E0", "E1", "E2"])
    assert data.values.shape == (2, 3)


# --- bad tables

BAD_FILES = {
    "empty": ("", ["empty"]),
    "byte order mark only": (b"\xef\xbb\xbf", ["empty"]),
    "blank": ("\n\n", ["empty"]),
    "a spreadsheet's other separator": ("sep=;\ng;E0\n0;1\n", ["line 1", "separated by ';'", "commas"]),
    "header only": ("g,E0\n", ["no row below the header"]),
    "comments only": ("# a\n#b\n", ["empty"]),
    "all rows are comments": ("id,g\n#1,2\n#2,3\n", ["no row below the header", "comments"]),
    "open quote below a comment": ('# "\ng,E0\n#\n0,"1\n1,2\n', ["line 4", "cannot be read", "quotes"]),
    "blank first line": ("\ng,E0\n0,1\n", ["line 1", "blank", "column names"]),
    "blank line inside": ("g,E0\n0,1\n\n1,2\n", ["line 3", "blank"]),
    "short row": ("g,E0\n0,1\n1\n", ["line 3", "1 cell ", "header has 2"]),
    "long row": ("g,E0\n0,1\n1,2,3\n", ["line 3", "3 cells", "header has 2"]),
    "long row after a cell of two lines": ('g,E0\n0,"1\n"\n1,2,3\n', ["line 4", "3 cells"]),
    "latin 1": ("g,E0\n0,1\n1,ö\n".encode("latin-1"), ["line 3", "not UTF-8", "save"]),
    "utf 16": (PLAIN.encode("utf-16-le"), ["line 1", "NUL"]),
    "nul": (b"g,E0\n0,1\n1,\x002\n", ["line 3", "NUL"]),
    "open quote": ('g,E0\n0,"1\n1,2\n', ["line 2", "cannot be read", "quotes"]),
    "text after a quote": ('g,E0\n0,1\n1,"2"x\n', ["line 3", "cannot be read", "quotes"]),
    "huge cell": ("g,E0\n0," + "1" * 200_000 + "\n", ["line 2", "cannot be read"]),
    "semicolons": ("g;E0\n0,5;1\n", ["line 2", "semicolons", "commas"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_are_no_table_are_refused(table, case):
    content, words = BAD_FILES[case]
    path = table(content)
    message = message_of(read_table, path)
    assert message.startswith(f"{path}: ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["absent.csv", "", "a\0b", "x" * 5000])
def test_paths_that_cannot_be_read_are_refused(tmp_path, name):
    message = message_of(read_table, f"{tmp_path}/{name}")
    assert "cannot be read" in message
    assert "check the path" in message


WIDE = {"controls": ["g"], "outputs": ["E0", "E1"]}
BAD_DATA = {
    "no such control": (PLAIN, {"controls": ["h"]}, ["no column h", "g, E0, E1, s0, note"]),
    "no such output": (PLAIN, {"outputs": ["E7"]}, ["no column E7", "g, E0"]),
    "no such error": (PLAIN, {"errors": ["s0", "s7"]}, ["no column s7"]),
    "case": (PLAIN, {"controls": ["G"]}, ["no column G"]),
    "semicolons": ("g;E0;E1\n0;1;2\n", {}, ["no column g", "semicolons"]),
    "tabs": ("g\tE0\tE1\n0\t1\t2\n", {}, ["no column g", "tabs"]),
    "control not available": ("g,E0,E1\n0,1,2\nNA,3,4\n", {}, ["line 3, column g", "NaN"]),
    "error not available": ("g,E0,E1,s\n0,1,2,n/a\n", {"errors": ["s", "-"]}, ["line 2, column s", "empty"]),
    "header in a comment": ("# g,E0,E1\n0,1,2\n1,2,3\n", {}, ["no column g", "header line", "#", "names"]),
    "no header": ("0,1,2\n1,2,3\n", {}, ["no column g", "header line"]),
    "used twice": ("g,E0,E1, E0\n0,1,2,3\n1,2,3,4\n", {}, ["line 1", "column E0", "2 times"]),
    "control twice": (PLAIN, {"controls": ["g", "g"]}, ["column g", "twice"]),
    "output twice": (PLAIN, {"outputs": ["E0", "E0"]}, ["column E0", "twice"]),
    "control is output": (PLAIN, {"outputs": ["E0", "g"]}, ["column g", "twice"]),
    "error is output": (PLAIN, {"errors": ["E1", "-"]}, ["column E1", "errors", "another option"]),
    "no controls": (PLAIN, {"controls": []}, ["controls", "at least one"]),
    "no outputs": (PLAIN, {"outputs": []}, ["outputs", "at least one"]),
    "empty name": (PLAIN, {"outputs": ["E0", " "]}, ["without a name"]),
    "empty error name": (PLAIN, {"errors": ["s0", ""]}, ["errors", "empty entry"]),
    "errors too few": (PLAIN, {"errors": ["s0"]}, ["errors names 1", "2 outputs"]),
    "control empty": ("g,E0,E1\n0,1,2\n,3,4\n", {}, ["line 3, column g", "empty", "remove"]),
    "control nan": ("g,E0,E1\n0,1,2\nNaN,3,4\n", {}, ["line 3, column g", "NaN"]),
    "control infinite": ("g,E0,E1\n0,1,2\n-inf,3,4\n", {}, ["line 3, column g", "-inf is infinite"]),
    "control text": ("g,E0,E1\n0,1,2\nlow,3,4\n", {}, ["line 3, column g", "low is not a number"]),
    "control of a row without outputs": ("g,E0,E1\n0,1,2\n1,3,4\nx,,\n", {}, ["line 4, column g"]),
    "control constant": ("g,E0,E1\n1,1,2\n1,3,4\n", {}, ["column g", "constant"]),
    "output text": ("g,E0,E1\n0,1,2\n1,none,4\n", {}, ["line 3, column E0", "none is not a number", "empty"]),
    "output underscore": ("g,E0,E1\n0,1,2\n1,1_000,4\n", {}, ["line 3, column E0", "1_000 is not"]),
    "output hexadecimal": ("g,E0,E1\n0,1,2\n1,0x10,4\n", {}, ["line 3, column E0", "0x10 is not"]),
    "output in other digits": ("g,E0,E1\n0,1,2\n1,٣,4\n", {}, ["line 3, column E0", "is not a number"]),
    "output decimal comma": (
        'g,E0,E1\n0,1,2\n1,"1,5",4\n',
        {},
        ["line 3, column E0", "1,5 is not", "a point"],
    ),
    "line of units": ("g,E0,E1\nMeV,MeV,MeV\n0,1,2\n1,3,4\n", {}, ["line 2, column g", "line of units", "#"]),
    "line of units without the control's": ("g,E0,E1\n,MeV,MeV\n0,1,2\n", {}, ["line 2", "line of units"]),
    "where with or": (PLAIN, {"where": "g<=0 or g>1"}, ["'or' is not known", "in the table"]),
    "output with a newline": ('g,E0,E1\n0,1,2\n1,"1\n5",4\n', {}, ["line 3, column E0", "'1\\n5' is not"]),
    "output infinite": ("g,E0,E1\n0,1,2\n1,Infinity,4\n", {}, ["line 3, column E0", "Infinity is infinite"]),
    "output too large": ("g,E0,E1\n0,1,2\n1,1e999,4\n", {}, ["line 3, column E0", "1e999 is infinite"]),
    "output complex": ("g,E0,E1\n0,1,2\n1,1+2j,4\n", {}, ["line 3, column E0", "1+2j is not"]),
    "output missing": ("g,E0,E1\n0,1,\n1,2,\n", {}, ["column E1", "missing in every row;"]),
    "all missing": ("g,E0,E1\n0,,\n1,,\n", {}, ["column E0", "missing in every row;"]),
    "output missing where kept": (
        "g,E0,E1\n0,1,\n1,2,\n2,3,4\n",
        {"where": "g<2"},
        ["column E1", "every row that the condition keeps"],
    ),
    "error empty": ("g,E0,E1,s\n0,1,2,.1\n1,3,4,\n", {"errors": ["s", "-"]}, ["line 3, column s", "empty"]),
    "error zero": ("g,E0,E1,s\n0,1,2,.1\n1,3,4,0\n", {"errors": ["s", "-"]}, ["line 3, column s", "is 0.0"]),
    "errors all zero": (
        "g,E0,E1,s\n0,1,2,0\n1,3,4,0\n",
        {"errors": ["s", "-"]},
        ["line 2, column s", "errors"],
    ),
    "error negative": (
        "g,E0,E1,s\n0,1,2,-1\n1,3,4,1\n",
        {"errors": ["-", "s"]},
        ["line 2, column s", "-1.0"],
    ),
    "error infinite": (
        "g,E0,E1,s\n0,1,2,inf\n1,3,4,1\n",
        {"errors": ["-", "s"]},
        ["line 2, column s", "inf"],
    ),
    "error text": (
        "g,E0,E1,s\n0,1,2,small\n1,3,4,1\n",
        {"errors": ["-", "s"]},
        ["line 2, column s", "small"],
    ),
    "where keeps nothing": (PLAIN, {"where": "g>7"}, ["condition g>7", "no row"]),
    "where names no column": (PLAIN, {"where": "h>7"}, ["no column h"]),
    "where chain": (PLAIN, {"where": "0<g<7"}, ["no column 0<g", "one comparison per 'and'"]),
    "where on text": (PLAIN, {"where": "g>=0 and note<7"}, ["line 2, column note", "x is not a number"]),
    "where on text after a failed one": (PLAIN, {"where": "g>1 and note<7"}, ["line 2, column note"]),
    "where on a gap": ("g,E0,E1\n0,1,2\n1,,4\n", {"where": "E0>0"}, ["line 3, column E0", "where"]),
    "where twice in the header": ("g,E0,E1,n,n\n0,1,2,3,4\n", {"where": "n>0"}, ["column n", "2 times"]),
    "long: no WHICH": (LONG, {"long": ("w", "value")}, ["no column w"]),
    "long: no VALUE": (LONG, {"long": ("which", "v")}, ["no column v"]),
    "long: same column": (LONG, {"long": ("which", "which")}, ["column which", "twice"]),
    "long: control": (LONG, {"long": ("which", "g")}, ["column g", "twice"]),
    "long: no such output": (
        LONG,
        {"long": ("which", "value"), "outputs": ["E0", "E2"]},
        ["column which", "output E2", "E0, E1, other"],
    ),
    "long: two errors": (
        LONG,
        {"long": ("which", "value"), "errors": ["err", "g2"]},
        ["err, g2", "one column"],
    ),
    "long: text": (
        LONG,
        {"long": ("which", "value"), "outputs": ["other"]},
        ["line 5, column value", "x is not"],
    ),
    "long: error": (
        LONG.replace(".5", "-.5"),
        {"long": ("which", "value"), "errors": ["err"]},
        ["line 7, column err", "-0.5"],
    ),
    "long: output only elsewhere": (
        LONG,
        {"long": ("which", "value"), "where": "g>1"},
        ["column value", "output E0", "every row that the condition keeps"],
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused_with_the_place_and_the_mend(table, case):
    content, options, words = BAD_DATA[case]
    path = table(content)
    message = message_of(read_dataset, path, **(WIDE | options))
    assert message.startswith(f"{path}: ")
    assert ";" in message or ", so " in message
    assert all(word in message for word in words), message


# --- anything at all


FRAGMENTS = st.sampled_from(
    [*'gsw,,,,\n\n\r"012 ;\t\0\x0b\u2028é=<', "E0", "2.5", "-1e3", "nan", "inf", "1e999", "and"]
)


def dataset_or_input_error(path, content):
    path.write_bytes(content)
    for options in ({}, {"errors": ["s"]}, {"where": "g>0"}, {"long": ("w", "s")}):
        try:
            data, rest = read_dataset(path, ["g"], ["E0"], **options)
        except InputError as error:
            message = str(error)
        else:
            message = "fine"
            assert isinstance(data, Dataset)
            assert rest is None or rest.shape[1:] == (1,)
        assert message.isprintable()


@settings(derandomize=True, max_examples=150, deadline=None)
@given(content=st.binary(max_size=60))
def test_random_bytes_end_in_a_dataset_or_an_input_error(tmp_path_factory, content):
    dataset_or_input_error(Path(tmp_path_factory.getbasetemp()) / "random.csv", content)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    header=st.sampled_from(["", "g,E0,s,w\n", "w,s,E0,g\n", "g,E0\n"]),
    pieces=st.lists(FRAGMENTS, max_size=40),
)
def test_random_tables_end_in_a_dataset_or_an_input_error(tmp_path_factory, header, pieces):
    dataset_or_input_error(
        Path(tmp_path_factory.getbasetemp()) / "random.csv", (header + "".join(pieces)).encode()
    )


def test_what_users_of_python_may_try(table):
    path = table(PLAIN)
    found, _ = read_dataset(path, "g", ["E0", "E1"], errors={"E1": "s0"})
    same, _ = read_dataset(path, "g", ["E0", "E1"], errors=["-", "s0"])
    np.testing.assert_array_equal(found.errors, same.errors)
    for arguments, words in (
        ((path, "g", ["E0"], {"E1": "s0"}), "errors: E1 is no output; there are E0"),
        (({"g": [0.0]}, "g", ["E0"]), "dict is no path; for a table in memory use Dataset.from_columns"),
        ((path, "g", ["E0"], None, lambda t: t), "give a text, such as 'g <= 1'"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            read_dataset(*arguments)
