"""Penalised least squares: the minimum of a general solver, for few and for many residuals, and no lost digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from bayes_pmm.inference.least_squares import log_determinant, minimise

SHAPES = [(4, 9), (9, 4), (5, 5)]


def problem(residuals, unknowns, sigma):
    rng = np.random.default_rng(7)
    W, y = rng.standard_normal((residuals, unknowns)) / 2, 0.3 * rng.standard_normal(residuals)
    r = lambda x: (jnp.tanh(W @ x) - y) / sigma
    return r, rng.standard_normal(unknowns)


@pytest.mark.parametrize("sigma", [1.0, 1e-2, 1e-6])
@pytest.mark.parametrize("shape", SHAPES)
def test_minimum_is_that_of_a_general_solver(shape, sigma):
    r, x0 = problem(*shape, sigma)
    both = lambda x: (r(x), jax.jacfwd(r)(x))
    x = jnp.asarray(x0)
    for _ in range(10):  # each call stops where the objective hardly falls
        x = minimise(both, x, jnp.asarray(x0), 200)
    whole = lambda x: np.concatenate([np.asarray(r(x)), x - x0])
    jacobian = lambda x: np.concatenate([np.asarray(jax.jacfwd(r)(x)), np.eye(len(x0))])
    found = least_squares(whole, x0, jacobian, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000)
    assert np.sum(whole(np.asarray(x)) ** 2) <= 2 * found.cost * (1 + 1e-6)


def test_linear_problems_are_solved():
    """The first step is damped; the following ones, damped less and less, go on to the exact solution."""
    A, x0 = jnp.array([[1.0, 2.0, 0.5]]), jnp.array([1.0, -1.0, 2.0])
    r = lambda x: (A @ x - 3.0, A)
    exact = np.linalg.solve(A.T @ A + np.eye(3), A.T @ jnp.array([3.0]) + x0)
    far = lambda steps: np.abs(minimise(r, x0, x0, steps) - exact).max()
    assert far(1) < np.abs(x0 - exact).max()
    assert far(20) < 1e-2 * far(0)


def test_a_step_out_of_the_domain_is_refused():
    r = lambda x: (1e3 * (jnp.log(x) + 3.0), jnp.diag(1e3 / x))
    x = jnp.array([1.0])
    for _ in range(5):
        x = minimise(r, x, jnp.array([1.0]), 50)
    np.testing.assert_allclose(x, np.exp(-3.0), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_determinant(shape):
    A = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(
        log_determinant(A), np.linalg.slogdet(np.eye(shape[0]) + A @ A.T)[1], rtol=1e-12
    )


def test_log_determinant_keeps_what_the_gram_matrix_loses():
    """Rank 1 at noise 1e-9: det = 1 + |a|², where the sum 1 + A Aᵀ has lost five eigenvalues of 1."""
    a = np.random.default_rng(0).standard_normal((6, 1)) * 1e9
    A = a @ np.ones((1, 8)) / np.sqrt(8)
    exact = np.log1p(np.sum(a**2))
    np.testing.assert_allclose(log_determinant(A), exact, rtol=1e-2)
    assert not np.isclose(np.linalg.slogdet(np.eye(6) + A @ A.T)[1], exact, rtol=1e-2)
