"""Coordinates of Hermitian matrices: isometry, round trip, order, counts, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayes_pmm import hermitian

SIZES = (1, 2, 3, 5, 8)
# The squares of smaller numbers underflow, and with them the norms that are compared.
elements = st.floats(-1e3, 1e3).map(lambda value: value if abs(value) > 1e-100 else 0.0)


def coordinates_of(data, n, field):
    return data.draw(arrays(np.float64, (hermitian.size(n, field),), elements=elements))


@pytest.mark.parametrize("n", SIZES)
def test_counts(n):
    assert hermitian.size(n, "real") == n * (n + 1) // 2
    assert hermitian.size(n, "complex") == n**2


@pytest.mark.parametrize("field", hermitian.FIELDS)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(data=st.data())
def test_isometric_hermitian_and_invertible(field, data):
    n = data.draw(st.sampled_from((1, 2, 5)))
    x = coordinates_of(data, n, field)
    M = np.asarray(hermitian.to_matrix(x, n, field))
    assert M.shape == (n, n)
    assert np.iscomplexobj(M) == (field == "complex")
    np.testing.assert_array_equal(M, M.conj().T)
    np.testing.assert_allclose(np.linalg.norm(M), np.linalg.norm(x), rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(hermitian.to_coordinates(M, field), x, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("field", hermitian.FIELDS)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(data=st.data())
def test_scalar_product_is_that_of_matrices(field, data):
    n = data.draw(st.sampled_from((1, 2, 5)))
    x, y = coordinates_of(data, n, field), coordinates_of(data, n, field)
    A, B = (np.asarray(hermitian.to_matrix(z, n, field)) for z in (x, y))
    atol = 1e-13 * np.linalg.norm(x) * np.linalg.norm(y)
    np.testing.assert_allclose(np.trace(A.conj().T @ B).real, x @ y, rtol=0, atol=atol)


@pytest.mark.parametrize("field", hermitian.FIELDS)
@pytest.mark.parametrize("n", SIZES)
def test_against_loops(field, n):
    """The documented order, written out as loops."""
    x = np.random.default_rng(n).normal(size=hermitian.size(n, field))
    expected = np.diag(x[:n]).astype(complex)
    rest = iter(x[n:])
    for unit in (1, 1j)[: 1 if field == "real" else 2]:
        for i in range(n):
            for j in range(i + 1, n):
                element = unit * next(rest) / np.sqrt(2)
                expected[i, j] += element
                expected[j, i] += np.conj(element)
    np.testing.assert_allclose(hermitian.to_matrix(x, n, field), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("field", hermitian.FIELDS)
def test_batches_jit_vmap_grad(field):
    n = 4
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, hermitian.size(n, field))))

    def there(x):
        return hermitian.to_matrix(x, n, field)

    M = there(x)
    assert M.shape == (2, 3, n, n)
    np.testing.assert_array_equal(M[1, 2], there(x[1, 2]))
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(there)))(x), M)
    np.testing.assert_allclose(jax.jit(lambda M: hermitian.to_coordinates(M, field))(M), x, atol=1e-15)
    gradient = jax.grad(lambda x: jnp.sum(jnp.abs(there(x)) ** 2))(x)
    np.testing.assert_allclose(gradient, 2 * x, rtol=1e-14)


@pytest.mark.parametrize("field", hermitian.FIELDS)
def test_a_matrix_that_is_not_hermitian_is_projected(field):
    rng = np.random.default_rng(3)
    A = rng.normal(size=(3, 3)) + (1j * rng.normal(size=(3, 3)) if field == "complex" else 0)
    back = hermitian.to_matrix(hermitian.to_coordinates(A, field), 3, field)
    np.testing.assert_allclose(back, (A + A.conj().T) / 2, atol=1e-15)


@pytest.mark.parametrize(("field", "dtype"), [("real", np.float32), ("complex", np.complex64)])
def test_single_precision_stays_single(field, dtype):
    x = np.ones(hermitian.size(3, field), np.float32)
    M = hermitian.to_matrix(x, 3, field)
    assert M.dtype == dtype
    assert hermitian.to_coordinates(M, field).dtype == np.float32


def test_integers_become_floats():
    assert hermitian.to_matrix([1, 2, 3], 2, "real").dtype == np.float64
    assert hermitian.to_coordinates([[1, 2], [2, 3]], "complex").dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hermitian.size(3, "quaternion"), "Unknown field 'quaternion'"),
        (lambda: hermitian.size(0, "real"), "at least 1, got 0"),
        (lambda: hermitian.size(2.0, "real"), "at least 1, got 2.0"),
        (
            lambda: hermitian.to_matrix(np.ones(5), 3, "real"),
            r"\(\.\.\., 6\) for a real 3×3 matrix, got \(5,\)",
        ),
        (lambda: hermitian.to_matrix(1.0, 1, "real"), r"got \(\)"),
        (lambda: hermitian.to_matrix(np.ones(6), 3, "complex"), r"\(\.\.\., 9\) for a complex"),
        (lambda: hermitian.to_matrix(1j * np.ones(6), 3, "real"), "Expected real coordinates"),
        (lambda: hermitian.to_coordinates(np.ones((2, 3)), "real"), "square"),
        (lambda: hermitian.to_coordinates(np.ones((2, 2)), "Real"), "Unknown field 'Real'"),
        (lambda: hermitian.to_coordinates(1j * np.ones((2, 2)), "real"), "no coordinates"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
