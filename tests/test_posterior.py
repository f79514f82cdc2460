"""The log posterior against an independent implementation, units, missing data, noise, and NumPyro's own use."""

import itertools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density
from numpyro.optim import Adam
from scipy import special, stats

from bayes_pmm import hermitian
from bayes_pmm.basis import Custom
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.outputs import as_outputs
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.problems import get
from bayes_pmm.problems.spins import small
from bayes_pmm.scaling import Scaling, fit_scaling

EXPRESSIONS = ("E1", "E0", "E1-E0", "<0|A|0>", "|<0|A|1>|^2", "|<0|B|1>|^2")
PRIOR = Prior(
    scale_median=1.3,
    scale_spread=0.4,
    secondary_median=0.8,
    secondary_spread=0.7,
    shift_sd=1.7,
    terms_unit="spread",
    growth=0.0,
    dilation=0.0,
    centre="all",
)
fields = pytest.mark.parametrize("field", hermitian.FIELDS)


def dataset(n_controls=1, rows=6, outputs=EXPRESSIONS, errors=True):
    """Arbitrary numbers: one missing datum a column, known errors except in column 0."""
    rng = np.random.default_rng(n_controls)
    Q = len(outputs)
    values = 2 + 3 * rng.normal(size=(rows, Q))
    values[:, [o.startswith("|") for o in outputs]] **= 2
    values[np.arange(Q) % rows, np.arange(Q)] = np.nan
    s = rng.uniform(0.1, 0.5, size=(rows, Q))
    s[:, 0] = 0
    names = [f"c{j}" for j in range(n_controls)]
    controls = 5 + 2 * rng.normal(size=(rows, n_controls))
    return Dataset(controls, values, s if errors else None, names, [f"y{q}" for q in range(Q)])


def random_z(posterior, seed):
    rng = np.random.default_rng(seed)
    one = jax.eval_shape(lambda k: posterior.unconstrain(posterior.prior_sites(k)), jax.random.key(0))
    return {k: rng.uniform(-1.5, 1.5, size=v.shape) for k, v in one.items()}


def unit_of_two_levels_and_their_line(E0, E1, line):
    """Root of the variance of the levels' places, by least squares from all three, and of that along the controls."""
    m = np.nanmean(np.concatenate([E0, E1]))
    known = [np.nanmean(E0) - m, np.nanmean(E1) - m, np.nanmean(line)]
    places = np.linalg.lstsq([[1, 0], [0, 1], [-1, 1]], known)[0]
    return np.sqrt(places.var() + (np.nanvar(E0) + np.nanvar(E1) + np.nanvar(line) / 2) / 3)


