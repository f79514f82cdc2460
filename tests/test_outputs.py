"""Expressions of outputs, the levels that they need, and their values; what a PMM refuses."""

import jax
import numpy as np
import pytest

from bayes_pmm import hermitian, model, outputs
from bayes_pmm.basis import Polynomial, parse_basis
from bayes_pmm.errors import InputError
from bayes_pmm.model import PMM, default_dim
from bayes_pmm.outputs import Difference, Expectation, Level, Transition, as_outputs, parse_output

GOOD = {
    "E0": Level(0),
    "E12": Level(12),
    " E2 ": Level(2),
    "E[3]": Level(3),
    "E[-1]": Level(-1),
    "E[ -2 ]": Level(-2),
    "E1-E0": Difference(1, 0),
    "E1 - E[-1]": Difference(1, -1),
    "E0-E1": Difference(0, 1),
    "<0|A|0>": Expectation("A", 0),
    "< -1 | dipole_x2 | -1 >": Expectation("dipole_x2", -1),
    "|<0|A|1>|^2": Transition("A", 0, 1),
    "|<2|_q|-1>|**2": Transition("_q", 2, -1),
    "| < 0 | A | 1 > | ^ 2": Transition("A", 0, 1),
}
BAD = {
    "": "does not parse",
    "E": "does not parse",
    "e0": "does not parse",
    "E-1": "does not parse",
    "E[1.5]": "does not parse",
    "E0+E1": "does not parse",
    "E1-E0-E2": "does not parse",
    "2*E0": "does not parse",
    "<0|A>": "does not parse",
    "<0|1A|0>": "does not parse",
    "<0|A|0>^2": "does not parse",
    "|<0|A|1>|": "does not parse",
    "|<0|A|1>|^3": "does not parse",
    "E1-E1": "use two levels",
    "E2-E[2]": "use two levels",
    "<0|A|1>": r"use \|<0\|A\|1>\|\^2",
    "|<1|A|1>|^2": r"use the expectation value <1\|A\|1>",
}


@pytest.mark.parametrize(("text", "output"), GOOD.items(), ids=GOOD.keys())
def test_good_expressions(text, output):
    assert parse_output(text) == output
    assert parse_output(str(output)) == output


@pytest.mark.parametrize("name", ["σz", "S_plus", "é2"])
def test_operators_of_any_letters(name):
    for output in (Expectation(name, 0), Transition(name, 0, 1)):
        assert parse_output(str(output)) == output


