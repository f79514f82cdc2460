"""Gaussian processes: kernel plus linear trend plus noise, by marginal likelihood or by HMC over the hyperparameters.

The trend is a kernel of its own, TREND²(1 + x·x'): a constant and a slope for each input, learned from the data under
a prior that is wide in standardised units. Every output has a process of its own.
"""

import warnings
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, WhiteKernel

from bayes_pmm.basis import parse_basis
from studies.extrapolation.forecast import Forecast, standardise

DRAWS = 1000
RESTARTS = 6
TREND = 10.0
JITTER = 1e-9
WARMUP, SAMPLES = 400, 500


def by_marginal_likelihood(task, rng: np.random.Generator, smooth: bool) -> Forecast:
    """Hyperparameters by marginal likelihood from several starts; RBF if smooth, else Matérn-5/2."""
    s = standardise(task.data, parse_basis(task.basis), task.controls)
    features = s.x.shape[1]
    lengths, bounds = np.ones(features), (5e-2, 1e2)
    out = np.empty((DRAWS, len(s.at), s.y.shape[1]))
    for q in range(s.y.shape[1]):
        seen = s.mask[:, q]
        kernel = (
            ConstantKernel(1.0, (1e-4, 1e4)) * (RBF(lengths, bounds) if smooth else Matern(lengths, bounds, nu=2.5))
            + ConstantKernel(TREND**2, "fixed") * DotProduct(1.0, "fixed")
            + WhiteKernel(1e-4, (1e-10, 1.0))
        )  # fmt: skip
        gp = GaussianProcessRegressor(
            kernel,
            alpha=s.error[seen, q] ** 2 + 1e-12,
            n_restarts_optimizer=RESTARTS,
            random_state=int(rng.integers(2**31)),
        )
        with warnings.catch_warnings():
            # A hyperparameter at its bound is part of what a user gets.
            warnings.simplefilter("ignore", ConvergenceWarning)
            gp.fit(s.x[seen], s.y[seen, q])
            mean, sd = gp.predict(s.at, return_std=True)
        latent = np.sqrt(np.maximum(sd**2 - gp.kernel_.k2.noise_level, 1e-20))
        out[:, :, q] = rng.normal(mean, latent, (DRAWS, len(s.at)))
    return Forecast(s.to_user(out))


def _kernel(a, b, amplitude, length, smooth):
    d2 = jnp.sum(((a[:, None, :] - b[None, :, :]) / length[None, None, :]) ** 2, axis=-1)
    # The distance of a point from itself has no derivative: that of its square root is kept finite.
    r = jnp.sqrt(5.0 * d2 + 1e-20)
    shape = jnp.exp(-0.5 * d2) if smooth else (1.0 + r + r**2 / 3) * jnp.exp(-r)
    return amplitude**2 * shape + TREND**2 * (1.0 + a @ b.T)


def _covariance(x, error, seen, amplitude, length, noise, smooth):
    """Covariance of the data; a missing datum is an independent standard normal, which changes nothing."""
    both = seen[:, None] & seen[None, :]
    variance = jnp.where(seen, noise**2 + error**2 + JITTER, 1.0)
    return jnp.where(both, _kernel(x, x, amplitude, length, smooth), 0.0) + jnp.diag(variance)


def _model(x, y, error, seen, smooth):
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 1.0))
    length = numpyro.sample("length", dist.LogNormal(0.5, 1.0).expand([x.shape[1]]).to_event(1))
    noise = numpyro.sample("noise", dist.LogNormal(-5.0, 2.0))
    covariance = _covariance(x, error, seen, amplitude, length, noise, smooth)
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros_like(y), covariance), obs=y)


@lru_cache
def _sampler(shape, smooth):  # noqa: ARG001  one compiled sampler for each shape of the data
    return MCMC(
        NUTS(partial(_model, smooth=smooth)),
        num_warmup=WARMUP,
        num_samples=SAMPLES,
        progress_bar=False,
        jit_model_args=True,
    )


@partial(jax.jit, static_argnames="smooth")
def _predict(key, sites, x, y, error, seen, at, smooth):
    """One latent draw (K,) at every forecast point for each draw of the hyperparameters: (S, K)."""

    def one(key, z):
        given = z["amplitude"], z["length"]
        root = jnp.linalg.cholesky(_covariance(x, error, seen, *given, z["noise"], smooth))
        cross = jnp.where(seen[:, None], _kernel(x, at, *given, smooth), 0.0)
        half = jax.scipy.linalg.solve_triangular(root, cross, lower=True)
        mean = half.T @ jax.scipy.linalg.solve_triangular(root, y, lower=True)
        prior = z["amplitude"] ** 2 + TREND**2 * (1.0 + jnp.sum(at**2, axis=1))
        variance = jnp.maximum(prior - jnp.sum(half**2, axis=0), 0.0)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)

    return jax.vmap(one)(jax.random.split(key, SAMPLES), sites)


def by_hmc(task, rng: np.random.Generator, smooth: bool) -> Forecast:
    """NUTS over amplitude, lengths and noise: one chain, marginal over the trend; RBF if smooth, else Matérn-5/2."""
    s = standardise(task.data, parse_basis(task.basis), task.controls)
    sampler = _sampler(s.x.shape, smooth)
    columns, divergences = [], 0
    for q in range(s.y.shape[1]):
        key, key_draw = jax.random.split(jax.random.key(int(rng.integers(2**31))))
        seen = s.mask[:, q]
        arrays = s.x, np.where(seen, s.y[:, q], 0.0), s.error[:, q], seen
        sampler.run(key, *arrays, extra_fields=("diverging",))
        divergences += int(sampler.get_extra_fields()["diverging"].sum())
        columns.append(np.asarray(_predict(key_draw, sampler.get_samples(), *arrays, s.at, smooth=smooth)))
    return Forecast(s.to_user(np.stack(columns, axis=-1)), {"divergences": divergences})
