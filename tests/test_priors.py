"""Sites to matrices and back, the distributions, and the invariance of the ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy import integrate, stats

from bayes_pmm import gauge, hermitian
from bayes_pmm.basis import Affine
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.model import PMM
from bayes_pmm.outputs import as_outputs
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import GapEnsemble, MatrixPrior, Modulus, Prior
from bayes_pmm.scaling import Scaling, fit_scaling

fields = pytest.mark.parametrize("field", hermitian.FIELDS)
SHAPES = [(1, 1, 0), (1, 2, 1), (2, 1, 0), (2, 2, 0), (2, 2, 1), (3, 1, 1), (3, 3, 1), (5, 2, 0), (5, 2, 2)]
SEEN = {1: (0,), 2: (1,), 3: (1, 2), 5: (2, 0)}
"""Levels that the outputs would use: the anchored one first, some unseen."""
shapes = pytest.mark.parametrize(("n", "n_primary", "n_secondary"), SHAPES)


def ensemble(rng, n, field, count):
    return np.array(hermitian.to_matrix(rng.normal(size=(count, hermitian.size(n, field))), n, field))


def outputs(matrices, n_primary, x):
    """Levels, and moduli of all elements of the secondary matrices, at controls x; by NumPy."""
    phi = np.concatenate([np.ones((len(x), 1)), x[:, : n_primary - 1]], axis=1)
    w, V = np.linalg.eigh(np.einsum("cl,lij->cij", phi, matrices[:n_primary]))
    A = np.einsum("cia,kij,cjb->ckab", V.conj(), matrices[n_primary:], V)
    return w, np.abs(A), np.diagonal(A, axis1=-2, axis2=-1).real


def drawn(prior, key):
    with handlers.seed(rng_seed=key), handlers.trace() as trace:
        matrices = prior.sample()
    return matrices, {k: v["value"] for k, v in trace.items() if v["type"] == "sample"}


class TestRoundTrip:
    @fields
    @shapes
    @pytest.mark.parametrize("kind", ["reference", "none"])
    def test_matrices_to_sites_to_matrices(self, n, n_primary, n_secondary, field, kind):
        rng = np.random.default_rng(n)
        prior = MatrixPrior(
            Prior(gauge=kind, growth=0.0, dilation=0.0, centre="all"),
            n,
            field,
            n_primary,
            n_secondary,
            seen=SEEN[n],
        )
        matrices = ensemble(rng, n, field, prior.n_matrices)
        scale = jnp.ones(prior.n_matrices)
        both = jax.jit(lambda m: (prior.sites(m, scale), prior.assemble(prior.sites(m, scale))))
        sites, again = both(matrices)
        x = rng.normal(size=(4, 3))
        found, expected = outputs(np.asarray(again), n_primary, x), outputs(matrices, n_primary, x)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11)
        if kind == "none":
            np.testing.assert_allclose(again, matrices, atol=1e-13)
        else:
            count = sum(np.size(v) for k, v in sites.items() if k != "scale")
            flat = {"real": n * (n - 1) // 2, "complex": n * (n - 1)}[field]
            # With one matrix there is nothing to fix phases on, and none is sampled.
            total = prior.n_matrices * hermitian.size(n, field)
            assert count == (n if prior.n_matrices == 1 else total - flat - (field == "complex") * (n - 1))

    @fields
    @pytest.mark.parametrize(("n", "n_primary", "n_secondary"), [(1, 2, 1), (2, 2, 0), (3, 2, 1)])
    def test_sites_of_a_draw_are_its_own(self, n, n_primary, n_secondary, field):
        prior = MatrixPrior(Prior(), n, field, n_primary, n_secondary, seen=SEEN[n])
        matrices, sites = jax.jit(lambda key: drawn(prior, key))(jax.random.key(1))
        again = jax.jit(prior.sites)(matrices, sites["scale"])
        assert again.keys() == sites.keys()
        for name in ("scale", "anchor", "gaps", "shift", "diagonal", "first_modulus"):
            if name in sites:
                np.testing.assert_allclose(again[name], sites[name], rtol=1e-8, atol=1e-10)
        for name in ("offdiagonal", "first_offdiagonal"):
            if name in sites:
                np.testing.assert_allclose(np.abs(again[name]), np.abs(sites[name]), atol=1e-10)

    @fields
    def test_equal_levels_keep_a_finite_density(self, field):
        prior = MatrixPrior(Prior(), 3, field, 2)
        matrices = np.stack([np.diag([1.0, 1.0, 2.0]), np.diag([0.0, 1.0, 2.0])])
        density = jax.jit(lambda m: log_density(prior.sample, (), {}, prior.sites(m, jnp.ones(2)))[0])
        assert np.isfinite(density(matrices))


class TestScales:
    def test_all_learned(self):
        prior = Prior(scale_median=2, scale_spread=0.3, secondary_median=5, secondary_spread=0.6)
        _, sites = drawn(MatrixPrior(prior, 2, "real", 2, 1), jax.random.key(0))
        assert sites["scale"].shape == (3,)
        medians, spreads = MatrixPrior(prior, 2, "real", 2, 1).hyperparameters()
        np.testing.assert_array_equal(medians, [2, 2, 5])
        np.testing.assert_array_equal(spreads, [0.3, 0.3, 0.6])

    @pytest.mark.parametrize(
        ("primary", "secondary", "site"), [(0.0, 0.5, "free_scale"), (0.5, 0.0, "free_scale"), (0, 0, None)]
    )
    def test_fixed(self, primary, secondary, site):
        prior = MatrixPrior(Prior(scale_spread=primary, secondary_spread=secondary), 2, "real", 2, 1)
        with handlers.seed(rng_seed=0), handlers.trace() as trace:
            matrices = prior.sample()
        scale = trace["scale"]["value"]
        assert trace["scale"]["type"] == "deterministic"
        np.testing.assert_array_equal(np.asarray(scale == 2.0), [primary == 0] * 2 + [secondary == 0])
        sites = prior.sites(matrices, scale)
        names = {k for k, v in trace.items() if v["type"] == "sample"}
        assert names == sites.keys()
        assert (site in names) if site else ("free_scale" not in names)
        if site:
            np.testing.assert_array_equal(sites[site], trace[site]["value"])

    @pytest.mark.parametrize(
        "options",
        [
            {"scale_median": 0.0},
            {"secondary_median": -1.0},
            {"shift_sd": 0.0},
            {"centre": "none"},
            {"scale_spread": -0.1},
            {"secondary_spread": -0.1},
            {"gauge": "landau"},
        ],
    )
    def test_bad_hyperparameters_are_refused(self, options):
        with pytest.raises(InputError, match=r"^prior: [^\n]*$"):
            Prior(**options)


class TestDistributions:
    def test_modulus_is_that_of_a_complex_normal(self):
        r = np.linspace(0.01, 4, 20)
        np.testing.assert_allclose(
            Modulus(0.7).log_prob(jnp.asarray(r)),
            stats.rayleigh(scale=0.7 / np.sqrt(2)).logpdf(r),
            rtol=1e-12,
        )
        draws = np.asarray(Modulus(0.7).sample(jax.random.key(0), (20_000,)))
        assert stats.kstest(draws, stats.rayleigh(scale=0.7 / np.sqrt(2)).cdf).pvalue > 1e-3
        assert stats.kstest(draws, stats.halfnorm(scale=0.7).cdf).pvalue < 1e-9

    @pytest.mark.parametrize(
        ("field", "surmise"),
        [("real", stats.rayleigh(scale=2 * 0.7)), ("complex", stats.maxwell(scale=np.sqrt(2) * 0.7))],
    )
    def test_gaps_drawn_and_their_density(self, field, surmise):
        ensemble_gap = GapEnsemble(0.7, 2, field)
        draws = np.asarray(ensemble_gap.sample(jax.random.key(0), (20_000,)))
        assert draws.shape == (20_000, 1)
        assert stats.kstest(draws[:, 0], surmise.cdf).pvalue > 1e-3
        g = np.linspace(0.1, 4, 20)
        np.testing.assert_allclose(
            ensemble_gap.log_prob(jnp.asarray(g[:, None])), surmise.logpdf(g), rtol=1e-12
        )

    @fields
    def test_a_missing_power_of_the_scale_would_show(self, field):
        """The density is normalised at each τ; without τ^(−βn(n−1)/2) its integral grows with τ."""
        node, weight = np.polynomial.legendre.leggauss(60)
        for tau in (0.5, 2.0):
            g, w = 12 * tau * (node + 1), 12 * tau * weight
            gaps = np.stack(np.broadcast_arrays(g[:, None], g), axis=-1)
            log_p = np.asarray(GapEnsemble(tau, 3, field).log_prob(jnp.asarray(gaps)))
            assert np.einsum("i,j,ij->", w, w, np.exp(log_p)) == pytest.approx(1, abs=1e-7)
            power = {"real": 3, "complex": 6}[field]
            without = np.exp(log_p + power * np.log(tau))
            assert np.einsum("i,j,ij->", w, w, without) == pytest.approx(tau**power, rel=1e-7)


class TestEnsemble:
    @fields
    def test_density_without_gauge_is_invariant(self, field):
        rng = np.random.default_rng(0)
        prior = MatrixPrior(Prior(gauge="none", growth=0.0, dilation=0.0, centre="all"), 3, field, 2, 1)
        matrices = ensemble(rng, 3, field, 3)
        scale = jnp.array([0.5, 1.0, 2.0])
        density = jax.jit(lambda m: log_density(prior.sample, (), {}, prior.sites(m, scale))[0])
        Z = rng.normal(size=(3, 3)) + (1j * rng.normal(size=(3, 3)) if field == "complex" else 0)
        V = np.linalg.qr(Z)[0]
        before = float(density(matrices))
        assert float(density(V @ matrices @ V.conj().T)) == pytest.approx(before, abs=1e-10)
        matrices[1] = V @ matrices[1] @ V.conj().T
        assert float(density(matrices)) == pytest.approx(before, abs=1e-10)
        matrices[1] *= 1.1
        assert abs(float(density(matrices)) - before) > 1e-3

    @fields
    @pytest.mark.parametrize("kind", ["reference", "none"])
    def test_second_moments(self, field, kind):
        """Diagonal and off-diagonal variances, trace with the shift added."""
        tau, v, n, size = 1.5, 0.8**2, 3, 20_000
        prior = Prior(
            scale_median=tau,
            scale_spread=0.0,
            shift_sd=0.8,
            growth=0.0,
            dilation=0.0,
            centre="all",
            gauge=kind,
        )
        keys = jax.random.split(jax.random.key(2), size)
        sample = jax.jit(jax.vmap(lambda key: drawn(MatrixPrior(prior, n, field, 2), key)[0]))
        M = np.asarray(sample(keys))
        s2 = {"real": 2.0, "complex": 1.0}[field] * tau**2
        quantities = {
            "trace": (np.trace(M, axis1=2, axis2=3).real ** 2, n * s2 + n**2 * v),
            "norm": (
                np.sum(np.abs(M) ** 2, axis=(2, 3)),
                n * (s2 + v) + n * (n - 1) * tau**2,
            ),
        }
        for x, expected in quantities.values():
            error = x.std(0) / np.sqrt(size)
            assert np.all(np.abs(x.mean(0) - expected) < 4 * error)
        other = np.abs(M[:, 1][:, *np.triu_indices(n, 1)]) ** 2
        assert np.all(np.abs(other.mean(0) - tau**2) < 4 * other.std(0) / np.sqrt(size))

    @fields
    def test_the_plain_ensemble_brought_into_the_gauge_is_the_gauges_own(self, field):
        """Site by site, up to the signs that remain."""
        size = 8_000
        fixed, plain = (
            MatrixPrior(Prior(gauge=g, growth=0.0, dilation=0.0, centre="all"), 3, field, 2, 1, seen=(1,))
            for g in ("reference", "none")
        )
        keys = jax.random.split(jax.random.key(3), 2 * size)

        def brought(key):
            matrices, sites = drawn(plain, key)
            return fixed.sites(matrices, sites["scale"])

        a = jax.jit(jax.vmap(lambda key: drawn(fixed, key)[1]))(keys[:size])
        b = jax.jit(jax.vmap(brought))(keys[size:])
        assert a.keys() == b.keys()
        flat = [np.abs(np.concatenate([np.reshape(x[k], (size, -1)) for k in sorted(a)], 1)) for x in (a, b)]
        p = [stats.ks_2samp(x, y, method="asymp").pvalue for x, y in zip(flat[0].T, flat[1].T, strict=True)]
        assert min(p) * len(p) > 0.01


def test_anchor_is_the_level_it_names():
    for anchor in range(3):
        prior = MatrixPrior(Prior(), 3, "real", 1, seen=(anchor,))
        matrices, sites = drawn(prior, jax.random.key(anchor))
        assert float(matrices[0, anchor, anchor]) == pytest.approx(float(sites["anchor"]))


def test_one_level_density_integrates_to_one():
    prior = MatrixPrior(Prior(scale_spread=0.0), 1, "real", 1)
    density = jax.jit(lambda x: log_density(prior.sample, (), {}, {"anchor": x})[0])
    total = integrate.quad(lambda x: float(jnp.exp(density(x))), -60, 60)[0]
    assert total == pytest.approx(1, abs=1e-8)


def test_levels_from_gaps_agree_with_the_assembled_reference():
    prior = MatrixPrior(Prior(), 4, "real", 1, seen=(2,))
    matrices, sites = drawn(prior, jax.random.key(0))
    levels = np.diagonal(np.asarray(matrices[0]))
    np.testing.assert_allclose(np.diff(levels), sites["gaps"], rtol=1e-12)
    np.testing.assert_allclose(levels - levels.mean(), gauge.levels_from_gaps(sites["gaps"]), atol=1e-12)


class TestShrunkCouplings:
    """Couplings that are shrunk one by one, defined in the reference gauge."""

    @pytest.mark.parametrize("kind", ["decaying", "horseshoe"])
    def test_log_density_has_the_stated_factors(self, kind):
        n = 4
        hyper = Prior(couplings=kind, slab=1.5, growth=0.0, dilation=0.0)
        prior = MatrixPrior(hyper, n, "real", 2, 1)
        plain = MatrixPrior(Prior(growth=0.0, dilation=0.0), n, "real", 2, 1)
        _, sites = drawn(prior, jax.random.key(1))
        common = {k: v for k, v in sites.items() if k not in ("reach", "local")}
        found = log_density(prior.sample, (), {}, sites)[0] - log_density(plain.sample, (), {}, common)[0]
        scale, off = np.asarray(sites["scale"]), np.asarray(sites["offdiagonal"])
        levels = np.concatenate([[0.0], np.cumsum(sites["gaps"])])
        i, j = np.triu_indices(n, 1)
        distance = levels[j] - levels[i]
        if kind == "decaying":
            rho = float(sites["reach"])
            factor = np.exp(-distance / (rho * scale[0]))[None, :]
            extra = stats.lognorm(1.0, scale=2.0).logpdf(rho)
        else:
            local = np.asarray(sites["local"])
            factor = local * 1.5 / np.sqrt(1.5**2 + local**2)
            extra = stats.halfcauchy.logpdf(local).sum()
        sd = scale[1:, None] / np.asarray(prior.coupling_units(sites["gaps"]))[None, :]
        expected = stats.norm.logpdf(off, 0, sd * factor).sum() - stats.norm.logpdf(off, 0, sd).sum() + extra
        assert found == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("kind", ["decaying", "horseshoe"])
    def test_sites_from_matrices_are_complete(self, kind):
        prior = MatrixPrior(Prior(couplings=kind), 3, "real", 2)
        matrices, sites = drawn(prior, jax.random.key(0))
        back = prior.sites(matrices, sites["scale"])
        assert {k: np.shape(v) for k, v in back.items()} == {k: np.shape(v) for k, v in sites.items()}
        w = [np.linalg.eigvalsh(m[0] + 0.3 * m[1]) for m in (matrices, prior.assemble(back))]
        np.testing.assert_allclose(*w, atol=1e-10)

    def test_what_is_not_defined_is_refused(self):
        with pytest.raises(InputError, match="real matrices in the reference gauge"):
            MatrixPrior(Prior(couplings="decaying"), 3, "complex", 2)
        with pytest.raises(InputError, match="real matrices in the reference gauge"):
            MatrixPrior(
                Prior(couplings="horseshoe", gauge="none", growth=0.0, dilation=0.0, centre="all"),
                3,
                "real",
                2,
            )
        with pytest.raises(InputError, match="'sparse' is unknown"):
            Prior(couplings="sparse")


@pytest.mark.parametrize(("centre", "placed"), [("seen", [0, 1]), ("all", [0, 1, 2, 3])])
def test_the_mean_of_the_levels_in_use_places_the_reference(centre, placed):
    n, tau = 4, 1.5
    hyper = Prior(scale_median=tau, scale_spread=0.0, shift_sd=0.7, centre=centre)
    prior = MatrixPrior(hyper, n, "real", 2, seen=(1, 0))
    keys = jax.random.split(jax.random.key(0), 4000)
    levels = jax.jit(jax.vmap(lambda key: jnp.diagonal(drawn(prior, key)[0][0])))(keys)
    spread = np.sqrt(0.7**2 + 2 * tau**2 / n)
    assert stats.kstest(np.asarray(levels)[:, placed].mean(axis=1), "norm", (0, spread)).pvalue > 0.01
    # The other choice is told apart.
    other = [0, 1] if centre == "all" else [0, 1, 2, 3]
    assert stats.kstest(np.asarray(levels)[:, other].mean(axis=1), "norm", (0, spread)).pvalue < 1e-6


class TestGrowth:
    """Larger elements between levels that no output uses."""

    @pytest.mark.parametrize("field", ["real", "complex"])
    def test_log_density_is_that_of_the_elements(self, field):
        n, growth = 4, 0.7
        prior = MatrixPrior(Prior(growth=growth, dilation=0.0, shift_sd=1.3), n, field, 2, 1, seen=(1,))
        np.testing.assert_allclose(prior.sizes, [1 + growth, 1, 1 + growth, 1 + 2 * growth])
        plain = MatrixPrior(Prior(growth=0.0, dilation=0.0, shift_sd=1.3), n, field, 2, 1, seen=(1,))
        matrices, sites = drawn(prior, jax.random.key(3))
        same = plain.sites(matrices, sites["scale"])
        scale, w = np.asarray(sites["scale"]), prior.sizes
        s2 = np.asarray(gauge.ensemble_variance(jnp.asarray(scale), field))

        def diagonals(w):
            # d = a 1 + B z with B = W H, H orthonormal and orthogonal to 1/w.
            jacobian = np.sum(np.log(w)) + 0.5 * np.log(np.sum(w**-2.0))
            return sum(
                jacobian
                + stats.multivariate_normal(np.zeros(n), s2[k] * np.diag(w**2) + 1.3**2).logpdf(
                    np.real(np.diagonal(np.asarray(matrices[k])))
                )
                for k in (1, 2)
            )

        expected = diagonals(w) - diagonals(np.ones(n))
        i, j = np.triu_indices(n, 1)
        factor = np.where((i != 1) & (j != 1), np.sqrt(w[i] * w[j]), 1.0)
        components = 1 if field == "real" else 2
        for k in (1, 2):
            x2 = np.abs(np.asarray(matrices[k])[i, j]) ** 2
            variance = scale[k] ** 2 / components  # of each component
            expected += np.sum(-0.5 * x2 / variance * (1 / factor**2 - 1) - components * np.log(factor))
        found = log_density(prior.sample, (), {}, sites)[0] - log_density(plain.sample, (), {}, same)[0]
        assert found == pytest.approx(expected, rel=1e-9)

    def test_draws_have_the_stated_variances(self):
        prior = MatrixPrior(Prior(growth=1.0, dilation=0.0, scale_spread=0.0), 4, "real", 2, seen=(0, 1))
        keys = jax.random.split(jax.random.key(0), 4000)
        matrices = np.asarray(jax.jit(jax.vmap(lambda k: drawn(prior, k)[0]))(keys))[:, 1]
        covariance = np.cov(np.diagonal(matrices, axis1=1, axis2=2).T)
        expected = 9.0 + 2 * 4.0 * np.diag([1.0, 1.0, 4.0, 9.0])
        # Monte Carlo error of a covariance of 4000 draws.
        error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 4000)
        assert np.max(np.abs(covariance - expected) / error) < 4.0
        assert matrices[:, 2, 3].var() == pytest.approx(4.0 * 2 * 3, rel=0.1)
        assert matrices[:, 0, 3].var() == pytest.approx(4.0, rel=0.1)

    def test_without_unseen_levels_it_changes_nothing(self):
        _, sites = drawn(MatrixPrior(Prior(), 2, "real", 2, seen=(0, 1)), jax.random.key(0))
        densities = [
            log_density(MatrixPrior(Prior(growth=g), 2, "real", 2, seen=(0, 1)).sample, (), {}, sites)[0]
            for g in (0.0, 2.0)
        ]
        assert densities[0] == densities[1]

    def test_what_is_not_defined_is_refused(self):
        for options in ({"growth": 0.5, "centre": "all"}, {"growth": 0.0, "dilation": 0.0, "centre": "seen"}):
            with pytest.raises(InputError, match="pass growth=0, dilation=0 and centre='all' with"):
                Prior(gauge="none", **options)
        with pytest.raises(InputError, match=r"growth = -0\.1 must not be negative"):
            Prior(growth=-0.1)


class TestDilation:
    """A part of the other matrices that is the reference matrix."""

    @pytest.mark.parametrize("field", ["real", "complex"])
    def test_log_density_is_that_of_the_diagonals(self, field):
        n, growth, unit = 4, 0.7, 0.3
        options = {
            "n": n,
            "field": field,
            "n_primary": 3,
            "n_secondary": 1,
            "seen": (1, 0),
            "terms_unit": unit,
        }
        prior = MatrixPrior(Prior(growth=growth, dilation=0.8), **options)
        plain = MatrixPrior(Prior(growth=growth, dilation=0.0), **options)
        matrices, sites = drawn(prior, jax.random.key(3))
        levels = np.real(np.diagonal(np.asarray(matrices[0])))
        s2 = np.asarray(gauge.ensemble_variance(sites["scale"], field))
        apart, expected = levels - levels[:2].mean(), 0.0
        for k in (1, 2):  # the third is secondary
            C = s2[k] * np.diag(prior.sizes**2) + prior.prior.shift_sd**2
            dilated = C + (0.8 * unit) ** 2 * np.outer(apart, apart)
            d = np.real(np.diagonal(np.asarray(matrices[k])))
            expected += stats.multivariate_normal(0 * d, dilated).logpdf(d)
            expected -= stats.multivariate_normal(0 * d, C).logpdf(d)
        found = log_density(prior.sample, (), {}, sites)[0] - log_density(plain.sample, (), {}, sites)[0]
        assert found == pytest.approx(expected, rel=1e-9)

    def test_draws_have_the_stated_covariance(self):
        """Given the reference matrix, which conditions on nothing that is drawn later."""
        prior = MatrixPrior(Prior(dilation=0.7, growth=0.5, scale_spread=0.0), 4, "real", 2, seen=(0, 1))
        reference = {"gaps": jnp.array([1.0, 2.0, 4.0]), "anchor": jnp.array(0.3)}
        draw = handlers.condition(prior.sample, reference)
        keys = jax.random.split(jax.random.key(0), 4000)
        matrices = jax.jit(jax.vmap(lambda k: handlers.seed(draw, k)()))(keys)
        found = np.cov(np.diagonal(np.asarray(matrices)[:, 1], axis1=1, axis2=2).T)
        apart = np.array([0.0, 1.0, 3.0, 7.0]) - 0.5
        expected = 9.0 + 2 * 4.0 * np.diag(prior.sizes**2) + 0.7**2 * np.outer(apart, apart)
        # Monte Carlo error of a covariance of 4000 draws.
        error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 4000)
        assert np.max(np.abs(found - expected) / error) < 4.0

    @pytest.mark.parametrize("shape", [(1, "real", 2), (3, "real", 1, 1)])
    def test_a_single_level_and_secondary_matrices_have_none(self, shape):
        _, sites = drawn(MatrixPrior(Prior(dilation=50.0), *shape), jax.random.key(0))
        density = lambda s, d: log_density(MatrixPrior(Prior(dilation=d), *shape).sample, (), {}, s)[0]
        assert float(density(sites, 50.0)) == pytest.approx(float(density(sites, 0.0)), rel=1e-12)
        assert all(np.isfinite(g).all() for g in jax.grad(density)(sites, 50.0).values())

    def test_what_is_not_defined_is_refused(self):
        with pytest.raises(InputError, match="dilation=0 and centre='all' with gauge='none'"):
            Prior(gauge="none", growth=0.0, centre="all", dilation=0.1)
        with pytest.raises(InputError, match=r"dilation = -0\.1 must not be negative"):
            Prior(dilation=-0.1)


class TestUnitOfTheTerms:
    """Scales of matrices that multiply a control, in units of how much the levels vary along it."""

    @staticmethod
    def data():
        c = np.linspace(0.0, 1.0, 6)[:, None]
        return Dataset(c, np.concatenate([0.1 * c, 5.0 + 0.2 * c], axis=1), None, ("c",), ("E0", "E1"))

    def test_variation_is_that_of_each_level_in_units_of_all(self):
        data = self.data()
        scaling = fit_scaling(data, as_outputs(["E0", "E1"]), Affine())
        within = np.sqrt(np.mean(data.values.var(axis=0)))
        assert scaling.variation[0] == pytest.approx(within / data.values.std(), rel=1e-12)
        stored = scaling.to_dict()
        assert Scaling.from_dict(stored) == scaling
        del stored["variation"]  # a fit of an earlier version
        assert Scaling.from_dict(stored).variation == (1.0,)

    def test_only_medians_of_terms_change(self):
        data = self.data()
        posteriors = {
            unit: Posterior(data, PMM(["E0", "E1"], dim=3), Prior(terms_unit=unit, dilation=0.0))
            for unit in ("spread", "variation")
        }
        ratio = posteriors["spread"].scaling.variation[0]
        medians = {k: np.asarray(p.matrix_prior.hyperparameters()[0]) for k, p in posteriors.items()}
        np.testing.assert_allclose(medians["variation"] / medians["spread"], [1.0, ratio], rtol=1e-12)
        z = posteriors["spread"].unconstrain(posteriors["spread"].prior_sites(jax.random.key(0)))
        found = [float(jax.jit(p.log_prior)(z)) for p in (posteriors["variation"], posteriors["spread"])]
        tau = np.exp(z["scale"][1])
        density = lambda m: stats.lognorm(1.0, scale=m).logpdf(tau)
        expected = density(medians["variation"][1]) - density(medians["spread"][1])
        assert found[0] - found[1] == pytest.approx(expected, rel=1e-9)
        # The same where the data are arguments of a compiled function.
        p = posteriors["variation"]
        traced = jax.jit(lambda a, z: p.with_arrays(a).log_prior(z))(jax.tree.map(jnp.asarray, p.arrays), z)
        assert float(traced) == pytest.approx(found[0], rel=1e-12)

    def test_an_unknown_unit_is_refused(self):
        with pytest.raises(InputError, match="terms_unit 'gap' is unknown"):
            Prior(terms_unit="gap")
