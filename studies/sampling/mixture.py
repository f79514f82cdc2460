"""A draw of NUTS after each transition of the manifold sampler: is it worth what it costs?

    python studies/sampling/mixture.py --out mixture.jsonl
    python studies/sampling/mixture.py --out mixture.jsonl --table

Both kernels leave the posterior as it is, so their mixture does, and NUTS, which does not hold to the manifold, might
pass where the other gets stuck: between small floors and large ones, or into a mode that is rarely visited. Four
chains go on from the last draws of a fit by the manifold sampler, with its metric and step size, 1000 transitions
each, once with and once without a draw of NUTS (dense metric from the same draws, step size adapted to an acceptance
of 0.8 beforehand) after each of them. A manifold step costs about ten gradients (docs/studies/sampling.md, "Which
sampler"); seconds are of the CPU, both ways in turns, chain by chain.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

sys.path.insert(0, str(Path(__file__).parent))
import resumable

import bayes_pmm as bp
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference import Manifold
from bayes_pmm.inference.constrained import sweep
from bayes_pmm.inference.lifted import Lifted
from bayes_pmm.inference.manifold import SMALL
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.predict import outputs_at
from bayes_pmm.problems import get

jax.config.update("jax_enable_x64", True)

CELLS = (
    ("oscillator", 4, 1e-2),
    ("ising", 4, 1e-2),
    ("random_weak", 4, 1e-4),
    ("random_weak", 4, 1e-6),
    ("ising", 4, 1e-8),
    ("ising", 5, 1e-6),
)
CHAINS, DRAWS, TUNING = 4, 1000, 300
STEP = 10
"""Gradients that a step of the manifold sampler costs."""


def cell(problem, dim, noise):
    """Manifold sampler alone and mixed with NUTS, from the same points."""
    problem = get(problem)
    posterior = bp.Posterior(
        problem.dataset(noise=noise, seed=0), bp.PMM(list(problem.outputs.values()), dim=dim)
    )
    drawn = Manifold(chains=CHAINS, draws=DRAWS).run(posterior, jax.random.key(0))
    flat = jax.jit(jax.vmap(jax.vmap(lambda s: ravel_pytree(posterior.unconstrain(s))[0])))
    u = np.asarray(flat(drawn.sites))
    lifted = Lifted.of(posterior, posterior.unconstrain({k: v[0, 0] for k, v in drawn.sites.items()}))
    covariance = np.cov(u.reshape(-1, u.shape[-1]), rowvar=False)
    log_step = float(np.log(drawn.stats["step_size"].mean()))
    steps = int(drawn.stats["n_steps"].mean())
    kernels = _kernels(lifted, covariance, log_step, steps)
    controls = np.concatenate([problem.train, problem.outside])
    row = {"steps": steps}
    for label, (paths, gradients, seconds) in _run(kernels, u[:, -1]).items():
        constrain = jax.jit(jax.vmap(jax.vmap(lambda x: posterior.constrain(lifted.unravel(x)))))
        sites = {k: np.asarray(v) for k, v in constrain(paths).items()}
        rhat, ess = rhat_and_ess(outputs_at(posterior, Draws(sites, {}), controls))
        row[label] = {
            "rhat": float(np.nanmax(rhat)),
            "ess_min": float(np.nanmin(ess)),
            "ess_median": float(np.nanmedian(ess)),
            "gradients": gradients,
            "seconds": seconds,
        }
    return row


def _kernels(lifted, covariance, log_step, steps):
    """Functions that start a chain, and that go on with it, with or without NUTS."""
    arrays = jax.tree.map(jnp.asarray, lifted.posterior.arrays)
    L = jnp.asarray(np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance))))
    target = lifted.target(L, arrays)
    potential = lambda u: -lifted.log_density(u, arrays)
    value_and_grad = jax.value_and_grad(potential)
    start, nuts = hmc(potential, algo="NUTS")

    def tuned(u, key):
        """State of NUTS with a step size: u itself is where the chain goes on from."""
        state = start(
            ParamInfo(u, *value_and_grad(u)),
            TUNING,
            inverse_mass_matrix=jnp.asarray(covariance),
            dense_mass=True,
            adapt_mass_matrix=False,
            step_size=0.1,
            trajectory_length=None,
            rng_key=key,
        )
        return jax.lax.fori_loop(0, TUNING, lambda _, s: nuts(s), state)

    def path(u, key, state, mixed):
        """Draws (DRAWS, D) and the gradients of NUTS."""
        point = target.at(lifted.lift(u, L, arrays))

        def draw(carry, key):
            point, state = carry
            point, _ = sweep(target, key, point, jnp.exp(log_step), jnp.asarray(steps), SMALL)
            u = L @ point.q[: lifted.size]
            if not mixed:
                return (point, state), (u, 0)
            value, grad = value_and_grad(u)
            state = nuts(state._replace(z=u, potential_energy=value, z_grad=grad))
            return (target.at(lifted.lift(state.z, L, arrays)), state), (state.z, state.num_steps)

        _, (path, gradients) = jax.lax.scan(draw, (point, state), jax.random.split(key, DRAWS))
        return path, gradients.sum()

    return jax.jit(tuned), jax.jit(path, static_argnames="mixed")


def _run(kernels, starts):
    """Paths (chain, draw, D), gradients and seconds, both ways in turns."""
    tuned, path = kernels
    keys = jax.random.split(jax.random.key(1), CHAINS)
    states = [tuned(jnp.asarray(u), k) for u, k in zip(starts, keys, strict=True)]
    first = (jnp.asarray(starts[0]), keys[0], states[0])
    ways = {"manifold": False, "mixed": True}
    programs = {label: path.lower(*first, mixed=mixed).compile() for label, mixed in ways.items()}
    chains = {label: [] for label in ways}
    for u, key, state in zip(starts, keys, states, strict=True):
        for label, program in programs.items():
            began = time.process_time()
            x, gradients = jax.block_until_ready(program(jnp.asarray(u), key, state))
            chains[label].append((np.asarray(x), int(gradients), time.process_time() - began))
    return {
        label: (np.stack(x), sum(gradients), sum(seconds))
        for label, (x, gradients, seconds) in ((k, tuple(zip(*v, strict=True))) for k, v in chains.items())
    }


def table(rows):
    """Markdown."""
    print(
        "| problem | n | noise | kernel | R-hat | ESS min (median) | steps, gradients a draw | s |"
        " ESS for the cost of 10,000 gradients |"
    )
    print("|" + "---|" * 9)
    ratios = {"cost": [], "seconds": []}
    for row in rows:
        worth, speed = {}, {}
        for label in ("manifold", "mixed"):
            r = row[label]
            cost = STEP * (1 + SMALL) * row["steps"] * CHAINS * DRAWS + r["gradients"]
            worth[label], speed[label] = 1e4 * r["ess_min"] / cost, r["ess_min"] / r["seconds"]
            print(
                f"| {row['problem']} | {row['dim']} | {row['noise']:g} | {label} | {r['rhat']:.3f}"
                f" | {r['ess_min']:.0f} ({r['ess_median']:.0f}) | {row['steps']}, {r['gradients'] / CHAINS / DRAWS:.0f}"
                f" | {r['seconds']:.0f} | {worth[label]:.2f} |"
            )
        ratios["cost"].append(worth["mixed"] / worth["manifold"])
        ratios["seconds"].append(speed["mixed"] / speed["manifold"])
    for name, values in ratios.items():
        print(
            f"\nESS mixed over manifold alone, for the same {name}: geometric mean "
            f"{np.exp(np.mean(np.log(values))):.2f} ({min(values):.2f} to {max(values):.2f}) in {len(values)} cells."
        )


def main(arguments=None):
    """Run or print."""
    names = ("problem", "dim", "noise")
    resumable.main(__doc__, [dict(zip(names, c, strict=True)) for c in CELLS], cell, table, arguments)


if __name__ == "__main__":
    main()