class Explicit:
    """Log posterior and outputs in NumPy, written from the definitions: loops, no shared code."""

    def __init__(self, data, expressions, dim, field, names, least, noise_scale=0.05):
        self.data, self.expressions, self.n, self.field, self.names = data, expressions, dim, field, names
        self.noise_scale, self.least = noise_scale, least
        self.s2 = 2.0 if field == "real" else 1.0
        self.beta = 1 if field == "real" else 2
        self.L = 1 + data.n_controls

    def medians(self):
        p, q = self.L, len(self.names)
        return np.array([1.3] * p + [0.8] * q), np.array([0.4] * p + [0.7] * q)

    def prior(self, z, anchor):
        """Log prior over z, Jacobians included, and the matrices."""
        n, K, v = self.n, self.L + len(self.names), 1.7**2
        medians, spreads = self.medians()
        log_tau = z["scale"]
        tau = np.exp(log_tau)
        total = stats.norm(np.log(medians), spreads).logpdf(log_tau).sum()
        # softplus with its Jacobian, the logistic function
        gaps = np.log1p(np.exp(z["gaps"]))
        total += np.log(special.expit(z["gaps"])).sum()
        levels = np.concatenate([[0], np.cumsum(gaps)])
        levels -= levels.mean()
        s = np.sqrt(self.s2) * tau
        total += self.log_eigenvalues(levels, s[0])
        total -= stats.norm(0, s[0] / np.sqrt(n)).logpdf(0.0)
        mean = z["anchor"] - levels[anchor]
        total += stats.norm(0, np.sqrt(v + s[0] ** 2 / n)).logpdf(mean)
        matrices = [np.diag(levels + mean).astype(complex)]
        helmert = [
            np.array([1.0] * k + [-k] + [0.0] * (n - k - 1)) / np.sqrt(k * (k + 1)) for k in range(1, n)
        ]
        pairs = list(itertools.combinations(range(n), 2))
        # The outputs see levels 0 and 1: their couplings are sampled in units of the square root of the gap.
        unit = np.array([np.sqrt(levels[j] - levels[i]) if i < 2 else 1.0 for i, j in pairs])
        for k in range(1, K):
            shift = z["shift"][k - 1]
            total += stats.norm(0, np.sqrt(v + s[k] ** 2 / n)).logpdf(shift)
            d = z["diagonal"][k - 1]
            total += stats.norm(0, s[k]).logpdf(d).sum()
            M = np.diag(shift + sum(x * h for x, h in zip(d, helmert, strict=True))).astype(complex)
            if self.field == "real":
                elements = z["offdiagonal"][k - 1]
                total += stats.norm(0, tau[k] / unit).logpdf(elements).sum()
            elif k == 1:
                r = np.exp(z["first_modulus"])
                width = tau[1] / unit[: n - 1]
                total += np.sum(np.log(2 * r / width**2) - r**2 / width**2 + z["first_modulus"])
                rest = z["first_offdiagonal"][0] if n > 2 else np.zeros(0)
                re, im = np.split(rest, 2)
                total += stats.norm(0, tau[1] / unit[n - 1 :] / np.sqrt(2)).logpdf([re, im]).sum()
                elements = np.concatenate([r, re + 1j * im])
            else:
                x = z["offdiagonal"][k - 2]
                re, im = np.split(x, 2)
                total += stats.norm(0, tau[k] / unit / np.sqrt(2)).logpdf([re, im]).sum()
                elements = re + 1j * im
            for (i, j), element in zip(pairs, elements * unit, strict=True):
                M[i, j], M[j, i] = element, np.conj(element)
            matrices.append(M)
        spread = np.nanstd(self.data.values, axis=0)
        above = np.exp(z["floor"])
        total += np.sum(stats.halfcauchy(scale=self.noise_scale * spread).logpdf(above) + z["floor"])
        return total, np.array(matrices), self.least + above

    def log_eigenvalues(self, levels, s):
        n, beta = len(levels), self.beta
        total = -(n + beta * n * (n - 1) / 2) * np.log(s) - n / 2 * np.log(2 * np.pi)
        total += np.log(special.factorial(n))
        for j in range(1, n + 1):
            total -= special.gammaln(1 + j * beta / 2) - special.gammaln(1 + beta / 2)
        for i, j in itertools.combinations(range(n), 2):
            total += beta * np.log(levels[j] - levels[i])
        return total - np.sum(levels**2) / (2 * s**2)

    def outputs(self, matrices, controls):
        data, c = self.data, self.data.controls
        y = dict(zip(self.expressions, data.values.T, strict=True))
        pooled = np.concatenate([y["E0"], y["E1"]])
        m, s = np.nanmean(pooled), unit_of_two_levels_and_their_line(y["E0"], y["E1"], y["E1-E0"])
        m_A = np.nanmean(y["<0|A|0>"])
        s_A = max(np.nanstd(y["<0|A|0>"]), np.sqrt(np.nanmean(y["|<0|A|1>|^2"])))
        s_B = np.sqrt(np.nanmean(y["|<0|B|1>|^2"]))
        rows = []
        for control in controls:
            x = (control - c.mean(0)) / c.std(0)
            M = matrices[0] + sum(x[j] * matrices[j + 1] for j in range(len(x)))
            w, V = np.linalg.eigh(M)
            element = {
                name: V.conj().T @ A @ V for name, A in zip(self.names, matrices[self.L :], strict=True)
            }
            rows.append(
                [
                    m + s * w[1],
                    m + s * w[0],
                    s * (w[1] - w[0]),
                    m_A + s_A * element["A"][0, 0].real,
                    s_A**2 * abs(element["A"][0, 1]) ** 2,
                    s_B**2 * abs(element["B"][0, 1]) ** 2,
                ]
            )
        return np.array(rows)

    def likelihood(self, mean, floor):
        table = np.zeros_like(mean)
        for i, q in np.ndindex(*mean.shape):
            y, s = self.data.values[i, q], self.data.errors[i, q]
            if not np.isnan(y):
                table[i, q] = stats.norm(mean[i, q], np.sqrt(floor[q] ** 2 + s**2)).logpdf(y)
        return table


