"""What small steps are for: constrained HMC on the corner u v = 0, whose law is known.

    python studies/sampling/corner.py

u, v and η are standard normal and u v + σ η = 0, so p(u) ∝ exp(−u²/2) / √(u² + σ²): all decades of u from σ to 1 have
about the same share of the probability, and a chain goes from one line to the other round a corner of radius √σ. Four
chains of 4000 draws, each with 16 steps of 0.3; a share of them has 16 smaller steps after that.

After that, what small steps change in models: the lines of ``small_steps.jsonl``. Those without them were made by
versions before they came (commit 15bcca4), all by

    python -m studies.extrapolation.run --out F --methods pmm --tasks "*/[012]/0/*" \\
        --sampler manifold --chains 4 --warmup 120 --draws 120
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference.constrained import Target, sweep

jax.config.update("jax_enable_x64", True)

STEP, STEPS, DRAWS, DISCARD = 0.3, 16, 4000, 200


def target(sigma):
    """The corner as a constraint in q = (u, v, η)."""

    def constraint(q):
        f = lambda q: jnp.array([q[0] * q[1] + sigma * q[2]])
        return f(q), jax.jacobian(f)(q)

    tolerance = jnp.maximum(1e-7, 1e-14 / sigma)
    return Target(lambda q: 0.5 * q @ q, constraint, lambda _: tolerance)


def quartiles(sigma):
    """Quartiles of abs(u) by the trapezoidal rule."""
    x = np.logspace(-12, 1, 20001)
    p = np.exp(-0.5 * x**2) / np.sqrt(x**2 + sigma**2)
    share = np.concatenate([[0.0], np.cumsum(0.5 * (p[1:] + p[:-1]) * np.diff(x))])
    return np.interp((0.25, 0.5, 0.75), share / share[-1], x)


def draws(sigma, small):
    """u of all chains (chain, draw)."""
    corner = target(sigma)

    def chain(key):
        def one(point, k):
            point, _ = sweep(corner, k, point, jnp.asarray(STEP), jnp.asarray(STEPS), small)
            return point, point.q[0]

        first = corner.at(jnp.array([1.0, 0.0, 0.0]))
        return jax.lax.scan(one, first, jax.random.split(key, DRAWS + DISCARD))[1]

    u = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), 4))
    return np.asarray(u)[:, DISCARD:]


def in_models():
    """Convergence of the fits without noise, without and with small steps."""
    rows = [
        json.loads(line) for line in Path(__file__).with_name("small_steps.jsonl").read_text().splitlines()
    ]
    print("\n| small steps | tasks | R-hat, median | above 1.1 | ESS, geometric mean | CPU s |")
    print("|" + "---|" * 6)
    for small in (False, True):
        chosen = [r for r in rows if r["small_steps"] is small]
        rhat, ess, cpu = (np.array([r[k] for r in chosen]) for k in ("rhat", "ess", "cpu_seconds"))
        middle = f"{np.median(rhat):.3f} | {np.sum(rhat > 1.1)} | {np.exp(np.mean(np.log(ess))):.0f}"
        print(f"| {'yes' if small else 'no'} | {len(chosen)} | {middle} | {cpu.mean():.0f} |")


def main():
    """Print the tables."""
    print("| σ | share of small steps | quartiles of \\|u\\| | exact | R-hat of log \\|u\\| | ESS |")
    print("|" + "---|" * 6)
    row = lambda x: ", ".join(f"{v:.2g}" for v in x)
    for sigma in (1e-2, 1e-4, 1e-6):
        for small in (0.0, 0.25, 0.5):
            u = np.abs(draws(sigma, small))
            rhat, ess = rhat_and_ess(np.log(u)[..., None])
            found = row(np.quantile(u, (0.25, 0.5, 0.75)))
            print(
                f"| {sigma:g} | {small} | {found} | {row(quartiles(sigma))} | {rhat[0]:.2f} | {ess[0]:.0f} |"
            )
    in_models()


if __name__ == "__main__":
    main()