@pytest.mark.parametrize(
    "make",
    [
        lambda: Expectation("S+", 0),
        lambda: Transition("2A", 0, 1),
        lambda: Expectation("", 0),
        lambda: Level(0.5),
        lambda: Difference(1, "0"),
    ],
)
def test_what_could_not_be_stored_is_refused(make):
    # A fit is stored with the expressions of its outputs.
    with pytest.raises(InputError, match=r"operator's name|whole number"):
        make()


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD.keys())
def test_bad_expressions(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_output(text)
    assert "\n" not in str(caught.value)


def test_lists_of_outputs():
    assert as_outputs("E0") == (Level(0),)
    assert as_outputs(["E0", Level(1)]) == (Level(0), Level(1))
    names = outputs.operators(as_outputs(["<0|B|0>", "E0", "|<0|A|1>|^2", "<1|B|1>"]))
    assert names == ("B", "A")


@pytest.mark.parametrize(
    ("expressions", "dim"),
    [
        (["E0"], 1),
        (["E[-1]"], 1),
        (["E[-3]", "E1"], 3),
        (["E1-E0"], 2),
        (["E4-E0", "E0"], 5),
        (["<2|A|2>"], 3),
        (["|<0|A|3>|^2"], 4),
        (["|<-5|A|1>|^2"], 5),
    ],
)
def test_dimension_that_has_all_levels(expressions, dim):
    assert outputs.minimum_dim(as_outputs(expressions)) == dim
    assert PMM(expressions, dim=dim).dim == dim
    assert PMM(expressions).dim is None
    assert PMM(expressions).sized(4, 1).dim >= dim + model.MARGIN[0]
    with pytest.raises(InputError, match=f"need dim >= {dim}"):
        PMM(expressions, dim=dim - 1)


def test_the_default_dimension_follows_the_number_of_data():
    two = as_outputs(["E0", "E1"])
    low, high = (2 + m for m in model.MARGIN)
    sizes = [default_dim(two, 2, n_data) for n_data in range(1, 200)]
    assert sizes == sorted(sizes)
    assert set(sizes) == set(range(low, high + 1))
    for n_data, n in enumerate(sizes, 1):
        elements = n + n * (n + 1) // 2
        assert n == high or elements >= model.PARAMETERS_PER_DATUM * n_data
        assert n == low or elements - n - 1 < model.PARAMETERS_PER_DATUM * n_data
    # More matrices have more elements.
    assert default_dim(two, 3, 20) < default_dim(two, 2, 20)
    pmm = PMM(["E0", "<0|A|0>"], basis=Polynomial(2))
    assert pmm.sized(30, 2).dim == default_dim(pmm.outputs, 7, 30)
    assert PMM(["E0"], dim=2).sized(100, 1).dim == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": []}, "no outputs"),
        ({"outputs": ["E0"], "field": "quaternion"}, "field 'quaternion' is unknown"),
        ({"outputs": ["E3"], "dim": 3}, "dim = 3 has no such level"),
        ({"outputs": ["E0", "nonsense"]}, "does not parse"),
        ({"outputs": ["E0", "E1", "E0"]}, "output E0 is given twice"),
    ],
)
def test_a_bad_model_is_refused(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        PMM(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["affine", "poly:2", "fourier:1:3.0", "inverse:2"])
def test_a_basis_may_be_given_as_on_the_command_line(text):
    assert PMM(["E0"], basis=text) == PMM(["E0"], basis=parse_basis(text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ["E0"], "basis": "foo"}, "basis 'foo' does not parse; use affine, poly:D"),
        ({"outputs": ["E0"], "basis": np.exp}, "is no basis; .* Custom"),
        ({"outputs": [0, 1]}, "output 0 is no expression; write a text such as 'E0'"),
        ({"outputs": ["E0"], "dim": "4"}, "dim = '4' is not a whole number"),
        ({"outputs": ["E0"], "dim": 2.5}, "dim = 2.5 is not a whole number"),
        ({"outputs": ["E0", None]}, "output None is no expression"),
    ],
)
def test_what_is_no_text_or_no_basis_says_what_to_write(arguments, message):
    with pytest.raises(InputError, match=message):
        PMM(**arguments)


def test_one_output_needs_no_list():
    assert PMM("E1").outputs == PMM(parse_output("E1")).outputs == PMM(["E1"]).outputs


@pytest.mark.parametrize("field", hermitian.FIELDS)
def test_values_against_numpy(field):
    rng = np.random.default_rng(0)
    matrices = np.asarray(hermitian.to_matrix(rng.normal(size=(5, hermitian.size(4, field))), 4, field))
    primary, A, B = matrices[:3], matrices[3], matrices[4]
    phi = rng.normal(size=(6, 3))
    expressions = ["E0", "E[-1]", "E2-E[-4]", "<1|A|1>", "<-1|B|-1>", "|<0|A|1>|^2", "|<-1|B|2>|^2"]
    pmm = PMM(expressions, dim=4, field=field)
    assert pmm.operators == ("A", "B")
    found = jax.jit(pmm.evaluate)(primary, {"A": A, "B": B}, phi)
    assert found.shape == (6, 7)
    assert found.dtype == np.float64
    for row, coefficients in zip(found, phi, strict=True):
        w, V = np.linalg.eigh(sum(f * M for f, M in zip(coefficients, primary, strict=True)))
        a, b = V.conj().T @ A @ V, V.conj().T @ B @ V
        expected = [w[0], w[3], w[2] - w[0], a[1, 1].real, b[3, 3].real, abs(a[0, 1]) ** 2, abs(b[3, 2]) ** 2]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_levels_alone_need_no_vectors():
    assert not any(o.needs_vectors for o in as_outputs(["E0", "E1-E0"]))
    assert all(o.needs_vectors for o in as_outputs(["<0|A|0>", "|<0|A|1>|^2"]))


@pytest.mark.parametrize("expression", ["E0-E[-4]", "|<0|A|-4>|^2"])
def test_one_level_named_from_below_and_above_is_refused(expression):
    with pytest.raises(InputError, match="same level"):
        PMM([expression], dim=4)
    PMM([expression], dim=5)