class TestAgainstNumPy:
    @fields
    @pytest.mark.parametrize(("dim", "n_controls"), [(2, 1), (3, 2), (4, 1)])
    def test_log_posterior(self, field, dim, n_controls):
        data = dataset(n_controls)
        posterior = Posterior(data, PMM(EXPRESSIONS, dim=dim, field=field), PRIOR)
        least = np.asarray(posterior.scaling.least_floor)
        explicit = Explicit(data, EXPRESSIONS, dim, field, ("A", "B"), least)

        @jax.jit
        def together(z):
            sites = posterior.constrain(z)
            return (
                posterior.potential(z, *posterior.training),
                posterior.log_prior(z),
                posterior.log_likelihood(z),
                posterior.pointwise(sites),
                posterior.outputs(sites, posterior.data.controls + 1.0),
                posterior.unconstrain(sites),
            )

        for seed in range(3):
            z = random_z(posterior, seed)
            potential, prior, likelihood, pointwise, outputs, again = together(z)
            # The first output is E1, so level 1 is the anchored one.
            expected, matrices, floor = explicit.prior(z, anchor=1)
            table = explicit.likelihood(explicit.outputs(matrices, data.controls), floor)
            np.testing.assert_allclose(prior, expected, rtol=1e-11)
            np.testing.assert_allclose(pointwise, table, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(likelihood, table.sum(), rtol=1e-9)
            np.testing.assert_allclose(potential, -(expected + table.sum()), rtol=1e-9)
            np.testing.assert_allclose(
                outputs, explicit.outputs(matrices, data.controls + 1.0), rtol=1e-9, atol=1e-9
            )
            for name, value in z.items():
                np.testing.assert_allclose(again[name], value, atol=1e-10)


class TestUnits:
    def test_levels_share_one_map_and_differences_are_not_centred(self):
        data = dataset(1)
        y = data.values
        scaling = fit_scaling(data, as_outputs(EXPRESSIONS), PMM(EXPRESSIONS).basis)
        pooled = y[:, :2][~np.isnan(y[:, :2])]
        assert scaling.shift[:3] == pytest.approx((pooled.mean(), pooled.mean(), 0))
        # Where both are measured, the unit is that of the levels' places by all of them, wherever zero is.
        unit = unit_of_two_levels_and_their_line(y[:, 1], y[:, 0], y[:, 2])
        assert scaling.scale[:3] == pytest.approx((unit,) * 3)
        two = Dataset(data.controls, y[:, :2], None, ("c0",), ("a", "b"))
        levels = fit_scaling(two, as_outputs(EXPRESSIONS[:2]), PMM(EXPRESSIONS[:2]).basis)
        assert levels.scale == pytest.approx((pooled.std(),) * 2)
        s_A = max(np.nanstd(y[:, 3]), np.sqrt(np.nanmean(y[:, 4])))
        assert scaling.shift[3:] == pytest.approx((np.nanmean(y[:, 3]), 0, 0))
        assert scaling.scale[3:] == pytest.approx((s_A, s_A**2, np.nanmean(y[:, 5])))
        assert scaling.spread == pytest.approx(np.nanstd(y, axis=0))
        assert Scaling.from_dict(scaling.to_dict()) == scaling

    def test_differences_alone_have_the_unit_of_the_levels_that_they_imply(self):
        c = np.linspace(0, 1, 5)
        levels = np.stack([-5 - 0.01 * c, 5 + 0.02 * c, 17 - 0.03 * c, 18 + 0.01 * c], axis=1)

        def unit(expressions, values):
            columns = {f"y{i}": v for i, v in enumerate(values)}
            data = Dataset.from_columns({"c": c}, columns)
            scaling = fit_scaling(data, as_outputs(expressions), PMM(expressions).basis)
            return scaling.scale[0]

        E0, E1, E2, E3 = levels.T
        all_of_them = unit(["E0", "E1", "E2", "E3"], levels.T)
        assert all_of_them == pytest.approx(levels.std())
        same = [
            unit(["E1-E0", "E2-E0", "E3-E0"], [E1 - E0, E2 - E0, E3 - E0]),
            unit(["E1-E0", "E2-E1", "E3-E1"], [E1 - E0, E2 - E1, E3 - E1]),
        ]
        assert same == pytest.approx([all_of_them] * 2, rel=1e-2)
        assert unit(["E1-E0"], [E1 - E0]) == pytest.approx(5, rel=1e-2)
        # Two pairs that nothing connects: each counts from its own middle.
        apart = unit(["E1-E0", "E3-E2"], [E1 - E0, E3 - E2])
        assert apart == pytest.approx(np.sqrt((5**2 + 0.5**2) / 2), rel=1e-2)

    def test_negative_strengths_are_refused(self):
        data = Dataset.from_columns({"c": np.arange(5.0)}, {"t": -10.0 - 0.1 * np.arange(5)})
        with pytest.raises(InputError, match="a transition strength cannot be negative"):
            fit_scaling(data, as_outputs(["|<0|A|1>|^2"]), PMM(["E0"]).basis)

    def test_the_exact_matrices_return_the_data(self):
        """M(c) = (σz + c σx)/2 carried into the model's units by hand, with A = σx as an observable."""
        c = np.linspace(0.0, 1.0, 6)[:, None]
        root = np.hypot(1.0, c[:, 0])
        columns = {"E0": -root / 2, "E1": root / 2, "gap": root, "x": -c[:, 0] / root, "t": 1 / root**2}
        data = Dataset.from_columns({"c": c[:, 0]}, columns)
        outputs = ["E0", "E1", "E1-E0", "<0|A|0>", "|<0|A|1>|^2"]
        posterior = Posterior(data, PMM(outputs, dim=2))
        scaling = posterior.scaling
        m, s, c_ref, width = scaling.shift[0], scaling.scale[0], c.mean(), c.std()
        h0, h1 = small()
        sigma_x = np.array([[0.0, 1.0], [1.0, 0.0]])
        matrices = np.stack(
            [
                (h0 + c_ref * h1 - m * np.eye(2)) / s,
                width * h1 / s,
                (sigma_x - scaling.shift[3] * np.eye(2)) / scaling.scale[3],
            ]
        )
        np.testing.assert_allclose(posterior.evaluate(matrices, c), data.values, atol=1e-13)
        sites = posterior.matrix_prior.sites(jnp.asarray(matrices), jnp.ones(3))
        np.testing.assert_allclose(posterior.outputs(sites, c), data.values, atol=1e-13)
        problem = get("spins")
        outside = posterior.outputs(sites, problem.outside)[:, :1]
        np.testing.assert_allclose(outside, problem.exact(problem.outside), atol=1e-12)

    @fields
    def test_users_units_of_energy_do_not_matter(self, field):
        """The log prior is the same, and the likelihood up to the units of its density."""
        outputs = ("E0", "E1", "E1-E0")
        plain = dataset(1, outputs=outputs, errors=False)
        a, b = 27.2, -540.0
        other = Dataset(
            plain.controls,
            a * plain.values + b * np.array([1.0, 1.0, 0.0]),
            None,
            plain.control_names,
            plain.output_names,
        )
        first, second = (Posterior(d, PMM(outputs, dim=3, field=field)) for d in (plain, other))
        z = random_z(first, 0)
        log_p = jax.jit(first.potential)(z, *first.training)
        # floors are in the user's units
        moved = z | {"floor": z["floor"] + np.log(a)}
        log_q = jax.jit(second.potential)(moved, *second.training)
        assert float(log_q - log_p) == pytest.approx(plain.n_observed * np.log(a), rel=1e-9)


class TestMissingData:
    OUTPUTS = ("E0", "E1", "<0|A|0>")

    def test_contribute_nothing(self):
        full = dataset(1, rows=8, outputs=self.OUTPUTS)
        values = np.array(full.values)
        values[5] = np.nan
        values[2, 1] = np.nan
        gaps = Dataset(full.controls, values, full.errors, full.control_names, full.output_names)
        keep = np.arange(8) != 5
        fewer = Dataset(
            full.controls[keep], values[keep], full.errors[keep], full.control_names, full.output_names
        )
        pmm = PMM(self.OUTPUTS, dim=3)
        scaling = fit_scaling(gaps, pmm.outputs, pmm.basis)
        a, b = (Posterior(d, pmm, scaling=scaling) for d in (gaps, fewer))
        z = random_z(a, 0)
        pointwise = np.asarray(jax.jit(lambda z: a.pointwise(a.constrain(z)))(z))
        np.testing.assert_array_equal(pointwise == 0, np.isnan(values))
        assert float(jax.jit(a.log_likelihood)(z)) == pytest.approx(float(jax.jit(b.log_likelihood)(z)))
        value = jax.jit(a.potential)(z, *a.training)
        assert float(value) == pytest.approx(float(jax.jit(b.potential)(z, *b.training)))

    def test_a_row_without_any_value_is_allowed_in_compiled_functions(self):
        full = dataset(1, rows=8, outputs=self.OUTPUTS)
        values = np.array(full.values)
        values[5] = np.nan
        gaps = Dataset(full.controls, values, full.errors, full.control_names, full.output_names)
        posterior = Posterior(gaps, PMM(self.OUTPUTS, dim=3))
        z = random_z(posterior, 0)
        expected = float(jax.jit(posterior.log_likelihood)(z))
        arrays = jax.tree.map(jnp.asarray, posterior.arrays)
        traced = jax.jit(lambda a, z: posterior.with_arrays(a).log_likelihood(z))(arrays, z)
        assert float(traced) == pytest.approx(expected, rel=1e-12)
        # So it is where the units are known but the posterior is made anew.
        traced = jax.jit(lambda z: replace(posterior, noise=Noise()).log_likelihood(z))(z)
        assert float(traced) == pytest.approx(expected, rel=1e-12)

    @fields
    @pytest.mark.parametrize("floor", [True, False])
    def test_leave_gradients_finite(self, field, floor):
        data = dataset(1, outputs=self.OUTPUTS)
        errors = np.where(data.mask, 0.2, 0)
        data = Dataset(data.controls, data.values, errors, data.control_names, data.output_names)
        posterior = Posterior(data, PMM(self.OUTPUTS, dim=3, field=field), noise=Noise(floor=floor))
        z = random_z(posterior, 1)
        both = jax.jit(
            lambda z: (
                jax.grad(posterior.potential)(z, *posterior.training),
                jax.grad(posterior.log_likelihood)(z),
            )
        )
        for gradient in both(z):
            for name, value in gradient.items():
                assert np.all(np.isfinite(value)), name


class TestNoise:
    OUTPUTS = ("E0", "E1")

    def test_the_floor_begins_well_above_the_rounding_of_the_levels(self):
        data = dataset(1, outputs=self.OUTPUTS)
        posterior = Posterior(data, PMM(self.OUTPUTS, dim=2))
        z = posterior.unconstrain(posterior.prior_sites(jax.random.key(0)))
        lowest = posterior.constrain(z | {"floor": jnp.full(2, -200.0)})["floor"]
        scale, shift = posterior.scaling.scale[0], posterior.scaling.shift[0]
        np.testing.assert_allclose(lowest, 1e-9 * scale + 1e-14 * abs(shift), rtol=1e-9)
        # The density of log(floor - least) falls like its argument.
        value = jax.jit(posterior.log_prior)
        at = [float(value(z | {"floor": jnp.full(2, f)})) for f in (-40.0, -50.0)]
        assert at[0] - at[1] == pytest.approx(20.0)

    def test_variances_add(self):
        data = dataset(1, outputs=self.OUTPUTS)
        posterior = Posterior(data, PMM(self.OUTPUTS, dim=2))
        sites = posterior.prior_sites(jax.random.key(0)) | {"floor": jnp.array([0.3, 0.4])}
        mean = np.asarray(posterior.outputs(sites, data.controls))
        sd = np.sqrt(data.errors**2 + np.array([0.3, 0.4]) ** 2)
        expected = stats.norm(mean, sd).logpdf(data.values)
        np.testing.assert_allclose(posterior.pointwise(sites), np.nan_to_num(expected), rtol=1e-9)

    def test_without_floor_only_known_errors_count(self):
        data = dataset(1, outputs=self.OUTPUTS)
        errors = np.where(data.mask, 0.2, 0)
        data = Dataset(data.controls, data.values, errors, data.control_names, data.output_names)
        posterior = Posterior(data, PMM(self.OUTPUTS, dim=2), noise=Noise(floor=False))
        sites = posterior.prior_sites(jax.random.key(0))
        assert "floor" not in sites
        expected = stats.norm(np.asarray(posterior.outputs(sites, data.controls)), 0.2).logpdf(data.values)
        np.testing.assert_allclose(posterior.pointwise(sites), np.nan_to_num(expected), rtol=1e-9)

    def test_without_floor_and_errors_is_refused(self):
        with pytest.raises(InputError, match="output y0: no known error and the learned floor is off"):
            Posterior(dataset(1, outputs=self.OUTPUTS), PMM(self.OUTPUTS, dim=2), noise=Noise(floor=False))

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_floor_scale_must_be_positive(self, scale):
        with pytest.raises(InputError, match=r"floor_scale = .* must be positive"):
            Noise(floor_scale=scale)


def test_columns_must_match_outputs():
    with pytest.raises(InputError, match="the model has 1 outputs and the data 2 columns"):
        Posterior(dataset(1, outputs=("E0", "E1")), PMM(["E0"]))


@pytest.mark.parametrize("second", [PMM(["E0"]), ["E0"], "E0"])
def test_exchanged_or_other_arguments_say_the_order(second):
    data = dataset(1, outputs=("E0",))
    with pytest.raises(InputError, match=r"write Posterior\(data, PMM"):
        Posterior(second, data)
    if not isinstance(second, PMM):
        with pytest.raises(InputError, match=r"write Posterior\(data, PMM"):
            Posterior(data, second)


@pytest.mark.parametrize("wrong", [{"noise": 0.1}, {"widening": 0}, {"prior": None}])
def test_parts_of_another_kind_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=rf"{name} = .* is no {name.capitalize()}; give for example bp\."):
        Posterior(dataset(outputs=("E0",)), PMM(["E0"], dim=2), **wrong)


