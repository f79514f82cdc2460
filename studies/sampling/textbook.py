"""The textbook PMM in NumPyro, as one would write it down first: the reference of the sampling study.

Symmetric matrices with unit-scale elements times a learned scale (non-centred), the constant's one diagonal with its
level repulsion, learned noise, NUTS with a dense mass matrix and NumPyro's defaults.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS


def model(c, dim, levels, y=None):
    """Levels (N, K) against one standardised control c (N,), data y (N, K) standardised together."""
    upper = np.triu_indices(dim, 1)
    scale = numpyro.sample("scale", dist.LogNormal(np.log(2.0), 0.5).expand([2]).to_event(1))
    shift = numpyro.sample("shift", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    lam = numpyro.sample("lam", dist.Normal(0.0, np.sqrt(2.0)).expand([dim]).to_event(1))
    numpyro.factor("repulsion", jnp.sum(jnp.log(jnp.abs(lam[upper[0]] - lam[upper[1]]))))
    diagonal = numpyro.sample("diagonal", dist.Normal(0.0, np.sqrt(2.0)).expand([dim]).to_event(1))
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([len(upper[0])]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfCauchy(0.05).expand([levels]).to_event(1))
    B = jnp.zeros((dim, dim)).at[upper].set(off)
    M1 = scale[1] * (B + B.T + jnp.diag(diagonal)) + shift[1] * jnp.eye(dim)
    M = jnp.diag(scale[0] * lam + shift[0])[None] + c[:, None, None] * M1[None]
    mean = numpyro.deterministic("mean", jnp.linalg.eigvalsh(M)[:, :levels])
    numpyro.sample("y", dist.Normal(mean, noise[None, :]), obs=y)


def levels_at(draw, c, dim, levels):
    """Levels (N, K) of one draw at standardised controls c (N,)."""
    upper = np.triu_indices(dim, 1)
    B = jnp.zeros((dim, dim)).at[upper].set(draw["off"])
    M1 = draw["scale"][1] * (B + B.T + jnp.diag(draw["diagonal"])) + draw["shift"][1] * jnp.eye(dim)
    M0 = jnp.diag(draw["scale"][0] * draw["lam"] + draw["shift"][0])
    return jnp.linalg.eigvalsh(M0[None] + c[:, None, None] * M1[None])[:, :levels]


def run(c, y, dim, at, seed, limit, judge, chains=4, warmup=1000, chunk=250, least=1000):
    """Draw until ``judge`` (outputs -> R-hat) says below 1.01, or for ``limit`` seconds of sampling.

    Returns outputs (chain, draw, N, K) at ``at`` in the user's units, and seconds.
    """
    cm, cs, ym, ys = c.mean(), c.std(), y.mean(), y.std()
    args = (jnp.asarray((c - cm) / cs), dim, y.shape[1])
    data = jnp.asarray((y - ym) / ys)
    mcmc = MCMC(
        NUTS(model, dense_mass=True), num_warmup=warmup, num_samples=chunk, num_chains=chains,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    evaluate = jax.jit(
        jax.vmap(jax.vmap(lambda d: levels_at(d, jnp.asarray((at - cm) / cs), dim, y.shape[1])))
    )
    outputs, seconds, key = [], 0.0, jax.random.key(seed)
    while True:
        began = time.perf_counter()
        mcmc.run(key, *args, y=data)
        jax.block_until_ready(mcmc.last_state)
        seconds += time.perf_counter() - began
        mcmc.post_warmup_state = mcmc.last_state
        key = mcmc.post_warmup_state.rng_key
        draws = mcmc.get_samples(group_by_chain=True)
        outputs.append(
            np.asarray(evaluate({k: draws[k] for k in ("scale", "shift", "lam", "diagonal", "off")}))
        )
        joined = ym + ys * np.concatenate(outputs, axis=1)
        if seconds > limit or (joined.shape[1] >= least and judge(joined) < 1.01):
            return joined, seconds
