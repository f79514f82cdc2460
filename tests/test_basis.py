"""Bases against their formulas, and the units that they see."""

import jax.numpy as jnp
import numpy as np
import pytest

import bayes_pmm as bp
from bayes_pmm.basis import Affine, Custom, Fourier, InversePowers, Polynomial, parse_basis
from bayes_pmm.data import Dataset
from bayes_pmm.defect import distances
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import as_outputs
from bayes_pmm.predict import check_controls
from bayes_pmm.scaling import Scaling, fit_scaling

C = np.random.default_rng(0).uniform(0.5, 3, size=(7, 2))
x, y, one = C[:, 0], C[:, 1], np.ones(7)
P = 2.5
ANGLE = 2 * np.pi / P

EXPLICIT = {
    "affine": (Affine(), [one, x, y]),
    "poly:1": (Polynomial(1), [one, x, y]),
    "poly:3": (
        Polynomial(3),
        [one, x, y, x**2, x * y, y**2, x**3, x**2 * y, x * y**2, y**3],
    ),
    "fourier:2:2.5": (
        Fourier(2, P),
        [one] + [f(k * ANGLE * c) for c in (x, y) for k in (1, 2) for f in (np.cos, np.sin)],
    ),
    "inverse:2": (InversePowers(2), [one, 1 / x, 1 / y, 1 / x**2, 1 / y**2]),
}
explicit = pytest.mark.parametrize(("text", "basis", "columns"), [(k, *v) for k, v in EXPLICIT.items()])
MINE = Custom(lambda c: jnp.stack([jnp.ones_like(c[:, 0]), jnp.exp(c[:, 0]) * c[:, 1]], axis=1), name="mine")
BASES = [v[0] for v in EXPLICIT.values()] + [MINE]


def dataset(controls=C, source=None):
    values = np.random.default_rng(1).normal(size=(len(controls), 1))
    names = [f"c{j}" for j in range(controls.shape[1])]
    return Dataset(controls, values, None, names, ("E0",), source)


@explicit
def test_formulas(text, basis, columns):
    expected = np.stack(columns, axis=1)
    np.testing.assert_allclose(basis(jnp.asarray(C)), expected, rtol=1e-12, atol=1e-13)
    assert basis.n_terms(2) == expected.shape[1]
    assert basis.has_constant
    assert basis.maps_controls == text.startswith(("affine", "poly"))


@explicit
def test_parsed(text, basis, columns):  # noqa: ARG001
    assert parse_basis(text) == basis
    assert parse_basis(str(basis)) == basis


@pytest.mark.parametrize(("n_controls", "degree", "count"), [(1, 1, 2), (1, 4, 5), (3, 2, 10), (4, 1, 5)])
def test_number_of_monomials(n_controls, degree, count):
    assert Polynomial(degree).n_terms(n_controls) == count


@pytest.mark.parametrize("period", ["1e-3", "6.283185307179586", "+2"])
def test_periods(period):
    assert parse_basis(f"fourier:1:{period}") == Fourier(1, float(period))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Affine",
        "poly",
        "poly:",
        "poly:x",
        "poly:0",
        "poly:-1",
        "poly:1.5",
        "inverse",
        "inverse:0",
        "fourier:2",
        "fourier:0:1",
        "fourier:2:0",
        "fourier:2:-1",
        "fourier:2:1e999",
        "fourier:2:nan",
        "fourier:2:1e",
        "fourier:2:1:3",
        "chebyshev:3",
    ],
)
def test_bad_expressions(text):
    with pytest.raises(InputError, match=r"^basis ") as caught:
        parse_basis(text)
    assert "\n" not in str(caught.value)


def test_a_function_of_numpy_says_what_to_write():
    basis = Custom(lambda c: np.stack([np.ones(len(c)), np.asarray(c)[:, 0]], axis=1), name="mine")
    with pytest.raises(InputError, match=r"basis mine: .* jax\.numpy"):
        basis.n_terms(1)


@pytest.mark.parametrize(
    "function",
    [
        lambda c: c if c[0, 0] > 0 else 2 * c,
        lambda c: c * float(c[0, 0]),
        lambda c: c[c[:, 0] > 0],
        lambda c: c * [1.0, 2.0][c[0, 0].astype(int)],
    ],
    ids=["if", "float", "mask", "index"],
)
def test_a_function_that_cannot_be_compiled_says_what_to_write(function):
    with pytest.raises(InputError, match=r"basis mine: .* cannot be compiled.* jnp\.where"):
        Custom(function, name="mine").n_terms(1)


