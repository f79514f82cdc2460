"""The gauge-fixed prior and posterior are the plain ensemble's: draws against draws.

The plain ensemble is drawn by NumPy alone, with its definition and the units written out. Keys are fixed; each
Kolmogorov–Smirnov test has its share of a family-wise level of 1 %.
"""

from dataclasses import dataclass
from functools import cached_property

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats

from bayes_pmm import gauge, priors
from bayes_pmm.data import Dataset
from bayes_pmm.model import PMM
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior

FAMILY_LEVEL = 0.01
N_PLAIN = 20_000
N_SAMPLED = 8_000
AT_LEAST = 3_000
"""Draws that an MCMC run must leave after thinning to twice the autocorrelation time."""


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
        return Dataset(controls, values, None, names, self.outputs)

    @cached_property
    def controls(self):
        """Two training controls and one far outside."""
        return np.concatenate([self.data.controls[:2], 12 + np.zeros((1, self.n_controls))])

    def posterior(self, kind="reference"):
        prior = Prior(
            scale_median=self.scale_median,
            scale_spread=self.scale_spread,
            secondary_median=self.scale_median,
            secondary_spread=self.scale_spread,
            shift_sd=self.shift_sd,
            gauge=kind,
        )
        return Posterior(self.data, PMM(self.outputs, dim=self.dim, field=self.field), prior)

    def plain(self, size, seed):
        """Outputs (size, 3, Q) of the plain ensemble."""
        rng, n, p = np.random.default_rng(seed), self.dim, self.n_controls
        names = sorted({o.split("|")[-2] for o in self.outputs if "|" in o and not o.startswith("|")})
        names += sorted({o.split("|")[2] for o in self.outputs if o.startswith("|")} - set(names))
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
        secondary = {name: matrix() for name in names}
        data = self.data
        x = (self.controls - data.controls.mean(0)) / data.controls.std(0)
        M = primary[0][:, None] + sum(x[:, j, None, None] * primary[j + 1][:, None] for j in range(p))
        w, V = np.linalg.eigh(M)

        def element(name, bra, ket):
            return np.einsum("sci,sij,scj->sc", V[..., bra].conj(), secondary[name], V[..., ket])

        column = dict(zip(self.outputs, data.values.T, strict=True))
        levels = np.concatenate([column[o] for o in self.outputs if o in ("E0", "E[-1]")])
        m, s = levels.mean(), levels.std()
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


def prior_by_nuts(posterior, seed, chains=20, warmup=500, draws=1500):
    """Sites (chain, draw, ...) drawn by NumPyro's NUTS on ``log_prior``, started far from the prior."""
    key_init, key_run = jax.random.split(jax.random.key(seed))
    one = jax.eval_shape(lambda k: posterior.unconstrain(posterior.prior_sites(k)), key_init)
    names = sorted(one)
    keys = dict(zip(names, jax.random.split(key_init, len(names)), strict=True))
    init = {k: jax.random.uniform(keys[k], (chains, *one[k].shape), minval=-1, maxval=1) for k in names}
    kernel = NUTS(potential_fn=lambda z: -posterior.log_prior(z), dense_mass=False)
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(key_run, init_params=init)
    z = mcmc.get_samples(group_by_chain=True)
    return jax.jit(jax.vmap(jax.vmap(posterior.constrain)))(z)


class TestPriorOfOutputs:
    @cases
    @pytest.mark.parametrize("kind", ["reference", "none"])
    def test_sampled(self, case, kind):
        posterior = case.posterior(kind)
        found = evaluated(posterior, sampled(posterior, N_SAMPLED, 1), case.controls)
        assert two_sample(statistics(found), statistics(case.plain(N_PLAIN, 2))) > FAMILY_LEVEL

    @cases
    def test_by_nuts_with_learned_scales(self, case):
        posterior = case.posterior()
        sites = prior_by_nuts(posterior, 3)
        outputs = jax.jit(jax.vmap(jax.vmap(lambda s: posterior.outputs(s, case.controls))))(sites)
        chains, draws = outputs.shape[:2]
        hyper = np.concatenate([sites["scale"], sites["floor"]], axis=-1)
        columns = np.stack([statistics(o) for o in np.asarray(outputs)])
        kept = thinned(np.concatenate([columns, hyper], axis=-1))
        assert len(kept) > AT_LEAST
        number = columns.shape[-1]
        assert two_sample(kept[:, :number], statistics(case.plain(N_PLAIN, 4))) > FAMILY_LEVEL
        K, spread = sites["scale"].shape[-1], posterior.scaling.spread
        expected = [stats.lognorm(case.scale_spread, scale=case.scale_median)] * K
        expected += [stats.halfcauchy(scale=0.05 * unit) for unit in spread]
        values = [stats.kstest(x, d.cdf).pvalue for x, d in zip(kept[:, number:].T, expected, strict=True)]
        assert min(values) * len(values) > FAMILY_LEVEL
