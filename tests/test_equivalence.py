"""The gauge-fixed prior and posterior are the plain ensemble's: draws against draws.

The plain ensemble is drawn by NumPy alone, with its definition and the units written out. Keys are fixed; each
Kolmogorov–Smirnov test has its share of a family-wise level of 1 %.
"""

from dataclasses import dataclass
from functools import cached_property

import arviz as az
import jax
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats

from bayes_pmm import priors
from bayes_pmm.data import Dataset
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.problems import get

FAMILY_LEVEL = 0.01
N_PLAIN = 20_000
N_SAMPLED = 8_000
FLOOR_SCALE = 0.05


@dataclass(frozen=True)
class Case:
    """A PMM whose prior of outputs is drawn in several ways."""

    field: str
    n_controls: int
    dim: int
    outputs: tuple[str, ...]
    scale_median: float = 1.5
    scale_spread: float = 0.4
    shift_sd: float = 0.8

    @cached_property
    def data(self):
        """Only the units are taken from these."""
        rng = np.random.default_rng(0)
        controls = 3 + 2 * rng.normal(size=(6, self.n_controls))
        values = rng.normal(size=(6, len(self.outputs))) + 0.5
        values = np.where([o.startswith("|") for o in self.outputs], np.abs(values), values)
        names = [f"c{j}" for j in range(self.n_controls)]
        return Dataset(controls, values, np.ones_like(values), names, self.outputs)

    @cached_property
    def controls(self):
        """Two training controls and one far outside."""
        return np.concatenate([self.data.controls[:2], 12 + np.zeros((1, self.n_controls))])

    def posterior(self, kind="reference", floor=True):
        prior = Prior(
            scale_median=self.scale_median,
            scale_spread=self.scale_spread,
            secondary_median=self.scale_median,
            secondary_spread=self.scale_spread,
            shift_sd=self.shift_sd,
            terms_unit="spread",
            growth=0.0,
            dilation=0.0,
            centre="all",
            gauge=kind,
        )
        pmm, noise = PMM(self.outputs, dim=self.dim, field=self.field), Noise(floor, FLOOR_SCALE)
        return Posterior(self.data, pmm, prior, noise)

    def plain(self, size, seed):
        """Outputs (size, 3, Q) of the plain ensemble."""
        rng, n, p = np.random.default_rng(seed), self.dim, self.n_controls
        upper = np.triu_indices(n, 1)

        def matrix():
            tau = self.scale_median * np.exp(self.scale_spread * rng.normal(size=size))
            M = np.zeros((size, n, n), complex if self.field == "complex" else float)
            pairs = (size, len(upper[0]))
            if self.field == "real":
                M[:, *upper] = tau[:, None] * rng.normal(size=pairs)
                diagonal = np.sqrt(2) * tau[:, None] * rng.normal(size=(size, n))
            else:
                z = rng.normal(size=pairs) + 1j * rng.normal(size=pairs)
                M[:, *upper] = tau[:, None] * z / np.sqrt(2)
                diagonal = tau[:, None] * rng.normal(size=(size, n))
            M = M + np.swapaxes(M, 1, 2).conj()
            shift = self.shift_sd * rng.normal(size=size)
            return M + (diagonal + shift[:, None])[:, :, None] * np.eye(n)

        primary = [matrix() for _ in range(p + 1)]
        secondary = {"A": matrix(), "B": matrix()}
        data = self.data
        x = (self.controls - data.controls.mean(0)) / data.controls.std(0)
        M = primary[0][:, None] + sum(x[:, j, None, None] * primary[j + 1][:, None] for j in range(p))
        w, V = np.linalg.eigh(M)

        def element(name, bra, ket):
            return np.einsum("sci,sij,scj->sc", V[..., bra].conj(), secondary[name], V[..., ket])

        column = dict(zip(self.outputs, data.values.T, strict=True))
        levels = np.concatenate([column[o] for o in self.outputs if o in ("E0", "E[-1]")])
        m, s = levels.mean(), levels.std()
        if "E1-E0" in column:
            # Places of E0, E1 and the highest level, by least squares from what is measured.
            bottom, top, line = (column[o] for o in ("E0", "E[-1]", "E1-E0"))
            places = np.array([bottom.mean(), bottom.mean() + line.mean(), top.mean()])
            s = np.sqrt(places.var() + (bottom.var() + top.var() + line.var() / 2) / 3)
        result = {
            "E0": m + s * w[..., 0],
            "E[-1]": m + s * w[..., -1],
            "E1-E0": s * (w[..., 1] - w[..., 0]),
        }
        if "<0|A|0>" in column:
            m_A, s_A = column["<0|A|0>"].mean(), column["<0|A|0>"].std()
            if "|<0|A|1>|^2" in column:
                s_A = max(s_A, np.sqrt(column["|<0|A|1>|^2"].mean()))
                result["|<0|A|1>|^2"] = s_A**2 * np.abs(element("A", 0, 1)) ** 2
            result["<0|A|0>"] = m_A + s_A * element("A", 0, 0).real
        if "|<0|B|1>|^2" in column:
            result["|<0|B|1>|^2"] = column["|<0|B|1>|^2"].mean() * np.abs(element("B", 0, 1)) ** 2
        return np.stack([result[o] for o in self.outputs], axis=-1)