class TestScaledTerms:
    @pytest.mark.parametrize("basis", BASES, ids=str)
    def test_vanish_at_the_reference(self, basis):
        scaling = fit_scaling(dataset(), as_outputs(["E0"]), basis)
        phi = np.asarray(scaling.coefficients(basis, C.mean(0)[None]))
        np.testing.assert_allclose(phi, np.eye(1, phi.shape[1]), atol=1e-12)

    @pytest.mark.parametrize("basis", BASES, ids=str)
    def test_have_unit_size_on_the_data(self, basis):
        scaling = fit_scaling(dataset(), as_outputs(["E0"]), basis)
        phi = np.asarray(scaling.coefficients(basis, C))
        np.testing.assert_allclose(np.mean(phi**2, axis=0), 1, rtol=1e-12)
        np.testing.assert_allclose(phi[:, 0], 1, rtol=1e-14)

    @pytest.mark.parametrize("basis", [Affine(), Polynomial(3)], ids=str)
    def test_of_polynomials_do_not_see_the_users_units(self, basis):
        other = C * np.array([[1e6, 1e-3]]) + np.array([[-3e6, 7.0]])
        a = fit_scaling(dataset(), as_outputs(["E0"]), basis).coefficients(basis, C)
        b = fit_scaling(dataset(other), as_outputs(["E0"]), basis).coefficients(basis, other)
        np.testing.assert_allclose(b, a, atol=1e-8)

    @pytest.mark.parametrize("basis", [Fourier(1, P), InversePowers(2), MINE], ids=str)
    def test_of_other_bases_see_the_users_units(self, basis):
        scaling = fit_scaling(dataset(), as_outputs(["E0"]), basis)
        raw, at = np.asarray(basis(jnp.asarray(C))), np.asarray(basis(jnp.asarray(C.mean(0)[None])))
        expected = raw - at
        expected[:, 0] = 1
        expected /= np.sqrt(np.mean(expected**2, axis=0))
        np.testing.assert_allclose(scaling.coefficients(basis, C), expected, rtol=1e-11, atol=1e-12)

    def test_without_a_constant_are_not_centred(self):
        basis = Custom(lambda c: c, has_constant=False)
        scaling = fit_scaling(dataset(), as_outputs(["E0"]), basis)
        expected = C / np.sqrt(np.mean(C**2, axis=0))
        np.testing.assert_allclose(scaling.coefficients(basis, C), expected, rtol=1e-13)
        assert scaling.shift == (0.0,)

    @pytest.mark.parametrize(
        ("basis", "message"),
        [
            (Custom(lambda c: c), "term 0 must be the constant 1"),
            (Custom(lambda c: jnp.log(c - 1)), "not finite"),
            (Custom(lambda c: c[:, 0]), "one column per term"),
            (Custom(lambda c: jnp.ones((1, 2))), "one column per term"),  # noqa: ARG005
            (Custom(lambda c: jnp.ones_like(c)), "term 1 is zero or constant"),
            (
                Custom(lambda c: jnp.stack([jnp.ones_like(c[:, 0]), 0.1 + 1e-17 * c[:, 0]], axis=1)),
                "term 1 is zero or constant",
            ),
        ],
    )
    def test_that_cannot_be_scaled_are_refused(self, basis, message):
        with pytest.raises(InputError, match=message) as caught:
            fit_scaling(dataset(), as_outputs(["E0"]), basis)
        assert "\n" not in str(caught.value)

    def test_inverse_powers_at_zero_are_refused(self):
        controls = np.linspace(0, 1, 5)[:, None]
        with pytest.raises(InputError, match="not finite at some training control"):
            fit_scaling(dataset(controls), as_outputs(["E0"]), InversePowers(1))

    def test_that_are_constant_up_to_rounding_are_refused(self):
        controls = np.arange(6.0)[:, None] * 0.25 + 0.125
        with pytest.raises(InputError, match=r"term [12] is zero or constant"):
            fit_scaling(dataset(controls), as_outputs(["E0"]), Fourier(1, 0.25))

    @pytest.mark.parametrize("basis", BASES, ids=str)
    def test_survive_storage(self, basis):
        scaling = fit_scaling(dataset(), as_outputs(["E0"]), basis)
        assert Scaling.from_dict(scaling.to_dict()) == scaling


def _two_levels(controls, basis):
    values = np.stack([np.cos(np.arange(len(controls))), 3 + np.sin(np.arange(len(controls)))], axis=1)
    data = bp.Dataset(np.asarray(controls, float)[:, None], values, None, ("L",), ("E0", "E1"))
    return bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2, basis=basis))


