"""What would rules that choose the trajectory length choose? U-turn and ChEES against what outputs want.

    python studies/sampling/dynamic.py --out dynamic.jsonl
    python studies/sampling/dynamic.py --out dynamic.jsonl --table

From draws of a posterior, each with a fresh momentum, the manifold sampler's own steps are followed further than any
trajectory goes, at its own step size and metric. Along them, lengths in units of the posterior's width:

- U-turn: where (q - q0) · p first turns negative (NUTS's rule, one way), median over the draws;
- ChEES (Hoffman, Radul, Sountsov 2021): where E[(|q - m|² - |q0 - m|²)²] of lengths uniform up to this one is
  largest, m the mean; and the same for each step taken;
- outputs: where the worst output's (1 - ρ) / (1 + ρ) for each step taken is largest, ρ its correlation with the start
  for lengths jittered as the sampler does. That is ESS for each step, were the chain an autoregression.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

sys.path.insert(0, str(Path(__file__).parent))
import resumable

import bayes_pmm as bp
from bayes_pmm.inference import Manifold
from bayes_pmm.inference.constrained import rattle, tangent
from bayes_pmm.inference.lifted import Lifted
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.predict import outputs_at
from bayes_pmm.problems import get

jax.config.update("jax_enable_x64", True)

CELLS = (
    ("oscillator", 4, 1e-2),
    ("almg", 4, 1e-4),
    ("random_weak", 4, 1e-4),
    ("ising", 4, 1e-6),
    ("oscillator", 4, 1e-8),
)
FURTHEST = 12.0
"""Length up to which trajectories are followed."""

STARTS = 300


def cell(problem, dim, noise):
    """Lengths that the rules and the outputs choose, and the worth of some lengths."""
    problem = get(problem)
    posterior = bp.Posterior(
        problem.dataset(noise=noise, seed=0), bp.PMM(list(problem.outputs.values()), dim=dim)
    )
    drawn = Manifold(draws=600).run(posterior, jax.random.key(0))
    step = float(drawn.stats["step_size"].mean())
    steps = int(np.ceil(FURTHEST / step))
    flat = jax.jit(jax.vmap(jax.vmap(lambda s: ravel_pytree(posterior.unconstrain(s))[0])))
    u = np.asarray(flat(drawn.sites))
    u = u.reshape(-1, u.shape[-1])
    first = {k: v[0, 0] for k, v in drawn.sites.items()}
    lifted = Lifted.of(posterior, posterior.unconstrain(first))
    L = np.linalg.cholesky(np.cov(u, rowvar=False) + 1e-12 * np.eye(u.shape[1]))
    q, turned, x = follow(lifted, L, u[:: len(u) // STARTS][:STARTS], step, steps)
    constrain = jax.jit(jax.vmap(jax.vmap(lambda x: posterior.constrain(lifted.unravel(jnp.asarray(L) @ x)))))
    sites = {k: np.asarray(v) for k, v in constrain(x).items()}
    outputs = outputs_at(posterior, Draws(sites, {}), np.concatenate([problem.train, problem.outside]))
    lengths = step * np.arange(1, steps + 1)
    distance = ((q - q[:, :1].mean(0)) ** 2).sum(-1)
    gain = ((distance[:, 1:] - distance[:, :1]) ** 2).mean(0)
    chees = np.cumsum(gain) / np.arange(1, steps + 1)
    worth = np.array([_worth(outputs, k) for k in range(1, int(steps / 1.3) + 1)])
    return {
        "step": step,
        "u_turn": float(step * np.median(turned)),
        "chees": float(lengths[chees.argmax()]),
        "chees_per_step": float(lengths[(chees / lengths).argmax()]),
        "outputs": float(lengths[worth.argmax()]),
        "worth": [float(worth[min(int(np.ceil(x / step)), len(worth)) - 1]) for x in (1.5, 2.5, 5.0, 8.0)],
    }


def follow(lifted, L, u, step, steps):
    """From u (S, D): points q (S, steps + 1, d), first step of a U-turn (S,), x (S, steps + 1, D)."""
    arrays, L = jax.tree.map(jnp.asarray, lifted.posterior.arrays), jnp.asarray(L)

    @jax.jit
    def one(args):
        u, key = args
        target = lifted.target(L, arrays)
        point = target.at(lifted.lift(u, L, arrays))
        p = tangent(point.Q, jax.random.normal(key, point.q.shape))
        q0 = point.q

        def body(carry, _):
            point, p = carry
            new, p_new, ok, _ = rattle(target, point, p, jnp.asarray(step))
            point = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, point)
            p = jnp.where(ok, p_new, -p)
            return (point, p), (point.q, (point.q - q0) @ p < 0)

        _, (q, back) = jax.lax.scan(body, (point, p), length=steps)
        return jnp.concatenate([q0[None], q]), jnp.where(back.any(), back.argmax() + 1, steps)

    keys = jax.random.split(jax.random.key(1), len(u))
    q, turned = zip(*(one((a, k)) for a, k in zip(jnp.asarray(u), keys, strict=True)), strict=True)
    q = np.stack(q)
    return q, np.array(turned), q[..., : lifted.size]


def _worth(outputs, k):
    """Worst output's (1 - ρ)/(1 + ρ)/k for numbers of steps around k: outputs (S, steps + 1, ...)."""
    flat = outputs.reshape(*outputs.shape[:2], -1)
    ends = np.unique(np.round(np.linspace(0.7, 1.3, 7) * k).astype(int)).clip(1)
    start = flat[:, :1]
    mean, var = start.mean(0), start.var(0)
    rho = ((flat[:, ends] - mean) * (start - mean)).mean(0).mean(0) / var[0]
    return ((1 - rho) / (1 + rho)).min() / k


def table(rows):
    """Markdown."""
    print(
        "| problem | n | noise | step | U-turn | ChEES | ChEES for each step | best for the worst output |"
        " worth of 1.5, 2.5, 5, 8 over that of 5 |"
    )
    print("|" + "---|" * 9)
    for r in rows:
        worth = ", ".join(f"{w / r['worth'][2]:.2f}" for w in r["worth"])
        print(
            f"| {r['problem']} | {r['dim']} | {r['noise']:g} | {r['step']:.2f} | {r['u_turn']:.1f} | {r['chees']:.1f}"
            f" | {r['chees_per_step']:.1f} | {r['outputs']:.1f} | {worth} |"
        )


def main(arguments=None):
    """Run or print."""
    names = ("problem", "dim", "noise")
    resumable.main(__doc__, [dict(zip(names, c, strict=True)) for c in CELLS], cell, table, arguments)


if __name__ == "__main__":
    main()
