"""Conjugation changes no output; the gauge is fixed without loss; the eigenvalues' density is normalised."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bayes_pmm import gauge, hermitian
from bayes_pmm.model import PMM

EXPRESSIONS = ("E0", "E[-1]", "E1-E0", "E[-1]-E0", "<0|A|0>", "<-1|B|-1>", "|<0|A|1>|^2", "|<0|B|-1>|^2")
DIMS = (2, 3, 5)

fields = pytest.mark.parametrize("field", hermitian.FIELDS)
dims = pytest.mark.parametrize("n", DIMS)

fix = jax.jit(gauge.fix, static_argnums=1)
canonical = jax.jit(gauge.canonical_signs)
density = jax.jit(gauge.eigenvalue_log_density, static_argnums=2)
gap_density = jax.jit(gauge.gap_log_density, static_argnums=2)


def ensemble(rng, n, field, count):
    return np.asarray(hermitian.to_matrix(rng.normal(size=(count, hermitian.size(n, field))), n, field))


def random_unitary(rng, n, field):
    Z = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if field == "complex" else 0)
    return np.linalg.qr(Z)[0]


def pmm(n, field):
    return PMM(EXPRESSIONS, dim=n, field=field)


@jax.jit
def _coefficients(x):
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)


def outputs(matrices, field, x):
    """All kinds of outputs (N, Q) from (L + 2, n, n) matrices, A and B last."""
    run = _evaluate[matrices.shape[-1], field]
    return np.asarray(run(jnp.asarray(matrices), _coefficients(jnp.asarray(x))))


def _evaluator(n, field):
    model = pmm(n, field)
    return jax.jit(
        lambda m, phi: model.evaluate(m[:-2], dict(zip(model.operators, m[-2:], strict=True)), phi)
    )


_evaluate = {(n, field): _evaluator(n, field) for n in DIMS for field in hermitian.FIELDS}


class TestOutputsAreInvariant:
    """Under M_l → V M_l V†, O → V O V†."""

    @fields
    @dims
    @pytest.mark.parametrize("n_controls", [1, 2])
    def test_under_conjugation(self, n, field, n_controls):
        rng = np.random.default_rng(10 * n + n_controls)
        matrices = ensemble(rng, n, field, n_controls + 3)
        x = rng.normal(size=(4, n_controls))
        before = outputs(matrices, field, x)
        for _ in range(3):
            V = random_unitary(rng, n, field)
            np.testing.assert_allclose(outputs(V @ matrices @ V.conj().T, field, x), before, atol=1e-11)

    @fields
    def test_but_not_if_one_matrix_is_left_behind(self, field):
        rng = np.random.default_rng(0)
        matrices, x = ensemble(rng, 3, field, 4), rng.normal(size=(4, 1))
        V = random_unitary(rng, 3, field)
        for left in range(4):
            rotated = V @ matrices @ V.conj().T
            rotated[left] = matrices[left]
            assert np.max(np.abs(outputs(rotated, field, x) - outputs(matrices, field, x))) > 1e-2

    @fields
    @dims
    def test_under_the_gauge_fixing(self, n, field):
        rng = np.random.default_rng(n)
        matrices, x = ensemble(rng, n, field, 4), rng.normal(size=(4, 1))
        np.testing.assert_allclose(
            outputs(fix(matrices, field), field, x), outputs(matrices, field, x), atol=1e-11
        )

    @dims
    def test_under_complex_conjugation(self, n):
        rng = np.random.default_rng(n)
        matrices, x = ensemble(rng, n, "complex", 4), rng.normal(size=(4, 1))
        np.testing.assert_allclose(
            outputs(matrices.conj(), "complex", x), outputs(matrices, "complex", x), atol=1e-11
        )


class TestFix:
    @fields
    @dims
    def test_form(self, n, field):
        fixed = np.asarray(fix(ensemble(np.random.default_rng(n), n, field, 4), field))
        levels = np.diagonal(fixed[0])
        np.testing.assert_array_equal(fixed[0], np.diag(levels))
        assert np.all(np.diff(levels.real) > 0)
        np.testing.assert_allclose(fixed, np.swapaxes(fixed, 1, 2).conj(), atol=1e-13)
        if field == "complex":
            np.testing.assert_allclose(fixed[1, 0].imag, 0, atol=1e-14)
            assert np.all(fixed[1, 0, 1:].real > 0)

    @fields
    @dims
    def test_all_conjugates_have_one_representative(self, n, field):
        rng = np.random.default_rng(n)
        matrices = ensemble(rng, n, field, 4)
        reference = canonical(fix(matrices, field))
        for _ in range(3):
            V = random_unitary(rng, n, field)
            again = canonical(fix(V @ matrices @ V.conj().T, field))
            np.testing.assert_allclose(again, reference, atol=1e-11)

    @fields
    @dims
    def test_twice_is_once(self, n, field):
        once = canonical(fix(ensemble(np.random.default_rng(n), n, field, 3), field))
        np.testing.assert_allclose(canonical(fix(once, field)), once, atol=1e-12)

    @fields
    def test_one_matrix_one_level_and_no_coupling(self, field):
        lone = ensemble(np.random.default_rng(0), 3, field, 1)
        np.testing.assert_allclose(
            np.diagonal(np.asarray(gauge.fix(lone, field))[0]).real, np.linalg.eigvalsh(lone[0]), atol=1e-13
        )
        scalar = ensemble(np.random.default_rng(0), 1, field, 3)
        np.testing.assert_allclose(canonical(fix(scalar, field)), scalar)
        diagonal = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([3.0, 1.0, 2.0])]).astype(lone.dtype)
        np.testing.assert_allclose(canonical(fix(diagonal, field)), diagonal)


class TestDiscreteRemainder:
    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_patterns_are_all_signs_with_the_first_positive(self, n):
        expected = {(1.0, *rest) for rest in itertools.product([1.0, -1.0], repeat=n - 1)}
        assert {tuple(p) for p in gauge.sign_patterns(n)} == expected

    @dims
    def test_real_images_have_one_representative_and_one_output(self, n):
        rng = np.random.default_rng(n)
        fixed, x = np.asarray(fix(ensemble(rng, n, "real", 4), "real")), rng.normal(size=(3, 1))
        reference, before = canonical(fixed), outputs(fixed, "real", x)
        np.testing.assert_allclose(outputs(reference, "real", x), before, atol=1e-11)
        assert np.all(np.asarray(reference)[1, 0, 1:] >= 0)
        for signs in gauge.sign_patterns(n):
            image = signs[:, None] * fixed * signs[None, :]
            np.testing.assert_array_equal(canonical(image), reference)
            np.testing.assert_allclose(outputs(image, "real", x), before, atol=1e-11)

    @dims
    def test_complex_images_have_one_representative_and_one_output(self, n):
        rng = np.random.default_rng(n)
        fixed, x = np.asarray(fix(ensemble(rng, n, "complex", 4), "complex")), rng.normal(size=(3, 1))
        reference = canonical(fixed)
        np.testing.assert_allclose(canonical(fixed.conj()), reference, atol=1e-13)
        np.testing.assert_allclose(outputs(reference, "complex", x), outputs(fixed, "complex", x), atol=1e-11)


class TestEigenvalueDensity:
    @fields
    @pytest.mark.parametrize("tau", [0.3, 1.0, 7.0])
    def test_normalised_for_two_and_three_levels(self, field, tau):
        s = np.sqrt({"real": 2, "complex": 1}[field]) * tau
        # λ_1 and the gaps cover the ordered levels with unit Jacobian; beyond 12 s nothing is left.
        node, weight = np.polynomial.legendre.leggauss(80)
        first, w_first = 12 * s * node, 12 * s * weight
        gap, w_gap = 9 * s * (node + 1), 9 * s * weight
        two = np.stack(np.broadcast_arrays(first[:, None], first[:, None] + gap), axis=-1)
        total = np.einsum("i,j,ij->", w_first, w_gap, np.exp(density(two, tau, field)))
        assert total == pytest.approx(1, abs=1e-9)
        three = np.stack(
            np.broadcast_arrays(
                first[:, None, None],
                first[:, None, None] + gap[:, None],
                first[:, None, None] + gap[:, None] + gap,
            ),
            axis=-1,
        )
        total = np.einsum("i,j,k,ijk->", w_first, w_gap, w_gap, np.exp(density(three, tau, field)))
        assert total == pytest.approx(1, abs=1e-6)

    @fields
    @pytest.mark.parametrize("tau", [0.3, 7.0])
    def test_gaps_normalised(self, field, tau):
        one = integrate.quad(lambda g: np.exp(gap_density(jnp.array([g]), tau, field)), 0, 40 * tau)[0]
        assert one == pytest.approx(1, abs=1e-7)
        node, weight = np.polynomial.legendre.leggauss(80)
        gap, w = 15 * tau * (node + 1), 15 * tau * weight
        two = np.stack(np.broadcast_arrays(gap[:, None], gap), axis=-1)
        total = np.einsum("i,j,ij->", w, w, np.exp(gap_density(two, tau, field)))
        assert total == pytest.approx(1, abs=1e-9)

    @fields
    @pytest.mark.parametrize("n", [4, 5])
    def test_normalised_for_more_levels(self, n, field):
        """By the mean of p/q over draws of q, ordered independent normals."""
        tau, width = 0.7, 0.7 * {"real": 2.4, "complex": 2.0}[field]
        x = np.sort(np.random.default_rng(n).normal(scale=width, size=(400_000, n)), axis=1)
        log_q = stats.norm(scale=width).logpdf(x).sum(1) + np.log(float(np.prod(np.arange(1, n + 1))))
        ratio = np.exp(np.asarray(density(x, tau, field)) - log_q)
        error = ratio.std() / np.sqrt(len(ratio))
        assert error < 0.02
        assert abs(ratio.mean() - 1) < 4 * error

    @pytest.mark.parametrize("tau", [0.3, 2.0])
    def test_two_levels_are_wigners_surmise(self, tau):
        gap = np.linspace(0.1, 8, 30) * tau
        for field, surmise in (
            ("real", stats.rayleigh(scale=2 * tau)),
            ("complex", stats.maxwell(scale=np.sqrt(2) * tau)),
        ):
            np.testing.assert_allclose(
                gap_density(gap[:, None], tau, field), surmise.logpdf(gap), rtol=1e-12, atol=1e-12
            )

    @pytest.mark.parametrize(("field", "variance"), [("real", 2.0), ("complex", 1.0)])
    def test_one_level_is_normal(self, field, variance):
        x = np.linspace(-2, 2, 9)
        expected = stats.norm(scale=0.6 * np.sqrt(variance)).logpdf(x)
        np.testing.assert_allclose(density(x[:, None], 0.6, field), expected, rtol=1e-12)

    @fields
    @pytest.mark.parametrize("n", [1, 2, 5])
    @pytest.mark.parametrize("factor", [0.1, 3.0])
    def test_scale_family(self, n, field, factor):
        """The power of tau: p(aλ; aτ) aⁿ = p(λ; τ)."""
        levels = np.sort(np.random.default_rng(n).normal(size=n))
        scaled = density(factor * levels, factor * 0.4, field) + n * np.log(factor)
        assert float(scaled) == pytest.approx(float(density(levels, 0.4, field)), rel=1e-12)

    @fields
    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_gaps_and_mean_are_independent(self, n, field):
        rng = np.random.default_rng(n)
        gaps, mean = rng.gamma(2, size=(20, n - 1)), rng.normal(size=20)
        levels = np.asarray(gauge.levels_from_gaps(jnp.asarray(gaps)))
        np.testing.assert_allclose(np.diff(levels), gaps, rtol=1e-12)
        np.testing.assert_allclose(levels.mean(1), 0, atol=1e-13)
        s = np.sqrt({"real": 2, "complex": 1}[field]) * 0.8
        expected = gap_density(gaps, 0.8, field) + stats.norm(scale=s / np.sqrt(n)).logpdf(mean)
        np.testing.assert_allclose(density(levels + mean[:, None], 0.8, field), expected, rtol=1e-12)


class TestInvariants:
    @fields
    @settings(derandomize=True, max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**20))
    def test_traces_are_moments_of_the_levels(self, field, seed):
        rng = np.random.default_rng(seed)
        M, V = ensemble(rng, 4, field, 2), random_unitary(rng, 4, field)
        w = np.linalg.eigvalsh(M)
        expected = np.stack([np.mean(w**k, axis=1) for k in (1, 2, 3, 4)], axis=1)
        np.testing.assert_allclose(gauge.traces(M, 4), expected, atol=1e-10)
        np.testing.assert_allclose(gauge.traces(V @ M @ V.conj().T, 4), expected, atol=1e-10)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_traceless_basis(self, n):
        H = gauge.traceless_basis(n)
        assert H.shape == (n, n - 1)
        np.testing.assert_allclose(H.T @ H, np.eye(n - 1), atol=1e-14)
        np.testing.assert_allclose(H.sum(0), 0, atol=1e-14)