CASES = {
    "real, one control": Case(
        "real", 1, 3, ("E0", "E[-1]", "E1-E0", "<0|A|0>", "|<0|A|1>|^2", "|<0|B|1>|^2")
    ),
    "real, two controls": Case("real", 2, 4, ("E0", "E[-1]", "<0|A|0>", "|<0|A|1>|^2")),
    "complex, one control": Case(
        "complex", 1, 3, ("E0", "E[-1]", "E1-E0", "<0|A|0>", "|<0|A|1>|^2", "|<0|B|1>|^2")
    ),
    "complex, two controls": Case("complex", 2, 3, ("E0", "E[-1]", "E1-E0", "<0|A|0>", "|<0|A|1>|^2")),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def sampled(posterior, size, seed):
    """Sites, by the distributions' own ``sample``."""
    keys = jax.random.split(jax.random.key(seed), size)
    return jax.jit(jax.vmap(posterior.prior_sites))(keys)


def evaluated(posterior, sites, controls):
    return np.asarray(jax.jit(jax.vmap(lambda s: posterior.outputs(s, controls)))(sites))


def statistics(outputs):
    """(size, number) of outputs (size, N, Q): each output, and its change between controls, which is joint."""
    flat = outputs.reshape(len(outputs), -1)
    change = outputs[:, 1:] - outputs[:, :1]
    return np.concatenate([flat, change.reshape(len(outputs), -1)], axis=1)


def two_sample(a, b):
    """Smallest p value over the columns, times their number."""
    values = [stats.ks_2samp(x, y, method="asymp").pvalue for x, y in zip(a.T, b.T, strict=True)]
    return min(values) * len(values)


def thinned(draws):
    """Nearly independent draws from (chain, draw, number): every 2N/ESS-th of each chain, pooled."""
    chains, count, number = draws.shape
    quantities = az.convert_to_dataset({"x": draws})
    ess = min(float(az.ess(quantities, method=method)["x"].min()) for method in ("bulk", "tail", "mean"))
    step = max(1, int(np.ceil(2 * chains * count / ess)))
    return draws[:, ::step].reshape(-1, number)


def prior_by_nuts(posterior, seed, warmup, draws, chains=4):
    """Sites (chain, draw, ...) drawn by NumPyro's NUTS on ``log_prior``, started far from the prior."""
    key_init, key_run = jax.random.split(jax.random.key(seed))
    one = jax.eval_shape(lambda k: posterior.unconstrain(posterior.prior_sites(k)), key_init)
    keys = dict(zip(one, jax.random.split(key_init, len(one)), strict=True))
    init = {k: jax.random.uniform(keys[k], (chains, *v.shape), minval=-1, maxval=1) for k, v in one.items()}
    mcmc = MCMC(
        NUTS(potential_fn=lambda z: -posterior.log_prior(z)),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(key_run, init_params=init)
    z = mcmc.get_samples(group_by_chain=True)
    return jax.jit(jax.vmap(jax.vmap(posterior.constrain)))(z)


def compare_nuts(case, floor, warmup, draws, at_least):
    posterior = case.posterior(floor=floor)
    sites = prior_by_nuts(posterior, 3, warmup, draws)
    outputs = jax.jit(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, case.controls))))(sites)
    columns = np.stack([statistics(o) for o in np.asarray(outputs)])
    number = columns.shape[-1]
    hyper = [sites["scale"], *([sites["floor"]] if floor else [])]
    kept = thinned(np.concatenate([columns, *hyper], axis=-1))
    assert len(kept) > at_least
    assert two_sample(kept[:, :number], statistics(case.plain(N_PLAIN, 4))) > FAMILY_LEVEL
    expected = [stats.lognorm(case.scale_spread, scale=case.scale_median)] * sites["scale"].shape[-1]
    if floor:
        expected += [stats.halfcauchy(scale=FLOOR_SCALE * unit) for unit in posterior.scaling.spread]
    p = [stats.kstest(x, d.cdf).pvalue for x, d in zip(kept[:, number:].T, expected, strict=True)]
    assert min(p) * len(p) > FAMILY_LEVEL


class TestPriorOfOutputs:
    @cases
    @pytest.mark.parametrize("kind", ["reference", "none"])
    def test_sampled(self, case, kind):
        posterior = case.posterior(kind)
        found = evaluated(posterior, sampled(posterior, N_SAMPLED, 1), case.controls)
        assert two_sample(statistics(found), statistics(case.plain(N_PLAIN, 2))) > FAMILY_LEVEL

    @pytest.mark.parametrize("name", ["real, one control", "complex, two controls"])
    def test_by_nuts_with_learned_scales(self, name):
        compare_nuts(CASES[name], floor=False, warmup=400, draws=4_000, at_least=1_000)

    @pytest.mark.slow
    @cases
    def test_by_nuts_with_learned_scales_and_floors(self, case):
        compare_nuts(case, floor=True, warmup=500, draws=45_000, at_least=3_000)