def test_user_basis_without_constant():
    """A basis without a constant: energies are not centred, M(c) = c M_0."""
    data = dataset(1, outputs=("E0", "E1"))
    posterior = Posterior(data, PMM(["E0", "E1"], dim=2, basis=Custom(lambda c: c, has_constant=False)))
    sites = posterior.prior_sites(jax.random.key(0))
    outputs = np.asarray(posterior.outputs(sites, data.controls))
    # Negative controls turn the levels over.
    slopes = np.sort(outputs / data.controls, axis=1)
    np.testing.assert_allclose(slopes, np.broadcast_to(slopes[:1], slopes.shape), rtol=1e-10)


class TestInNumPyro:
    """``posterior.model`` is an ordinary NumPyro model in the user's units; MCMC is in test_equivalence."""

    OUTPUTS = ("E0", "E1")

    @pytest.fixture(scope="class")
    @classmethod
    def posterior(cls):
        return Posterior(dataset(1, outputs=cls.OUTPUTS), PMM(cls.OUTPUTS, dim=2))

    def test_predictive(self, posterior):
        c = np.linspace(0, 9, 7)[:, None]
        draws = Predictive(posterior.model, num_samples=5)(jax.random.key(0), c)
        assert draws["y"].shape == (5, 7, 2)
        error = np.full((7, 2), 1e3)
        wide = Predictive(posterior.model, num_samples=5)(jax.random.key(0), c, error=error)
        assert wide["y"].std() > 100 > draws["y"].std()

    def test_svi(self, posterior):
        svi = SVI(posterior.model, AutoNormal(posterior.model), Adam(1e-2), Trace_ELBO())
        c, y, error = posterior.training
        result = svi.run(jax.random.key(0), 200, c, y=y, error=error, progress_bar=False)
        assert np.all(np.isfinite(result.losses))
        assert result.losses[-20:].mean() < result.losses[:20].mean()


