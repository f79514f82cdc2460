"""Simulated data sets and kernels that run on them, for simulation-based calibration.

Truths come from the prior, or from draws given observed data; then each simulated data set is those data and new ones.
Each function returns ``start`` and ``advance`` of one data set, and the sizes of its R ranked quantities by name.
``start``: key -> truth (R,), state at the truth, data. ``advance``: state, data, count -> state after ``count`` <=
``length`` draws and their records (values (length, R), divergence, steps, acceptance).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from bayes_pmm.inference.constrained import Info, Point, sweep
from bayes_pmm.inference.lifted import Lifted
from bayes_pmm.inference.manifold import SMALL, Averaging
from bayes_pmm.posterior import Posterior

__all__ = ["manifold_simulation", "nuts_simulation"]

STEPS = 10
"""Steps of a trajectory of the manifold sampler."""


@dataclass(frozen=True, eq=False)
class _Simulated:
    """Truths and data from ``generator``, and what is ranked of draws from ``posterior``.

    With ``given``, draws (chain, draw, ...) of the sites and the chains' weights, the truth is one of them and
    only the last rows of the data are simulated, as many as the generator has.
    """

    posterior: Posterior
    generator: Posterior
    where: jax.Array
    given: tuple[dict, np.ndarray] | None = None

    def quantities(self, z, energy):
        """Ranked quantities by name."""
        posterior = self.posterior
        sites = posterior.constrain(z)
        found = {"output": posterior.outputs(sites, self.where).ravel()}
        found |= {"floor": sites["floor"]} if "floor" in sites else {}
        scale = sites.get("scale", sites.get("free_scale"))
        found |= {"scale": scale} if scale is not None else {}
        return found | {"log_likelihood": (-energy - posterior.log_prior(z))[None]}

    def flat(self, z, energy):
        """Ranked quantities (R,)."""
        return jnp.concatenate(jax.tree.leaves(self.quantities(z, energy)))

    def draw(self, key):
        """Unconstrained truth and data."""
        c, observed, _ = (jnp.asarray(a) for a in self.posterior.training)
        _, values, error = (jnp.asarray(a) for a in self.generator.training)
        # A missing datum has no error, and what is drawn for it is not looked at.
        error = jnp.where(jnp.isnan(values), 1.0, error)
        new = len(error)
        truth = {}
        if self.given is not None:
            key, key_truth = jax.random.split(key)
            sites, weights = self.given
            flat = {k: jnp.asarray(v).reshape(-1, *v.shape[2:]) for k, v in sites.items()}
            total = len(next(iter(flat.values())))
            p = jnp.repeat(jnp.asarray(weights), total // len(weights))
            i = jax.random.choice(key_truth, total, p=p / p.sum())
            truth = {k: v[i] for k, v in flat.items()}
        with handlers.substitute(data=truth), handlers.seed(rng_seed=key), handlers.trace() as trace:
            self.generator.model(c[-new:], None, error)
        sites = {k: s["value"] for k, s in trace.items() if s["type"] == "sample"}
        y = jnp.concatenate([observed[:-new], sites.pop("y")])
        return self.posterior.unconstrain(sites), jnp.where(jnp.isnan(observed), jnp.nan, y)

    @cached_property
    def names(self) -> dict[str, int]:
        """Sizes by name."""
        shapes = jax.eval_shape(lambda k: self.quantities(self.draw(k)[0], 0.0), jax.random.key(0))
        return {name: s.shape[0] for name, s in shapes.items()}


def nuts_simulation(posterior, generator, where, warmup, length, target_accept, max_tree_depth, given=None):
    """Functions of one data set, and the sizes of its R ranked quantities by name.

    ``start``: key -> truth (R,), state at the truth, data. ``advance``: state, data, count -> state after
    ``count`` <= ``length`` draws and their records (values (length, R), divergence, steps, acceptance).
    """
    c, _, error = (jnp.asarray(a) for a in posterior.training)
    simulated = _Simulated(posterior, generator, where, given)
    init, step = hmc(potential_fn_gen=lambda y: lambda z: posterior.potential(z, c, y, error), algo="NUTS")

    def start(key):
        key_data, key_run = jax.random.split(key)
        z, y = simulated.draw(key_data)
        energy, gradient = jax.value_and_grad(posterior.potential)(z, c, y, error)
        state = init(
            ParamInfo(z, energy, gradient),
            warmup,
            step_size=0.1,
            dense_mass=True,
            target_accept_prob=target_accept,
            trajectory_length=None,
            max_tree_depth=max_tree_depth,
            model_args=(y,),
            rng_key=key_run,
        )
        return simulated.flat(z, energy), state, y

    def recorded(state):
        return (
            simulated.flat(state.z, state.potential_energy),
            state.diverging,
            state.num_steps,
            state.accept_prob,
        )

    def advance(state, y, count):
        def body(i, carry):
            state, records = carry
            state = step(state, (y,), {})
            return state, jax.tree.map(lambda a, v: a.at[i].set(v), records, recorded(state))

        empty = jax.tree.map(lambda v: jnp.zeros((length, *v.shape), v.dtype), recorded(state))
        return jax.lax.fori_loop(0, count, body, (state, empty))

    return start, advance, simulated.names


class _Lifted(NamedTuple):
    key: jax.Array
    point: Point
    averaging: Averaging
    info: Info


def manifold_simulation(posterior, generator, where, warmup, length, given=None):
    """Constrained HMC; the metric is the truths' widths, the step size is tuned for the first ``warmup`` draws."""
    simulated = _Simulated(posterior, generator, where, given)
    arrays = jax.tree.map(jnp.asarray, posterior.arrays)
    z, _ = simulated.draw(jax.random.key(0))
    lifted = Lifted.of(posterior, z)
    many = jax.jit(jax.vmap(lambda k: ravel_pytree(simulated.draw(k)[0])[0]))(
        jax.random.split(jax.random.key(1), 400)
    )
    L = jnp.diag(many.std(0))

    def energy(point, y):
        """Minus the log posterior: what NUTS would call its potential energy."""
        return -lifted.log_density(L @ point.q[: lifted.size], arrays | {"y": y})

    def start(key):
        key_data, key_run = jax.random.split(key)
        z, y = simulated.draw(key_data)
        given = arrays | {"y": y}
        point = lifted.target(L, given).at(lifted.lift(ravel_pytree(z)[0], L, given))
        zero = jnp.zeros(())
        state = _Lifted(key_run, point, Averaging.at(jnp.log(0.1)), Info(zero, zero, zero, zero))
        return simulated.flat(z, energy(point, y)), state, y

    def advance(state, y, count):
        target = lifted.target(L, arrays | {"y": y})

        def record(state):
            z = lifted.unravel(L @ state.point.q[: lifted.size])
            values = simulated.flat(z, energy(state.point, y))
            return values, jnp.asarray(False), jnp.asarray(STEPS), state.info.acceptance

        def body(i, carry):
            state, records = carry
            key, k = jax.random.split(state.key)
            warm = state.averaging.updates < warmup
            step = jnp.exp(jnp.where(warm, state.averaging.log_step, state.averaging.log_mean))
            point, info = sweep(target, k, state.point, step, jnp.asarray(STEPS), SMALL)
            tuned = state.averaging.update(0.8, info)
            averaging = jax.tree.map(lambda a, b: jnp.where(warm, a, b), tuned, state.averaging)
            state = _Lifted(key, point, averaging, info)
            return state, jax.tree.map(lambda a, v: a.at[i].set(v), records, record(state))

        empty = jax.tree.map(lambda v: jnp.zeros((length, *v.shape), v.dtype), jax.eval_shape(record, state))
        return jax.lax.fori_loop(0, count, body, (state, empty))

    return start, advance, simulated.names
