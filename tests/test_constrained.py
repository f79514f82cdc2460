"""Constrained HMC against closed forms and quadrature, down to a noise of 1e-6; the integrator's own properties."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from montecarlo import PROBABILITIES, assert_agrees, mean_and_error, z_of_draws, z_of_law
from scipy import stats

from bayes_pmm.inference import constrained
from bayes_pmm.inference.constrained import Target, rattle, tangent, transition

NOISES = (1e-1, 1e-3, 1e-6)
noises = pytest.mark.parametrize("sigma", NOISES)
EPS = np.finfo(float).eps


def half_square(q):
    return 0.5 * q @ q


def tolerance(sigma):
    """As for the lifted posterior: above the rounding of the data over the noise."""
    return lambda q: jnp.maximum(1e-7, 100 * EPS / jnp.asarray(sigma, q.dtype))


@dataclass(frozen=True)
class Lift:
    """y = f(x) + σ η with x ~ N(m, I), as a constraint in q = (x, η).

    The residual is written with f − f(x0), so that the test's own arithmetic is not what limits it at 1e-6.
    """

    f: object
    m: np.ndarray
    x0: np.ndarray
    eta0: np.ndarray
    sigma: float

    def target(self):
        D = len(self.m)
        y = self.f(jnp.asarray(self.x0)) + self.sigma * self.eta0

        def residual(q):
            return self.f(q[:D]) + self.sigma * q[D:] - y

        def constraint(q):
            return residual(q), jax.jacfwd(residual)(q)

        def potential(q):
            return half_square(q[:D] - self.m) + half_square(q[D:])

        return Target(potential, constraint, tolerance(self.sigma))

    @property
    def start(self):
        return jnp.concatenate([jnp.asarray(self.x0), jnp.asarray(self.eta0)])


AXIS = 3.0
CENTRE = np.array([0.3, 0.4])
LEVEL = 2.0


def ring(sigma):
    """An ellipse, x1² + 9 x2² = 2 + noise: along it the size of the gradient changes threefold."""
    x0 = np.sqrt(LEVEL) * np.array([np.cos(1.0), np.sin(1.0) / AXIS])
    return Lift(lambda x: (x[0] ** 2 + (AXIS * x[1]) ** 2)[None], CENTRE, x0, np.zeros(1), sigma)


def ring_coordinates(q):
    """Angle and −η, draws (chain, draw, 2)."""
    return np.stack([np.arctan2(AXIS * q[..., 1], q[..., 0]), -q[..., 2]], axis=-1)


def ring_law(sigma):
    """Mean, sd and quantiles of the coordinates: with x = ρ (cos φ, sin φ / 3), dx is dφ d(ρ²) up to a constant."""
    phi = np.linspace(-np.pi, np.pi, 2001)
    s = np.linspace(-9, 9, 1801)
    rho = np.sqrt(LEVEL + sigma * s)[:, None]
    x = np.stack(np.broadcast_arrays(rho * np.cos(phi), rho * np.sin(phi) / AXIS))
    p = np.exp(-0.5 * s[:, None] ** 2 - 0.5 * np.sum((x - CENTRE[:, None, None]) ** 2, axis=0))
    return summaries([(phi, p.sum(0)), (s, p.sum(1))])


def cubic(sigma):
    """Two data of x + x³: the posterior is as narrow as the noise."""
    return Lift(
        lambda x: jnp.repeat(x + x**3, 2), np.zeros(1), np.array([0.4]), np.array([0.7, -1.2]), sigma
    )


def cubic_coordinates(q, sigma):
    return (q[..., :1] - 0.4) / sigma


def cubic_law(sigma):
    t = np.linspace(-12, 12, 20001)
    x0, d = 0.4, sigma * t
    rise = t * (1 + 3 * x0**2 + 3 * x0 * d + d**2)  # (f(x0 + d) − f(x0)) / σ
    p = np.exp(-0.5 * (x0 + d) ** 2 - 0.5 * (0.7 - rise) ** 2 - 0.5 * (-1.2 - rise) ** 2)
    return summaries([(t, p)])


def summaries(marginals):
    """Mean (K,), sd (K,) and quantiles (P, K) of densities on grids, by the trapezoidal rule."""
    mean, sd, quantiles = [], [], []
    for x, p in marginals:
        p = p / np.trapezoid(p, x)
        mean.append(np.trapezoid(x * p, x))
        sd.append(np.sqrt(np.trapezoid((x - mean[-1]) ** 2 * p, x)))
        share = np.concatenate([[0], np.cumsum(0.5 * (p[1:] + p[:-1]) * np.diff(x))])
        quantiles.append(np.interp(PROBABILITIES, share, x))
    return np.array(mean), np.array(sd), np.array(quantiles).T


def sample(target, start, step, steps, draws, chains=4, seed=0, discard=100):
    """Draws (chain, draw, d) and what is known of each, chains side by side from one start."""
    first = target.at(start)

    def chain(key):
        def one(point, k):
            point, info = transition(target, k, point, jnp.asarray(step), jnp.asarray(steps))
            return point, (point.q, info)

        return jax.lax.scan(one, first, jax.random.split(key, draws + discard))[1]

    q, info = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(seed), chains))
    return np.asarray(q)[:, discard:], jax.tree.map(lambda a: np.asarray(a)[:, discard:], info)


# Laws


@pytest.mark.parametrize("sigma", [1e-1, 1e-6])
def test_linear_model_has_its_closed_form(sigma):
    rng = np.random.default_rng(0)
    A, x0, eta0 = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=4)
    J = jnp.asarray(np.concatenate([A, sigma * np.eye(4)], axis=1))
    y = A @ x0 + sigma * eta0
    target = Target(half_square, lambda q: (J @ q - y, J), tolerance(sigma))
    q, info = sample(target, jnp.asarray(np.concatenate([x0, eta0])), 0.5, 5, 1500)
    # Least squares rather than normal equations; d = (x − x0)/σ has data η0 = A d + η and prior N(−x0/σ, 1/σ²).
    stacked = np.concatenate([A, sigma * np.eye(3)])
    Q, R = np.linalg.qr(stacked)
    mean = np.linalg.solve(R, Q.T @ np.concatenate([eta0, -x0]))
    # R d is standard normal around its mean.
    z = ((q[..., :3] - x0) / sigma - mean) @ R.T
    pairs = np.stack([z[..., 0] * z[..., 1], z[..., 0] * z[..., 2], z[..., 1] * z[..., 2]], axis=-1)
    normal = np.zeros(3), np.ones(3), np.repeat(stats.norm.ppf(PROBABILITIES)[:, None], 3, axis=1)
    assert_agrees(z_of_law(z, *normal))
    found, error = mean_and_error(pairs)
    assert_agrees(found / error)
    assert info.acceptance.mean() > 0.6
    assert info.failed.max() == 0


@noises
def test_ring_has_its_quadrature(sigma):
    q, info = sample(ring(sigma).target(), ring(sigma).start, 0.25, 8, 1500)
    assert_agrees(z_of_law(ring_coordinates(q), *ring_law(sigma)))
    assert info.acceptance.mean() > 0.6
    on_manifold(ring(sigma), q)


@noises
def test_two_data_of_a_cubic_have_their_quadrature(sigma):
    q, info = sample(cubic(sigma).target(), cubic(sigma).start, 0.5, 4, 1500)
    assert_agrees(z_of_law(cubic_coordinates(q, sigma), *cubic_law(sigma)))
    assert info.acceptance.mean() > 0.6
    on_manifold(cubic(sigma), q)


def on_manifold(problem, q):
    C, _ = jax.jit(jax.vmap(problem.target().constraint))(jnp.asarray(q.reshape(-1, q.shape[-1])))
    assert np.abs(C).max() < 100 * EPS


LONG_STEP = 1.0


def long_steps(sigma=0.1, draws=2000):
    return sample(ring(sigma).target(), ring(sigma).start, LONG_STEP, 4, draws, seed=1)


@pytest.mark.parametrize("sigma", [1e-1, 1e-6])
def test_bounces_are_exact(sigma):
    q, info = long_steps(sigma)
    assert 0.1 < info.failed.mean() < 0.5
    assert_agrees(z_of_law(ring_coordinates(q), *ring_law(sigma)))


def test_without_bounces_the_law_is_wrong(monkeypatch):
    """Steps that do not lead back, let through: what the test above would not pass."""

    def let_through(target, point, *rest):
        new, p, _, count = rattle(target, point, *rest)
        there = jnp.max(jnp.abs(target.constraint(new.q)[0])) < 1e-10
        return new, p, there, count

    monkeypatch.setattr(constrained, "rattle", let_through)
    q, _ = long_steps()
    assert np.abs(z_of_law(ring_coordinates(q), *ring_law(0.1))).max() > 8


def test_without_the_volume_the_law_is_wrong(monkeypatch):
    at = Target.at

    def without(self, q):
        point = at(self, q)
        return point._replace(value=self.potential(q), gradient=jax.grad(self.potential)(q))

    monkeypatch.setattr(Target, "at", without)
    q, _ = sample(ring(0.1).target(), ring(0.1).start, 0.25, 8, 1500)
    assert np.abs(z_of_law(ring_coordinates(q), *ring_law(0.1))).max() > 8