def test_columns_in_the_wrong_order_are_refused():
    c = np.linspace(0, 1, 5)[:, None]
    low, high = c**2, 2 + c
    wrong = Dataset(c, np.hstack([high, low]), None, ("c",), ("high", "low"))
    with pytest.raises(InputError, match=r"column high \(output E0\) lies above column low .* in all 5 rows"):
        Posterior(wrong, PMM(["E0", "E1"], dim=2))
    with pytest.raises(InputError, match="exchange the two"):
        Posterior(wrong, PMM(["E[-2]", "E[-1]"], dim=2))
    Posterior(wrong, PMM(["E1", "E0"], dim=2))
    # Noise may exchange levels that touch.
    touching = Dataset(c, np.hstack([c + 0.01, c]), None, ("c",), ("a", "b"))
    Posterior(touching, PMM(["E0", "E1"], dim=2))


def test_values_exchanged_in_some_rows_are_said():
    c = np.linspace(0, 1, 8)
    y = np.stack([c, 2 + c], axis=1)
    y[3] = y[3, ::-1]
    with pytest.warns(UserWarning, match=r"column a .* above column b .* in 1 of 8 rows, first at c = 0\.42"):
        Posterior(Dataset(c[:, None], y, None, ("c",), ("a", "b")), PMM(["E0", "E1"], dim=3))
    # Noise may exchange levels that nearly touch, and large errors account for much.
    close = np.stack([c, c + 0.01], axis=1) + 0.02 * np.random.default_rng(0).normal(size=(8, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Posterior(Dataset(c[:, None], y, np.ones((8, 2)), ("c",), ("a", "b")), PMM(["E0", "E1"], dim=3))
        Posterior(
            Dataset(c[:, None], close, np.full((8, 2), 0.02), ("c",), ("a", "b")), PMM(["E0", "E1"], dim=3)
        )
        for seed in range(50):
            noise = 0.02 * np.random.default_rng(seed).normal(size=(8, 2))
            touching = np.stack([c, c + 0.01], axis=1) + noise
            Posterior(Dataset(c[:, None], touching, None, ("c",), ("a", "b")), PMM(["E0", "E1"], dim=3))


@pytest.mark.parametrize(
    ("value", "error", "unit"),
    [
        (0.1, None, 0.1),
        (0.7, 1e-3, 0.7),
        (-1234.5678, None, 1234.5678),
        (1e-20, 1e-23, 1e-20),
        (0, 0.2, 0.2),
        (0, None, 1),
    ],
)
def test_data_that_are_constant_up_to_rounding_have_a_unit(value, error, unit):
    c, y = np.arange(3.0)[:, None], np.full((3, 1), value)
    errors = None if error is None else np.full((3, 1), error)
    scaling = Posterior(Dataset(c, y, errors, ("c",), ("E0",)), PMM(["E0"], dim=2)).scaling
    assert scaling.scale[0] == pytest.approx(unit)
    assert scaling.variation[0] == 1.0
    conserved = Posterior(Dataset(c, y, errors, ("c",), ("A",)), PMM(["<0|A|0>"], dim=2))
    assert conserved.scaling.scale[0] == pytest.approx(unit)


def test_levels_beside_lines_do_not_set_the_unit_by_where_zero_is():
    c = np.linspace(0, 1, 6)
    lines = {"f1": 1.0 + 0.1 * c, "f2": 2.0 - 0.2 * c}

    def unit(expressions, **columns):
        data = Dataset.from_columns({"c": c}, lines | columns)
        return fit_scaling(data, as_outputs(expressions), PMM(expressions).basis).scale[0]

    alone = unit(["E1-E0", "E2-E0"])
    one_row = np.where(np.arange(6) == 2, -1000.0, np.nan)
    for ground in (one_row, one_row + 2000.0, np.zeros(6)):
        assert unit(["E1-E0", "E2-E0", "E0"], E0=ground) == pytest.approx(alone, rel=0.2)
    # In joules, and with the ground level at 0 by convention.
    tiny = {k: 1e-20 * v for k, v in lines.items()}
    assert unit(["E1-E0", "E2-E0", "E0"], **tiny, E0=np.zeros(6)) == pytest.approx(1e-20 * alone, rel=0.2)


@pytest.mark.parametrize("unit", [1e200, 1e-200, 1e-300, 1e300])
@pytest.mark.parametrize("what", ["data", "controls"])
@pytest.mark.filterwarnings("error")
def test_numbers_whose_squares_do_not_fit_are_refused(unit, what):
    c, y = np.linspace(0, 1, 6), np.linspace(0, 0.4, 6) ** 2
    given = (c, y * unit) if what == "data" else (c * unit, y)
    data = Dataset.from_columns({"c": given[0]}, {"E0": given[1], "E1": given[1] + given[1].max()})
    with pytest.raises(InputError, match=f"the {what} have no unit to work in"):
        Posterior(data, PMM(["E0", "E1"], dim=2))


def test_a_column_named_like_another_output_is_warned_of():
    data = Dataset.from_columns({"g": [0.0, 0.5, 1.0]}, {"E0": [0.0, 0.1, 0.2], "E2": [2.0, 2.2, 2.5]})
    with pytest.warns(UserWarning, match="column E2 is fitted as E1"):
        Posterior(data, PMM(["E0", "E1"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Posterior(data, PMM(["E0", "E2"]))


@pytest.mark.parametrize("floor", [0.2, "no", 1, None])
def test_a_floor_is_true_or_false(floor):
    with pytest.raises(InputError, match=r"floor = .*floor_scale=0\.2"):
        Noise(floor=floor)


@pytest.mark.parametrize("outputs", [2, None, 1.5])
def test_outputs_that_are_no_list(outputs):
    with pytest.raises(InputError, match="give a list of expressions"):
        PMM(outputs)


@pytest.mark.parametrize(("output", "sign"), [("E0-E1", 1.0), ("E1-E0", -1.0), ("E[-1]-E[-2]", -1.0)])
def test_lines_of_the_wrong_sign_are_refused(output, sign):
    line = sign * np.array([1.0, 1.2, 1.5])
    data = Dataset(np.arange(3.0)[:, None], line[:, None], None, ("B",), ("nu",))
    with pytest.raises(InputError, match=r"column nu is (negative|positive) in every row.*write E"):
        Posterior(data, PMM([output], dim=3))
    Posterior(Dataset(data.controls, -data.values, None, ("B",), ("nu",)), PMM([output], dim=3))
    # Noise about nothing has any sign.
    errors = np.full((3, 1), 1.0)
    Posterior(Dataset(data.controls, data.values, errors, ("B",), ("nu",)), PMM([output], dim=3))


def test_levels_of_few_rows_have_their_order_too():
    data = Dataset(np.arange(2.0)[:, None], np.array([[2.0, 1.0], [2.1, 1.2]]), None, ("B",), ("a", "b"))
    with pytest.raises(InputError, match="exchange the two"):
        Posterior(data, PMM(["E0", "E1"], dim=2))


def test_errors_in_another_unit_are_said():
    x = np.linspace(0, 1, 8)[:, None]
    y = x + 0.01 * np.random.default_rng(0).normal(size=x.shape)
    for size, said in ((0.01, False), (5.0, True)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Posterior(Dataset(x, y, np.full(x.shape, size), ("g",), ("E0",)), PMM(["E0"], dim=2))
        assert any("check their unit" in str(w.message) for w in caught) == said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Posterior(Dataset(x, 0 * y + 1, np.full(x.shape, 0.1), ("g",), ("E0",)), PMM(["E0"], dim=2))


@pytest.mark.parametrize(
    ("values", "outputs"),
    [
        ([[5.0, 2.0], [6.0, 4.0], [8.0, 6.0]], ["E1-E0", "E2-E0"]),
        ([[5.0, 2.0], [6.0, 4.0], [8.0, 6.0]], ["E2-E1", "E2-E0"]),
        ([[-5.0, 2.0], [-6.0, 4.0], [-8.0, 6.0]], ["E0-E1", "E3-E0"]),
        ([[5.0, 2.0], [6.0, 4.0], [8.0, 6.0]], ["E[-2]-E[-3]", "E[-1]-E[-3]"]),
    ],
)
def test_lines_in_the_wrong_order_are_refused(values, outputs):
    c = np.arange(3.0)[:, None]
    with pytest.raises(
        InputError, match=r"column f lies above|column f \(output .*\) lies above column g .* exchange"
    ):
        Posterior(Dataset(c, np.array(values), None, ("B",), ("f", "g")), PMM(outputs, dim=5))
    # Lines of which neither is part of the other may have any order.
    for free in (["E1-E0", "E2-E1"], ["E2-E0", "E3-E1"], ["E1-E0", "E[-1]-E[-2]"]):
        Posterior(Dataset(c, np.abs(values), None, ("B",), ("f", "g")), PMM(free, dim=5))


def test_a_degenerate_pair_is_said():
    c = np.linspace(0, 1, 6)
    low = -np.sqrt(1 + c**2)
    noise = 0.01 * np.random.default_rng(0).normal(size=(6, 2))
    pair = np.sort(low[:, None] + noise, axis=1)
    with pytest.warns(
        UserWarning, match=r"column a \(output E0\) and column b agree within .* in all 6 rows: .*Kramers"
    ):
        Posterior(
            Dataset(c[:, None], pair, np.full((6, 2), 0.01), ("B",), ("a", "b")), PMM(["E0", "E1"], dim=4)
        )
    exact = np.stack([low, low], axis=1)
    with pytest.warns(UserWarning, match="degenerate") as caught:
        Posterior(Dataset(c[:, None], exact, None, ("B",), ("a", "b")), PMM(["E0", "E1"], dim=4))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart = np.stack([low, low + 0.1], axis=1)
        Posterior(
            Dataset(c[:, None], apart, np.full((6, 2), 0.01), ("B",), ("a", "b")), PMM(["E0", "E1"], dim=4)
        )
        # Of large errors nothing follows.
        Posterior(
            Dataset(c[:, None], apart, np.full((6, 2), 0.2), ("B",), ("a", "b")), PMM(["E0", "E1"], dim=4)
        )


def test_outputs_by_name_are_ambiguous():
    with pytest.raises(InputError, match=r"list\(outputs.values\(\)\)"):
        PMM({"E1": "E1-E0"})


def test_levels_that_nearly_touch_may_be_exchanged_by_noise_in_every_row():
    c = np.arange(6.0)[:, None]
    low = np.array([1.02, 0.9, 0.8, 0.7, 0.6, 0.5])
    for high in ([1.0], [1.0, 0.87]):
        values = np.stack([low, np.append(high, np.full(6 - len(high), np.nan))], axis=1)
        Posterior(Dataset(c, values, np.full((6, 2), 0.05), ("g",), ("E0", "E1")), PMM(["E0", "E1"], dim=3))
        with pytest.raises(InputError, match="exchange the two"):
            Posterior(
                Dataset(c, values, np.full((6, 2), 1e-3), ("g",), ("E0", "E1")), PMM(["E0", "E1"], dim=3)
            )


def test_a_row_without_values_where_the_basis_is_not_finite_is_named():
    c, y = np.arange(6.0)[:, None], np.append(np.nan, np.arange(5.0))[:, None]
    with pytest.raises(InputError, match=r"row 0 .* has no value; remove"):
        Posterior(Dataset(c, y, None, ("L",), ("E0",)), PMM(["E0"], dim=2, basis="inverse:1"))


def test_strengths_of_the_wrong_sign_are_refused():
    c = np.linspace(0, 1, 5)[:, None]
    y = np.stack([c[:, 0], -c[:, 0] * 0.9], axis=1)
    with pytest.raises(InputError, match="cannot be negative"):
        Posterior(Dataset(c, y, None, ("g",), ("E0", "S")), PMM(["E0", "|<0|A|1>|^2"], dim=3))


def test_repeated_rows_do_not_make_up_for_terms():
    rng = np.random.default_rng(0)
    few, enough = (np.tile(np.linspace(0.0, 1.0, k), 4)[:, None] for k in (2, 7))
    posterior = lambda c: Posterior(
        Dataset(c, rng.normal(size=c.shape), None, ("g",), ("E0",)), PMM(["E0"], dim=2, basis="poly:6")
    )
    with pytest.raises(InputError, match="7 terms, more than the 2 different controls"):
        posterior(few)
    assert posterior(enough).matrix_prior.n_matrices == 7


def test_units_of_another_basis_or_of_other_outputs_are_refused():
    c = np.linspace(1, 10, 8)[:, None]
    data = Dataset(c, np.concatenate([1 + 2 / c, 4 - 1 / c], axis=1), None, ("L",), ("a", "b"))
    posterior = Posterior(data, PMM(["E0", "E1"], dim=3))
    for pmm in (
        PMM(["E0", "E1"], dim=3, basis="inverse:1"),
        PMM(["E0", "E1"], dim=3, basis="poly:2"),
        PMM(["E0", "E1-E0"], dim=3),
    ):
        with pytest.raises(
            InputError, match=r"fitted for another basis or other outputs than .*scaling=None"
        ):
            replace(posterior, pmm=pmm)
        again = replace(posterior, pmm=pmm, scaling=None)
        assert again.scaling == fit_scaling(data, pmm.outputs, pmm.basis)
    # Without a constant a term is not 0 at the reference, and is known by its size.
    bare = [
        Custom(lambda c, p=p: jnp.concatenate([c**p, c], axis=1), has_constant=False) for p in (-1.0, -2.0)
    ]
    posterior = Posterior(data, PMM(["E0", "E1"], dim=3, basis=bare[0]))
    with pytest.raises(InputError, match="another basis"):
        replace(posterior, pmm=PMM(["E0", "E1"], dim=3, basis=bare[1]))


@pytest.mark.parametrize("basis", ["affine", "poly:3", "inverse:2", "fourier:2:7.0"])
def test_units_stay_with_what_they_suit(basis):
    c = np.linspace(1, 10, 12)[:, None]
    y = np.concatenate([1 + 2 / c, 4 - 1 / c, 3 - 3 / c, c**0, c**2], axis=1)
    data = Dataset(c, y, None, ("L",), tuple("abcde"))
    pmm = PMM(["E0", "E1", "E1-E0", "<0|A|0>", "|<0|A|1>|^2"], dim=3, basis=basis)
    posterior = Posterior(data, pmm, scaling=fit_scaling(data, pmm.outputs, pmm.basis, np.array([2.0])))
    for first in (posterior, replace(posterior, scaling=None)):
        for others in (
            {"pmm": replace(pmm, dim=4)},
            {"noise": Noise(floor_scale=0.2)},
            {"data": data.select(np.arange(7))},
        ):
            assert replace(first, **others).scaling is first.scaling


def test_an_output_that_nothing_moves_is_said():
    c = np.linspace(0, 1, 8)[:, None]
    both = np.hstack([np.ones_like(c), 2 + c**2])

    def posterior(values, errors=None):
        names = ("E0", "E1")[: values.shape[1]]
        return Posterior(Dataset(c, values, errors, ("g",), names), PMM(names, dim=3))

    with pytest.warns(
        UserWarning, match="column E0 is 1 in all 8 rows: .* leave it out and fit the others alone"
    ):
        posterior(both)
    with pytest.warns(UserWarning, match="column E0 is 1 in all 8 rows: .* leave it out; "):
        posterior(both[:, :1] + 1e-15 * c)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior(both[:, 1:])
        # What is measured may well be the same within its errors.
        posterior(both, np.full_like(both, 0.1))


def test_settings_in_each_others_places_are_said():
    data = Dataset(np.arange(3.0)[:, None], np.arange(3.0)[:, None], None, ("g",), ("E0",))
    with pytest.raises(InputError, match=r"prior = Noise\(.*\) is no Prior; write noise=Noise\(floor=True"):
        Posterior(data, PMM(["E0"], dim=2), Noise())


def test_a_unit_behind_a_name_hides_no_level():
    data = Dataset(np.arange(3.0)[:, None], np.arange(3.0)[:, None], None, ("g",), ("E1 (meV)",))
    with pytest.warns(UserWarning, match="column E1 .meV. is fitted as E0, as the model says"):
        Posterior(data, PMM(["E0"], dim=2))


def test_a_digit_too_many_is_said():
    c = np.linspace(0, 1, 8)
    y = -1.0 - 0.5 * c**2
    slip = y.copy()
    slip[3] *= 10

    def posterior(values, controls=c, errors=None):
        data = Dataset(controls[:, None], values[:, None], errors, ("g",), ("E0",))
        return Posterior(data, PMM(["E0"], dim=2))

    with pytest.warns(
        UserWarning, match=r"column E0 is -10.9\d* at g = 0.42\d*, and lies between -1.5 and -1 in all"
    ):
        posterior(slip)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior(y)
        # At the rim a value may be like no other, and a large known error accounts for much.
        posterior(1 / (0.02 + c))
        posterior(slip, errors=np.full((8, 1), 2.0))


def test_the_model_takes_one_column_flat():
    data = Dataset(np.linspace(0, 1, 5)[:, None], np.linspace(0, 1, 5)[:, None] ** 2, None, ("g",), ("E0",))
    posterior = Posterior(data, PMM(["E0"], dim=2))
    sites = posterior.prior_sites(jax.random.key(0))
    densities = [
        float(log_density(posterior.model, (c, y), {}, sites)[0])
        for c, y in ((data.controls, data.values), (data.controls[:, 0], data.values[:, 0]))
    ]
    assert densities[0] == densities[1]
    with pytest.raises(InputError, match=r"c of shape \(5, 2\): the model takes \(N, 1\), the columns g"):
        log_density(posterior.model, (np.ones((5, 2)), data.values), {}, sites)
    with pytest.raises(InputError, match=r"y of shape \(5, 3\): the model takes \(N, 1\), the columns E0"):
        log_density(posterior.model, (data.controls, np.ones((5, 3))), {}, sites)


def test_slips_of_strengths_and_of_exchanged_arguments_are_said():
    c = np.linspace(0, 1, 8)[:, None]
    noise = 0.1 * np.random.default_rng(0).normal(size=(8, 1))
    strength = lambda y: Posterior(Dataset(c, y, None, ("B",), ("S",)), PMM(["|<0|X|1>|^2"], dim=2))
    with pytest.warns(
        UserWarning, match=r"column S is -0\.\d+ in the mean, and a strength .* check its sign"
    ):
        strength(0.1 - c + noise)
    with pytest.warns(UserWarning, match="the control E0 is called like an output, and no output is"):
        Posterior(Dataset.from_columns({"E0": c[:, 0]}, {"g": c[:, 0] ** 2}), PMM(["E0"], dim=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A line too weak to be seen has any sign.
        strength(noise)
        strength(c + noise)


def test_an_offset_that_rounding_eats_is_said():
    c = np.linspace(0, 1, 8)[:, None]
    with pytest.warns(UserWarning, match=r"E0 varies by 1 about 1e\+12, .* rounding: subtract an offset"):
        Posterior(Dataset(c, 1e12 + c**2, None, ("g",), ("E0",)), PMM(["E0"], dim=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Posterior(Dataset(c, 1e9 + c**2, None, ("g",), ("E0",)), PMM(["E0"], dim=2))