def test_inverse_powers_are_as_far_away_as_their_reciprocals():
    L, at = np.array([4.0, 5.0, 8.0, 10.0]), np.array([[2.0], [7.0], [20.0], [1e9], [np.inf]])
    inverse, affine = _two_levels(L, bp.InversePowers(1)), _two_levels(1 / L, bp.Affine())
    for posterior, places in ((inverse, inverse.places(at, 0)), (affine, 1 / at)):
        outside = posterior.placed(0).extrapolated(places)[:, 0]
        np.testing.assert_array_equal(outside, [True, False, True, True, True])
        d = distances(posterior.placed(0), posterior.places(at, 0) if posterior is inverse else 1 / at)[:, 0]
        np.testing.assert_allclose(d, [0.25 / 0.15, 0.0, 0.05 / 0.15, 0.1 / 0.15, 0.1 / 0.15], atol=1e-6)
    np.testing.assert_array_equal(check_controls(inverse, at), at)
    with pytest.raises(InputError, match="L is not finite"):
        check_controls(affine, at)
    fourier = _two_levels(L, bp.Fourier(1, 20.0))
    for posterior, bad in ((inverse, np.nan), (fourier, np.inf)):
        with pytest.raises(InputError, match="L is not finite"):
            check_controls(posterior, [[bad]])


def test_a_period_away_is_the_same_place():
    x = np.array([0.1, 0.5, 0.9, 1.2])
    posterior = _two_levels(x, bp.Fourier(1, 2.0))
    at = np.array([[0.7], [1.3], [1.9], [-0.05]])
    near = posterior.extrapolated(at)[:, 0]
    np.testing.assert_array_equal(near, [False, True, True, True])
    d = posterior.distances(at)
    np.testing.assert_allclose(d[:, 0] * 1.1, [0.0, 0.1, 0.2, 0.15], atol=1e-9)
    for periods in (1, -3, 1000):
        np.testing.assert_allclose(posterior.distances(at + 2 * periods), d, atol=1e-9)
    # Data across the seam of the period lie together.
    across = _two_levels([1.8, 1.9, 0.0, 0.2], bp.Fourier(1, 2.0))
    assert not across.extrapolated(np.array([[1.95], [4.1]])).any()
    assert across.extrapolated(np.array([[1.0]])).all()


@pytest.mark.parametrize("start", [0.0, 0.013, 0.9])
def test_a_circle_that_is_covered_has_no_outside(start):
    N = 12
    phases = start + np.arange(N) / N
    at = np.linspace(-1.0, 3.0, 97)[:, None] + start
    posterior = _two_levels(phases, bp.Fourier(1, 1.0))
    assert not posterior.extrapolated(at).any()
    assert not posterior.distances(at).any()
    # Without one of its phases it has a gap twice as wide as the others.
    gap = (np.mod(at - start, 1.0) > 3.01 / N) & (np.mod(at - start, 1.0) < 4.99 / N)
    fewer = _two_levels(np.delete(phases, 4), bp.Fourier(1, 1.0))
    np.testing.assert_array_equal(fewer.extrapolated(at)[:, 0], gap[:, 0])
    # Rows that are measured again leave no gap between them.
    for repeats in (2, 3):
        assert not _two_levels(np.repeat(phases, repeats), bp.Fourier(1, 1.0)).extrapolated(at).any()


def test_each_output_has_a_circle_of_its_own():
    """Where another output fills the gap of this one, this one is extrapolated there all the same."""
    phases = np.array([0.05, 0.1, 0.2, 0.25, 0.3, 0.45, 0.6, 0.75, 0.8, 0.9, 0.95, 1.0])
    own = ~((phases > 0.26) & (phases < 0.89))
    values = np.stack([phases, np.where(own, 3 + phases, np.nan)], axis=1)
    values[phases < 0.2, 0] = np.nan
    both = bp.Dataset(phases[:, None], values, None, ("phase",), ("E0", "E1"))
    alone = bp.Dataset(phases[own, None], values[own, 1:], None, ("phase",), ("E1",))
    at = np.array([[0.15], [0.3], [0.5], [0.7]])
    found = bp.Posterior(both, bp.PMM(["E0", "E1"], dim=2, basis="fourier:1:1.0"))
    single = bp.Posterior(alone, bp.PMM(["E1"], dim=2, basis="fourier:1:1.0"))
    np.testing.assert_array_equal(found.extrapolated(at)[:, 1], [False, True, True, True])
    np.testing.assert_array_equal(found.extrapolated(at)[:, 1], single.extrapolated(at)[:, 0])
    np.testing.assert_allclose(found.distances(at)[:, 1], single.distances(at)[:, 0], atol=1e-12)
    assert not found.extrapolated(at)[:, 0][1:].any()


def test_other_bases_leave_controls_where_they_are():
    for basis in (
        bp.Affine(),
        bp.Polynomial(2),
        bp.Custom(lambda c: jnp.stack([c[:, 0] ** 0, 1 / c[:, 0]], axis=1)),
    ):
        posterior = _two_levels([1.0, 2.0, 3.0, 4.0], basis)
        np.testing.assert_array_equal(posterior.placed(0).controls, posterior.data.controls)
