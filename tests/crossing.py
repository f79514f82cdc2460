"""A curved level with known errors: a 2x2 matrix whose log evidence is a two- or three-dimensional integral."""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import logsumexp

from bayes_pmm.data import Dataset
from bayes_pmm.fit import fit
from bayes_pmm.inference.protocol import Draws, silent
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior


def crossing(dim=2, size=0.03):
    """Posterior of the lower level of an avoided crossing; a straight line (dim 1) cannot fit it."""
    c = np.linspace(-2.0, 2.0, 9)[:, None]
    error = np.full((9, 1), size)
    y = -np.sqrt(0.3 + c**2) + 0.2 * c + error * np.random.default_rng(1).normal(size=(9, 1))
    data = Dataset(c, y, error, ("g",), ("E0",))
    return Posterior(
        data,
        PMM(["E0"], dim=dim),
        Prior(scale_spread=0.0, growth=0.0, dilation=0.0, centre="all"),
        Noise(floor=False),
    )


@dataclass(frozen=True)
class Walk:
    """Random-walk Metropolis from the matrices that made the data, thinned: slow, plain, and quick to compile.

    A walker stays in the image of the matrices in which it starts.
    """

    draws: int = 1000
    chains: int = 4
    thin: int = 15

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        x, unravel = ravel_pytree(posterior.unconstrain(start(posterior)))
        d = x.size

        def walk(x, key, factor, steps):
            def step(state, key):
                x, lp = state
                k1, k2 = jax.random.split(key)
                new = x + factor @ jax.random.normal(k1, (d,))
                lp_new = -posterior.potential(unravel(new), *posterior.training)
                yes = jnp.log(jax.random.uniform(k2)) < lp_new - lp
                state = jnp.where(yes, new, x), jnp.where(yes, lp_new, lp)
                return state, state[0]

            lp = -posterior.potential(unravel(x), *posterior.training)
            return jax.lax.scan(step, (x, lp), jax.random.split(key, steps))[1]

        walks = jax.jit(jax.vmap(walk, (0, 0, None, None)), static_argnums=3)
        x, factor, steps = jnp.tile(x, (self.chains, 1)), 0.02 * np.eye(d), self.draws * self.thin
        for k, share in zip(jax.random.split(key, 4), (5, 5, 5, 1), strict=True):
            found = walks(x, jax.random.split(k, self.chains), factor, steps // share)
            x = found[:, -1]
            spread = np.cov(np.asarray(found[:, steps // share // 2 :]).reshape(-1, d), rowvar=False)
            factor = 2.4 / np.sqrt(d) * np.linalg.cholesky(spread)
        sites = jax.jit(jax.vmap(jax.vmap(lambda x: posterior.constrain(unravel(x)))))(found[:, :: self.thin])
        info = {"sampler": "walk", "chains": self.chains, "draws": self.draws, "seconds": 0.0}
        return Draws({k: np.asarray(v) for k, v in sites.items()}, {}, info)


@cache
def walked():
    """Fit of :func:`crossing`, once for all tests of a process."""
    return fit(crossing(), Walk(), key=0)


def start(posterior):
    """Sites of the matrices that made the data of :func:`crossing`."""
    scaling, root = posterior.scaling, np.sqrt(0.3)
    phi = np.asarray(scaling.coefficients(posterior.pmm.basis, np.array([[0.0], [1.0]])))
    slope = phi[1, 1] - phi[0, 1]
    reference = (np.diag([-root, root]) - scaling.shift[0] * np.eye(2)) / scaling.scale[0]
    other = np.array([[0.2, 1.0], [1.0, 0.2]]) / scaling.scale[0] / slope
    return posterior.matrix_prior.sites(
        jnp.stack([reference, other]), jnp.full(2, posterior.prior.scale_median)
    )


def exact_evidence(posterior, size=60):
    """Log evidence by quadrature, from the plain ensemble and not from the reference gauge.

    The level is m0 + m1 φ − |r + φ t| with vectors r, t of a plane, the traceless parts of the two matrices, whose four
    components are N(0, τ²). Rotating the plane leaves |r| with a Rayleigh density and t; m0 and m1 are integrated
    exactly.
    """
    prior, scaling, data = posterior.prior, posterior.scaling, posterior.data
    tau, unit = prior.scale_median, scaling.scale[0]
    phi = np.asarray(scaling.coefficients(posterior.pmm.basis, data.controls))
    y, sigma = (data.values[:, 0] - scaling.shift[0]) / unit, data.errors[:, 0] / unit
    S = (prior.shift_sd**2 + tau**2) * phi @ phi.T + np.diag(sigma**2)
    whiten = np.linalg.inv(np.linalg.cholesky(S))
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * S)[1] - len(y) * np.log(unit)

    def integrand(axes):
        a, b = np.meshgrid(axes[1], axes[2], indexing="ij")
        rows = []
        for radius in axes[0]:
            R = np.hypot(
                radius * phi[:, 0, None, None] + phi[:, 1, None, None] * a, phi[:, 1, None, None] * b
            )
            e = np.einsum("ij,jab->iab", whiten, y[:, None, None] + R)
            log_prior = np.log(radius / tau**2) - (radius**2 + a**2 + b**2) / (2 * tau**2)
            rows.append(log_prior - np.log(2 * np.pi * tau**2) - 0.5 * (e**2).sum(0))
        return np.stack(rows)

    # Twice: in the prior's range, and where the first pass found something. Even in b, of which half is summed.
    box = [(0.0, 5 * tau), (-5 * tau, 5 * tau), (0.0, 5 * tau)]
    for _ in range(2):
        steps = [(hi - lo) / size for lo, hi in box]
        axes = [lo + (np.arange(size) + 0.5) * step for (lo, _), step in zip(box, steps, strict=True)]
        value = integrand(axes)
        found = np.argwhere(value > value.max() - 30)
        lows, highs = found.min(0) - 1, found.max(0) + 1
        box = [
            (max(x[0] + lo * step, first), x[0] + hi * step)
            for x, lo, hi, step, (first, _) in zip(axes, lows, highs, steps, box, strict=True)
        ]
    return constant + logsumexp(value) + np.log(2) + np.log(steps).sum()


def exact_line_evidence(posterior, floor=0.0):
    """Log evidence of a 1x1 matrix with a given noise floor, in closed form."""
    prior, scaling, data = posterior.prior, posterior.scaling, posterior.data
    A = scaling.scale[0] * np.asarray(scaling.coefficients(posterior.pmm.basis, data.controls))
    r = data.values[:, 0] - scaling.shift[0]
    S = (prior.shift_sd**2 + 2 * prior.scale_median**2) * A @ A.T + np.diag(data.errors[:, 0] ** 2 + floor**2)
    return -0.5 * (r @ np.linalg.solve(S, r) + np.linalg.slogdet(2 * np.pi * S)[1])