class TestTheComparisonCanFail:
    """With the two mistakes that the gauge invites, the same draws and tests reject."""

    CASE = CASES["complex, one control"]

    def test_half_normal_modulus(self, monkeypatch):
        def half_normal(self, key, sample_shape=()):
            x = jax.random.normal(key, (*sample_shape, *self.batch_shape))
            return self.tau / np.sqrt(2) * abs(x)

        monkeypatch.setattr(priors.Modulus, "sample", half_normal)
        posterior = self.CASE.posterior()
        found = evaluated(posterior, sampled(posterior, N_SAMPLED, 1), self.CASE.controls)
        assert two_sample(statistics(found), statistics(self.CASE.plain(N_PLAIN, 2))) < 1e-6

    def test_missing_power_of_the_scale(self):
        """Repulsion times independent normals lacks τ^(−βn(n−1)/2): draws of that density by resampling."""
        case = CASES["real, one control"]
        posterior = case.posterior()
        sites = sampled(posterior, N_SAMPLED, 1)
        weight = np.asarray(sites["scale"])[:, 0] ** 3
        chosen = np.random.default_rng(0).choice(N_SAMPLED, 1_000, p=weight / weight.sum())
        found = evaluated(posterior, {k: v[chosen] for k, v in sites.items()}, case.controls)
        assert two_sample(statistics(found), statistics(case.plain(N_PLAIN, 2))) < 1e-6
        hyperprior = stats.lognorm(case.scale_spread, scale=case.scale_median)
        assert stats.kstest(np.asarray(sites["scale"])[chosen, 0], hyperprior.cdf).pvalue < 1e-6
        assert stats.kstest(np.asarray(sites["scale"])[:, 0], hyperprior.cdf).pvalue > FAMILY_LEVEL


def two_level_data():
    """Two coupled levels with two controls, and an observable of theirs."""
    rng = np.random.default_rng(5)
    c = rng.uniform(-1, 1, size=(8, 2))
    root = np.sqrt(1 + np.sum(c**2, axis=1))
    values = np.stack([-root, root, -c[:, 0] / root], axis=1)
    values = values + 0.05 * rng.normal(size=values.shape)
    return Dataset(c, values, np.full(values.shape, 0.05), ("a", "b"), ("E0", "E1", "x"))


def one_control_data():
    return get("exceptional_point").dataset(noise=5e-2, seed=0, known_errors=True)


POSTERIORS = {
    "real, one control": (one_control_data, ("E0", "E1"), "real", np.array([[3.0], [-4.0]])),
    "complex, two controls": (
        two_level_data,
        ("E0", "E1", "<0|A|0>"),
        "complex",
        np.array([[1.5, 0.0], [2.0, -2.0]]),
    ),
}


class TestPosterior:
    """Outputs under the gauge-fixed posterior and the ungauged one, in and outside the training region."""

    @staticmethod
    def outputs(data, expressions, field, controls, kind):
        prior = Prior(
            scale_median=1.0,
            scale_spread=0.3,
            shift_sd=1.0,
            growth=0.0,
            dilation=0.0,
            centre="all",
            gauge=kind,
        )
        posterior = Posterior(data, PMM(expressions, dim=2, field=field), prior, Noise(floor=False))
        mcmc = MCMC(
            NUTS(posterior.model, dense_mass=True),
            num_warmup=250,
            num_samples=400,
            num_chains=4,
            chain_method="sequential",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(7), *posterior.training)
        sites = mcmc.get_samples(group_by_chain=True)
        return np.asarray(
            jax.jit(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, controls))))(sites)
        ).reshape(4, 400, -1)

    @pytest.mark.parametrize(
        ("make", "expressions", "field", "outside"),
        [
            pytest.param(*v, id=k, marks=[pytest.mark.slow] if v[2] == "complex" else [])
            for k, v in POSTERIORS.items()
        ],
    )
    def test_outputs_do_not_depend_on_the_gauge(self, make, expressions, field, outside):
        data = make()
        controls = np.concatenate([data.controls[:2], outside])
        draws = [
            az.convert_to_dataset({"x": self.outputs(data, expressions, field, controls, kind)})
            for kind in ("reference", "none")
        ]
        for d in draws:
            assert float(az.rhat(d)["x"].max()) < 1.02
            assert float(az.ess(d)["x"].min()) > 200
        mean = [d["x"].mean(("chain", "draw")) for d in draws]
        error = np.hypot(*(az.mcse(d, method="mean")["x"] for d in draws))
        assert np.all(np.abs(mean[0] - mean[1]) < 4 * error)
        for q in (0.05, 0.25, 0.5, 0.75, 0.95):
            value = [d["x"].quantile(q, ("chain", "draw")) for d in draws]
            error = np.hypot(*(az.mcse(d, method="quantile", prob=q)["x"] for d in draws))
            assert np.all(np.abs(value[0] - value[1]) < 4 * error)
