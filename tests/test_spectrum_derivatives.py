"""Derivatives of eigenvalues and eigenvectors: open gaps, narrow gaps, exact degeneracy.

Nearly all matrices are 6×6, so that the compiled functions below are shared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pmm import hermitian, spectrum

N = 6

fields = pytest.mark.parametrize("field", hermitian.FIELDS)
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def observables(M, A):
    """Expectation values <k|A|k>, shape (n,), and strengths |<i|A|j>|², shape (n, n)."""
    V = spectrum.eigh(M)[1]
    elements = jnp.swapaxes(V, -1, -2).conj() @ A @ V
    return jnp.diagonal(elements).real, elements.real**2 + elements.imag**2


levels = jax.jit(spectrum.levels)
directional = jax.jit(spectrum.directional_derivatives)
levels_jvp = jax.jit(lambda M, dM: jax.jvp(spectrum.levels, (M,), (dM,))[1])
eigh_jvp = jax.jit(lambda M, dM: jax.jvp(spectrum.eigh, (M,), (dM,)))
observables_jvp = jax.jit(lambda M, dM, A: jax.jvp(lambda M: observables(M, A), (M,), (dM,)))
levels_jacrev = jax.jit(lambda M, dM: jax.jacrev(lambda t: spectrum.levels(M + t * dM))(0.0))
expectations_jacrev = jax.jit(lambda M, dM, A: jax.jacrev(lambda t: observables(M + t * dM, A)[0])(0.0))
levels_second = jax.jit(lambda M, dM: jax.jacfwd(jax.jacfwd(lambda t: spectrum.levels(M + t * dM)))(0.0))
levels_hessian = jax.jit(lambda M, dM: jax.hessian(lambda t: spectrum.levels(M + t * dM))(0.0))
expectations_hessian = jax.jit(lambda M, dM, A: jax.hessian(lambda t: observables(M + t * dM, A)[0])(0.0))


def random_array(rng, n, field):
    return rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if field == "complex" else 0)


def random_matrix(rng, n, field):
    A = random_array(rng, n, field)
    return (A + A.conj().T) / 2


def with_levels(rng, w, field):
    """A matrix with the given levels in a random frame, and the frame."""
    Q = np.linalg.qr(random_array(rng, len(w), field))[0]
    M = Q @ np.diag(w) @ Q.conj().T
    return (M + M.conj().T) / 2, Q


def central(f, step=1e-4):
    """Central difference of fourth order at 0."""
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


def numpy_observables(M, A):
    V = np.linalg.eigh(M)[1]
    elements = V.conj().T @ A @ V
    return np.diag(elements).real, np.abs(elements) ** 2


def second_order(w, X):
    """Perturbation theory for d²λ, as loops, X the direction in the frame of the levels."""
    n = len(w)
    return [2 * sum(abs(X[j, k]) ** 2 / (w[k] - w[j]) for j in range(n) if j != k) for k in range(n)]


class TestValues:
    @fields
    @pytest.mark.parametrize("n", [1, N])
    def test_against_numpy(self, field, n):
        M = random_matrix(np.random.default_rng(n), n, field)
        w, V = map(np.asarray, spectrum.eigh(M))
        np.testing.assert_allclose(w, np.linalg.eigvalsh(M), atol=1e-13)
        np.testing.assert_allclose(levels(M), w, atol=1e-13)
        np.testing.assert_allclose(M @ V, V * w, atol=1e-13)
        np.testing.assert_allclose(V.conj().T @ V, np.eye(n), atol=1e-13)
        assert w.dtype == np.float64

    @pytest.mark.parametrize("function", [spectrum.levels, spectrum.eigh])
    @pytest.mark.parametrize("shape", [(3,), (2, 3)])
    def test_not_square_is_refused(self, function, shape):
        with pytest.raises(ValueError, match="square"):
            function(np.ones(shape))

    def test_direction_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="same size"):
            spectrum.directional_derivatives(np.eye(3), np.eye(2))

    @fields
    def test_both_triangles_are_read(self, field):
        A = random_array(np.random.default_rng(5), N, field)
        np.testing.assert_allclose(levels(A), np.linalg.eigvalsh((A + A.conj().T) / 2), atol=1e-13)


class TestOpenGaps:
    @fields
    @pytest.mark.parametrize("n", [2, N])
    @seeds
    def test_levels(self, field, n, seed):
        rng = np.random.default_rng(seed)
        M, dM = random_matrix(rng, n, field), random_matrix(rng, n, field)
        dw = levels_jvp(M, dM)
        np.testing.assert_allclose(dw, central(lambda t: np.linalg.eigvalsh(M + t * dM)), atol=1e-9)
        np.testing.assert_allclose(directional(M, dM), dw, atol=1e-12)
        np.testing.assert_allclose(levels_jacrev(M, dM), dw, atol=1e-12)

    @fields
    def test_gradient_in_coordinates(self, field):
        """The reverse mode in every coordinate, free of any convention for complex gradients."""
        rng = np.random.default_rng(3)
        x = rng.normal(size=hermitian.size(N, field))
        weights = rng.normal(size=N)

        def f(x):
            return jnp.sum(weights * spectrum.levels(hermitian.to_matrix(x, N, field)))

        M = np.asarray(hermitian.to_matrix(x, N, field))
        units = np.asarray(hermitian.to_matrix(np.eye(len(x)), N, field))
        expected = [central(lambda t, e=e: weights @ np.linalg.eigvalsh(M + t * e)) for e in units]
        np.testing.assert_allclose(jax.jit(jax.grad(f))(x), expected, atol=1e-9)

    @fields
    @pytest.mark.parametrize("n", [2, N])
    @seeds
    def test_expectations_and_strengths(self, field, n, seed):
        rng = np.random.default_rng(seed + 10)
        M, dM, A = (random_matrix(rng, n, field) for _ in range(3))
        values, derivatives = observables_jvp(M, dM, A)
        for i in range(2):
            expected = central(lambda t, i=i: numpy_observables(M + t * dM, A)[i])
            np.testing.assert_allclose(values[i], numpy_observables(M, A)[i], atol=1e-12)
            np.testing.assert_allclose(derivatives[i], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(expectations_jacrev(M, dM, A), derivatives[0], rtol=1e-9, atol=1e-10)

    @fields
    def test_vectors_do_not_turn_in_phase(self, field):
        rng = np.random.default_rng(4)
        M, dM = random_matrix(rng, N, field), random_matrix(rng, N, field)
        (_, V), (_, dV) = eigh_jvp(M, dM)
        G = np.conj(V).T @ np.asarray(dV)
        np.testing.assert_allclose(np.diag(G), 0, atol=1e-13)
        np.testing.assert_allclose(G, -G.conj().T, atol=1e-12)

    @fields
    @seeds
    def test_second_derivative_of_levels(self, field, seed):
        rng = np.random.default_rng(seed + 20)
        M, dM = random_matrix(rng, N, field), random_matrix(rng, N, field)
        w, V = np.linalg.eigh(M)
        expected = second_order(w, V.conj().T @ dM @ V)
        np.testing.assert_allclose(levels_second(M, dM), expected, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(levels_hessian(M, dM), expected, rtol=1e-9, atol=1e-11)

    @fields
    def test_second_derivative_of_expectations(self, field):
        rng = np.random.default_rng(30)
        M, dM, A = (random_matrix(rng, N, field) for _ in range(3))
        expected = central(lambda t: np.asarray(observables_jvp(M + t * dM, dM, A)[1][0]))
        np.testing.assert_allclose(expectations_hessian(M, dM, A), expected, rtol=1e-6, atol=1e-7)

    @fields
    def test_direction_that_is_not_hermitian(self, field):
        rng = np.random.default_rng(40)
        M, A, B = random_matrix(rng, N, field), random_matrix(rng, N, field), random_array(rng, N, field)
        H = (B + B.conj().T) / 2
        np.testing.assert_allclose(levels_jvp(M, B), levels_jvp(M, H), atol=1e-12)
        np.testing.assert_allclose(directional(M, B), levels_jvp(M, H), atol=1e-12)
        pairs = zip(observables_jvp(M, B, A)[1], observables_jvp(M, H, A)[1], strict=True)
        for derivative, expected in pairs:
            np.testing.assert_allclose(derivative, expected, atol=1e-11)
        gradient = np.asarray(jax.jit(jax.grad(lambda M: spectrum.levels(M)[0]))(M))
        np.testing.assert_allclose(gradient, gradient.conj().T, atol=1e-14)


@fields
@pytest.mark.parametrize("gap", [1e-6, 1e-10])
def test_narrow_gaps(field, gap):
    """Truth by perturbation theory with the gap known by construction.

    The vectors are good to about eps/gap, so that is the relative error allowed, with a factor.
    """
    rng = np.random.default_rng(7)
    w = np.array([-1.0, 0.0, gap, 1.3, 2.1, 3.0])
    M, Q = with_levels(rng, w, field)
    X, Y = random_matrix(rng, N, field), random_matrix(rng, N, field)
    dM, A = Q @ X @ Q.conj().T, Q @ Y @ Q.conj().T
    tol = 100 * 2.2e-16 / gap

    np.testing.assert_allclose(levels_jvp(M, dM), np.diag(X).real, atol=tol)
    np.testing.assert_allclose(directional(M, dM), np.diag(X).real, atol=tol)
    np.testing.assert_allclose(levels_second(M, dM), second_order(w, X), rtol=tol, atol=tol)

    C = np.array([[X[j, k] / (w[k] - w[j]) if j != k else 0 for k in range(N)] for j in range(N)])
    dY = C.conj().T @ Y + Y @ C
    others = [0, 3, 4, 5]
    truth = np.diag(dY).real, 2 * (Y.conj() * dY).real
    for derivative, expected in zip(map(np.asarray, observables_jvp(M, dM, A)[1]), truth, strict=True):
        np.testing.assert_allclose(derivative, expected, rtol=tol, atol=tol * np.abs(expected).max())
        apart = np.ix_(*[others] * expected.ndim)
        np.testing.assert_allclose(derivative[apart], expected[apart], rtol=1e-9, atol=1e-11)


def kronecker(rng, field):
    """Each level of a 3×3 matrix twice, in a frame that is not that of the factors."""
    Q = np.linalg.qr(random_array(rng, N, field))[0]
    M = Q @ np.kron(random_matrix(rng, 3, field), np.eye(2)) @ Q.conj().T
    return (M + M.conj().T) / 2, [[0, 1], [2, 3], [4, 5]]


def direct_sum(rng, field):
    """Two copies of one matrix as exact blocks, and two levels apart."""
    block = random_matrix(rng, 2, field)
    M = np.diag([0.0, 0.0, 0.0, 0.0, 10.0, 11.0]).astype(block.dtype)
    M[:2, :2] = M[2:4, 2:4] = block
    return M, [[0, 1], [2, 3], [4], [5]]


def multiple_of_identity(_, field):
    return 1.7 * np.eye(N) + (0j if field == "complex" else 0), [list(range(N))]


def zero(_, field):
    return np.zeros((N, N), complex if field == "complex" else float), [list(range(N))]


def triplet(rng, field):
    return with_levels(rng, [-2.0, 0.5, 0.5, 0.5, 3.0, 4.0], field)[0], [[0], [1, 2, 3], [4], [5]]


@fields
@pytest.mark.parametrize("build", [kronecker, direct_sum, multiple_of_identity, zero, triplet])
class TestDegeneracy:
    def test_group_sums_of_levels(self, build, field):
        """The derivative of the sum is tr(P dM), which needs no choice of vectors."""
        rng = np.random.default_rng(11)
        M, groups = build(rng, field)
        dM = random_matrix(rng, N, field)
        V = np.linalg.eigh(M)[1]
        for dw in map(np.asarray, (levels_jvp(M, dM), levels_jacrev(M, dM))):
            assert np.all(np.isfinite(dw))
            for group in groups:
                P = V[:, group] @ V[:, group].conj().T
                np.testing.assert_allclose(dw[group].sum(), np.trace(P @ dM).real, atol=1e-12)

    def test_directional_derivatives(self, build, field):
        """Against the levels of M ± t dM at small t, extrapolated from t and t/2."""
        rng = np.random.default_rng(12)
        M, _ = build(rng, field)
        dM, t = random_matrix(rng, N, field), 1e-5
        for direction in (dM, -dM):

            def quotient(t, direction=direction):
                return (np.linalg.eigvalsh(M + t * direction) - np.linalg.eigvalsh(M)) / t

            expected = 2 * quotient(t / 2) - quotient(t)
            np.testing.assert_allclose(directional(M, direction), expected, atol=2e-9)

    def test_group_sums_of_expectations(self, build, field):
        """d tr(P A) = 2 Re Σ over pairs across the group's border, in independent NumPy loops."""
        rng = np.random.default_rng(14)
        M, groups = build(rng, field)
        dM, A = random_matrix(rng, N, field), random_matrix(rng, N, field)
        w, V = np.linalg.eigh(M)
        X, Y = V.conj().T @ dM @ V, V.conj().T @ A @ V
        forward = np.asarray(observables_jvp(M, dM, A)[1][0])
        reverse = np.asarray(expectations_jacrev(M, dM, A))
        for group in groups:
            others = [j for j in range(N) if j not in group]
            expected = sum(2 * (X[j, k] * Y[k, j]).real / (w[k] - w[j]) for k in group for j in others)
            np.testing.assert_allclose(forward[group].sum(), expected, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(reverse[group].sum(), expected, rtol=1e-9, atol=1e-11)
            finite = central(lambda t, group=group: numpy_observables(M + t * dM, A)[0][group].sum())
            np.testing.assert_allclose(expected, finite, rtol=1e-5, atol=1e-6)

    def test_single_vectors_are_finite(self, build, field):
        rng = np.random.default_rng(16)
        M, _ = build(rng, field)
        dM, A = random_matrix(rng, N, field), random_matrix(rng, N, field)
        for derivative in (*observables_jvp(M, dM, A)[1], expectations_jacrev(M, dM, A)):
            assert np.all(np.isfinite(derivative))

    @pytest.mark.parametrize("direction", ["random", "identity"])
    def test_second_derivatives_are_nan_for_the_levels_concerned(self, build, field, direction):
        """Also where the coupling inside the group happens to vanish."""
        rng = np.random.default_rng(17)
        M, groups = build(rng, field)
        dM = random_matrix(rng, N, field) if direction == "random" else np.eye(N)
        concerned = np.zeros(N, bool)
        concerned[[k for group in groups if len(group) > 1 for k in group]] = True
        np.testing.assert_array_equal(np.isnan(levels_second(M, dM)), concerned)
        # jax.hessian puts reverse mode inside, which spreads the NaN: documented, and never finite and wrong.
        assert np.all(np.isnan(np.asarray(levels_hessian(M, dM))[concerned]))

    def test_second_derivatives_of_vectors_are_nan(self, build, field):
        rng = np.random.default_rng(18)
        M, groups = build(rng, field)
        dM, A = random_matrix(rng, N, field), random_matrix(rng, N, field)
        second = np.asarray(expectations_hessian(M, dM, A))
        assert np.all(np.isnan(second[[k for group in groups if len(group) > 1 for k in group]]))


class TestDirectionalDerivatives:
    @fields
    def test_a_small_group_keeps_its_digits(self, field):
        """A direction 1e8 times larger in another group must not cost digits in this one."""
        rng = np.random.default_rng(13)
        small, large = 1e-8 * random_matrix(rng, 3, field), random_matrix(rng, 3, field)
        dM = np.zeros((N, N), small.dtype)
        dM[:3, :3], dM[3:, 3:] = small, large
        derivatives = np.asarray(directional(np.diag([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), dM))
        np.testing.assert_allclose(derivatives[:3], np.linalg.eigvalsh(small), atol=1e-15)
        np.testing.assert_allclose(derivatives[3:], np.linalg.eigvalsh(large), atol=1e-14)

    def test_a_wider_tolerance_joins_levels(self):
        M = np.diag([1.0, 1.0 + 1e-6, 3.0])
        dM = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
        np.testing.assert_allclose(directional(M, dM), [0, 0, 0.5], atol=1e-12)
        np.testing.assert_allclose(directional(M, dM, 1e-5), [-1, 1, 0.5], atol=1e-12)

    def test_one_direction_for_a_batch(self):
        rng = np.random.default_rng(51)
        M = np.stack([random_matrix(rng, N, "real") for _ in range(2)])
        dM = random_matrix(rng, N, "real")
        for one, derivatives in zip(M, directional(M, dM), strict=True):
            np.testing.assert_allclose(directional(one, dM), derivatives, atol=1e-13)

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        w=st.lists(st.integers(-3, 3), min_size=N, max_size=N),
        field=st.sampled_from(hermitian.FIELDS),
        seed=st.integers(0, 2**16),
    )
    def test_identities(self, w, field, seed):
        """Trace; the same branches in opposite order on the other side; the diagonal majorised (Schur)."""
        rng = np.random.default_rng(seed)
        M, dM = with_levels(rng, np.array(w, float), field)[0], random_matrix(rng, N, field)
        np.testing.assert_allclose(levels(M), np.sort(w), atol=1e-13)
        up, down, dw = (np.asarray(d) for d in (directional(M, dM), directional(M, -dM), levels_jvp(M, dM)))
        np.testing.assert_allclose(up.sum(), np.trace(dM).real, atol=1e-12)
        for level in set(w):
            group = np.flatnonzero(np.sort(w) == level)
            np.testing.assert_allclose(up[group], -down[group][::-1], atol=1e-12)
            np.testing.assert_allclose(up[group].sum(), dw[group].sum(), atol=1e-12)
            assert np.all(np.diff(up[group]) >= -1e-12)
            assert up[group][0] - 1e-12 <= dw[group].min()
            assert dw[group].max() <= up[group][-1] + 1e-12


class TestTransformations:
    @fields
    def test_jit_vmap_and_batches_agree(self, field):
        rng = np.random.default_rng(50)
        M, dM = (np.stack([[random_matrix(rng, N, field) for _ in range(3)] for _ in range(2)]) for _ in "ab")

        def gradient(M):
            return jax.grad(lambda M: jnp.sum(jnp.sin(spectrum.levels(M))))(M)

        def projector_jvp(M, dM):
            def projector(M):
                v = spectrum.eigh(M)[1][..., :2]
                return v @ jnp.swapaxes(v, -1, -2).conj()

            return jax.jvp(projector, (M,), (dM,))[1]

        for f, arguments in (
            (levels_jvp, (M, dM)),
            (directional, (M, dM)),
            (gradient, (M,)),
            (projector_jvp, (M, dM)),
        ):
            batched = jax.jit(f)(*arguments)
            np.testing.assert_allclose(jax.jit(jax.vmap(jax.vmap(f)))(*arguments), batched, atol=1e-11)

    @fields
    def test_value_and_gradient_diagonalise_once(self, field):
        M = np.stack([random_matrix(np.random.default_rng(k), 5, field) for k in range(10)])
        f = jax.jit(jax.value_and_grad(lambda M: jnp.sum(spectrum.levels(M)[..., 0])))
        assert f.lower(M).as_text().count("custom_call @") == 1

    @pytest.mark.parametrize(("field", "dtype"), [("real", np.float32), ("complex", np.complex64)])
    def test_single_precision(self, field, dtype):
        rng = np.random.default_rng(52)
        M, dM = (random_matrix(rng, N, field).astype(dtype) for _ in range(2))
        dw = levels_jvp(M, dM)
        assert dw.dtype == levels(M).dtype == directional(M, dM).dtype == np.float32
        exact = central(lambda t: np.linalg.eigvalsh((M + t * dM.astype(complex)).astype(complex)))
        np.testing.assert_allclose(dw, exact, atol=1e-4)
        pairs, _ = kronecker(rng, field)
        assert np.all(np.isnan(levels_second(pairs.astype(dtype), dM)))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@fields
def test_a_nan_anywhere_is_no_finite_level(n, field):
    whole = random_matrix(np.random.default_rng(0), n, field)
    broken = np.tile(whole, (n, n, 1, 1))
    i, j = np.indices((n, n))
    broken[i, j, i, j] = broken[i, j, j, i] = np.nan
    assert np.isnan(levels(broken)).all()
    assert np.isnan(spectrum.eigh(broken)[0]).all()
    # Its neighbours in a batch have theirs.
    np.testing.assert_array_equal(levels(np.stack([broken[0, 0], whole]))[1], levels(whole[None])[0])
