"""Neural networks: a Bayesian one by NUTS, and a deep ensemble with mean-variance heads."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import MCMC, NUTS

from bayes_pmm.basis import parse_basis
from bayes_pmm.convergence import rhat_and_ess
from studies.extrapolation.forecast import Forecast, standardise

HIDDEN = 10
CHAINS, WARMUP, SAMPLES, DEPTH = 4, 250, 150, 7
NOISE, NOISE_WIDTH = -4.0, 0.5
"""Prior of the log of the noise in standardised units: about 2 %. With less noise the chains hardly move."""

MEMBERS, WIDTH, STEPS = 10, 32, 2000
RATE, DECAY = 1e-2, 1e-4
LEAST_NOISE = 1e-4
DRAWS = 1000


def _network(z, x):
    """One hidden layer, tanh, unit weights times a learned scale for each layer: (N, Q)."""
    s = z["scale"]
    h = jnp.tanh(s[0] * (x @ z["w0"] + z["b0"][None, :]))
    return s[1] / np.sqrt(HIDDEN) * (h @ z["w1"]) + z["b1"][None, :]


def _model(x, y, error, seen):
    F, Q = x.shape[1], y.shape[1]
    shapes = {"w0": (F, HIDDEN), "b0": (HIDDEN,), "w1": (HIDDEN, Q), "b1": (Q,)}
    z = {k: numpyro.sample(k, dist.Normal(0.0, 1.0).expand(v).to_event(len(v))) for k, v in shapes.items()}
    z["scale"] = numpyro.sample("scale", dist.LogNormal(0.0, 1.0).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.LogNormal(NOISE, NOISE_WIDTH).expand([Q]).to_event(1))
    sd = jnp.sqrt(noise[None, :] ** 2 + error**2)
    numpyro.sample("y", dist.Normal(_network(z, x), sd).mask(seen), obs=y)


@lru_cache
def _sampler(shapes):  # noqa: ARG001  one compiled sampler for each shape of the data
    return MCMC(
        NUTS(_model, max_tree_depth=DEPTH, target_accept_prob=0.8),
        num_warmup=WARMUP,
        num_samples=SAMPLES,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
        jit_model_args=True,
    )


_evaluate = jax.jit(jax.vmap(_network, (0, None)))


def bayesian(task, rng: np.random.Generator) -> Forecast:
    """Bayesian neural network for all outputs, learned noise, four short chains of NUTS.

    Chains of networks stay in their modes; pooled with equal weights they are an ensemble, and R-hat is recorded.
    """
    s = standardise(task.data, parse_basis(task.basis), task.controls)
    sampler = _sampler((s.x.shape, s.y.shape))
    key = jax.random.key(int(rng.integers(2**31)))
    arrays = s.x, np.where(s.mask, s.y, 0.0), s.error, s.mask
    sampler.run(key, *arrays, extra_fields=("diverging", "num_steps"))
    extra = sampler.get_extra_fields()
    draws = np.asarray(_evaluate(sampler.get_samples(), s.at))
    rhat, ess = rhat_and_ess(draws.reshape(CHAINS, SAMPLES, *draws.shape[1:]))
    about = {
        "divergences": int(extra["diverging"].sum()),
        "steps": float(extra["num_steps"].mean()),
        "rhat": float(np.nanmax(rhat)),
        "ess": float(np.nanmin(ess)),
    }
    return Forecast(s.to_user(draws), about)


def _member(key, F, Q):
    """Initial weights of one member: (w, b) of three layers, He's variance."""
    sizes = (F, WIDTH, WIDTH, 2 * Q)
    keys = jax.random.split(key, 3)
    return [
        (jax.random.normal(k, (a, b)) * np.sqrt(2.0 / a), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def _heads(layers, x):
    """Mean and standard deviation, each (N, Q)."""
    for w, b in layers[:-1]:
        x = jnp.tanh(x @ w + b[None, :])
    w, b = layers[-1]
    mean, raw = jnp.split(x @ w + b[None, :], 2, axis=1)
    return mean, LEAST_NOISE + jax.nn.softplus(raw - 3.0)


@jax.jit
def _train(key, x, y, error, seen):
    """All members side by side, Adam on the whole batch with a cosine schedule."""
    optimizer = optax.adamw(optax.cosine_decay_schedule(RATE, STEPS), weight_decay=DECAY)

    def loss(layers):
        mean, sd = _heads(layers, x)
        total = jnp.sqrt(sd**2 + error**2)
        # Weighed by the standard deviation: the plain likelihood gives single points up and calls them noisy.
        terms = -jax.lax.stop_gradient(total) * dist.Normal(mean, total).log_prob(y)
        return jnp.sum(jnp.where(seen, terms, 0.0)) / jnp.sum(seen)

    def one(key):
        layers = _member(key, x.shape[1], y.shape[1])

        def step(carry, _):
            layers, state = carry
            updates, state = optimizer.update(jax.grad(loss)(layers), state, layers)
            return (optax.apply_updates(layers, updates), state), None

        return jax.lax.scan(step, (layers, optimizer.init(layers)), None, STEPS)[0][0]

    return jax.vmap(one)(jax.random.split(key, MEMBERS))


_forecast = jax.jit(jax.vmap(_heads, (0, None)))


def deep_ensemble(task, rng: np.random.Generator) -> Forecast:
    """Mixture of ten mean-variance networks; as usual the mixture includes the variance heads.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation, NeurIPS 2017; the
    weight in the loss: Seitzer, Tavakoli, Antic, Martius, On the pitfalls of heteroscedastic uncertainty, ICLR 2022.
    """
    s = standardise(task.data, parse_basis(task.basis), task.controls)
    key = jax.random.key(int(rng.integers(2**31)))
    members = _train(key, s.x, np.where(s.mask, s.y, 0.0), s.error, s.mask)
    mean, sd = (np.asarray(a) for a in _forecast(members, s.at))
    noise = rng.standard_normal((DRAWS // MEMBERS, *mean.shape))
    return Forecast(s.to_user((mean + sd * noise).reshape(-1, *mean.shape[1:])))
