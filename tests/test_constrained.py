"""Constrained HMC against closed forms and quadrature, down to a noise of 1e-6; the integrator's own properties."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from montecarlo import PROBABILITIES, assert_agrees, mean_and_error, z_of_draws, z_of_law
from scipy import stats

from bayes_pmm.inference import constrained
from bayes_pmm.inference.constrained import Target, rattle, sweep, tangent

NOISES = (1e-1, 1e-3, 1e-6)
noises = pytest.mark.parametrize("sigma", NOISES)
EPS = np.finfo(float).eps
SECOND_ORDER = 20 * 1e-7**2


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
    return Lift(lambda x: jnp.repeat(x + x**3, 2), np.zeros(1), np.array([0.4]), np.array([0.7, -1.2]), sigma)


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


def sample(target, start, step, steps, draws, chains=4, seed=0, discard=100, small=0.0):
    """Draws (chain, draw, d) and what is known of each, chains side by side from one start."""
    first = target.at(start)

    def chain(key):
        def one(point, k):
            point, info = sweep(target, k, point, jnp.asarray(step), jnp.asarray(steps), small)
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


def corner(sigma):
    """The datum u v = 0: two lines that meet in a corner of radius √σ."""
    return Lift(lambda x: (x[0] * x[1])[None], np.zeros(2), np.array([1.0, 0.0]), np.zeros(1), sigma)


def corner_law(sigma):
    """Law of log|u|: p(u) ∝ exp(−u²/2) / √(u² + σ²), v integrated out."""
    t = np.linspace(np.log(sigma) - 8, 2, 20001)
    return summaries([(t, np.exp(t - 0.5 * np.exp(2 * t)) / np.sqrt(np.exp(2 * t) + sigma**2))])


@pytest.mark.parametrize("sigma", [1e-2, 1e-4])
def test_small_steps_reach_every_decade_of_a_corner(sigma):
    q, _ = sample(corner(sigma).target(), corner(sigma).start, 0.3, 16, 4000, small=0.3)
    assert_agrees(z_of_law(np.log(np.abs(q[..., :1])), *corner_law(sigma)))
    on_manifold(corner(sigma), q)


def test_without_small_steps_the_corner_is_missed():
    q, _ = sample(corner(1e-6).target(), corner(1e-6).start, 0.3, 16, 4000)
    mean, *_ = corner_law(1e-6)
    assert np.log(np.abs(q[..., 0])).mean() > mean[0] + 2


def on_manifold(problem, q):
    C, _ = jax.jit(jax.vmap(problem.target().constraint))(jnp.asarray(q.reshape(-1, q.shape[-1])))
    # A Newton step shorter than 1e-7 is the last: the error after it is of the order of its square.
    assert np.abs(C).max() < SECOND_ORDER


def wave(sigma):
    """A curve x2 = −sin(3 x1) that a projection can meet in several points."""
    x0 = np.array([0.2, -np.sin(0.6)])
    return Lift(lambda x: (x[1] + jnp.sin(3 * x[0]))[None], CENTRE, x0, np.zeros(1), sigma)


def wave_coordinates(q):
    return np.stack([q[..., 0], -q[..., 2]], axis=-1)


def wave_law(sigma):
    x1, s = np.linspace(-6, 6.5, 2501), np.linspace(-9, 9, 1801)
    x2 = sigma * s[:, None] - np.sin(3 * x1)
    p = np.exp(-0.5 * (s[:, None] ** 2 + (x1 - CENTRE[0]) ** 2 + (x2 - CENTRE[1]) ** 2))
    return summaries([(x1, p.sum(0)), (s, p.sum(1))])


@pytest.mark.parametrize("sigma", [1e-1, 1e-6])
def test_bounces_are_exact(sigma):
    q, info = sample(ring(sigma).target(), ring(sigma).start, 0.7, 10, 2000, seed=1)
    assert 0.1 < info.failed.mean() < 0.5
    assert_agrees(z_of_law(ring_coordinates(q), *ring_law(sigma)))


def test_without_bounces_the_law_is_wrong(monkeypatch):
    """A failed step that leaves the momentum as it is: what the test above would not pass."""

    def frozen(target, point, p, *rest):
        new, p_new, ok, count = rattle(target, point, p, *rest)
        new = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, point)
        return new, jnp.where(ok, p_new, p), jnp.asarray(True), count

    monkeypatch.setattr(constrained, "rattle", frozen)
    q, _ = sample(ring(0.1).target(), ring(0.1).start, 0.7, 10, 2000, seed=1)
    assert np.abs(z_of_law(ring_coordinates(q), *ring_law(0.1))).max() > 8


def test_where_rounding_is_as_large_as_the_noise_no_step_is_taken():
    lift = Lift(lambda x: jnp.sin(x), np.zeros(1), np.array([0.3]), np.array([0.5]), 1e-12)
    target = lift.target()
    assert target.tolerance(lift.start) < constrained.COARSE
    coarse = replace(target, tolerance=lambda q: jnp.asarray(2 * constrained.COARSE, q.dtype))
    point = target.at(lift.start)
    p = tangent(point.Q, jnp.array([0.3, -0.2]))
    assert rattle(target, point, p, jnp.asarray(0.01))[2]
    assert not rattle(coarse, coarse.at(point.q), p, jnp.asarray(0.01))[2]


def test_a_step_and_its_way_back_fail_together():
    """Also where the tolerance varies, as it does with a learned floor near rounding."""
    varying = replace(ring(0.1).target(), tolerance=lambda q: jnp.where(q[0] > 0, 1e-7, 1e-4))

    @jax.jit
    def there_and_back(seed):
        point = varying.at(ring(0.1).start)
        # Somewhere on the manifold first, by steps that seldom fail.
        for i in range(6):
            new, _, ok, _ = rattle(varying, point, tangent_momentum(point, 7 * seed + i), jnp.asarray(0.3))
            point = jax.tree.map(lambda a, b, ok=ok: jnp.where(ok, a, b), new, point)
        p = tangent_momentum(point, seed + 10_000)
        new, p_new, ok, _ = rattle(varying, point, p, jnp.asarray(0.9))
        back, _, returned, _ = rattle(varying, new, -p_new, jnp.asarray(0.9))
        changed = point.tolerance != new.tolerance
        return ok, returned, changed, jnp.max(jnp.abs(back.q - point.q))

    ok, returned, changed, far = jax.vmap(there_and_back)(jnp.arange(500))
    assert 50 < jnp.sum(ok) < 450
    assert jnp.sum(ok & changed) > 20
    assert jnp.all(returned[ok])
    assert jnp.max(far[ok]) < 1e-2


def without_way_back(target, point, *rest):
    new, p, _, count = rattle(target, point, *rest)
    return new, p, jnp.max(jnp.abs(target.constraint(new.q)[0])) < 1e-10, count


@pytest.mark.parametrize("checked", [True, False])
def test_steps_that_do_not_lead_back_must_fail(checked, monkeypatch):
    if not checked:
        monkeypatch.setattr(constrained, "rattle", without_way_back)
    q, info = sample(wave(0.1).target(), wave(0.1).start, 0.5, 4, 12000, seed=2)
    assert 0.1 < info.failed.mean() < 0.5
    z = z_of_law(wave_coordinates(q), *wave_law(0.1))
    if checked:
        assert_agrees(z)
    else:
        assert np.abs(z).max() > 6


def test_without_the_volume_the_law_is_wrong(monkeypatch):
    at = Target.at

    def without(self, q):
        point = at(self, q)
        return point._replace(value=self.potential(q), gradient=jax.grad(self.potential)(q))

    monkeypatch.setattr(Target, "at", without)
    q, _ = sample(ring(0.1).target(), ring(0.1).start, 0.25, 8, 1500)
    assert np.abs(z_of_law(ring_coordinates(q), *ring_law(0.1))).max() > 8


# The integrator


def tangent_momentum(point, seed):
    return tangent(point.Q, jax.random.normal(jax.random.key(seed), point.q.shape))


def trajectory(target, point, p, step, count):
    """Point and momentum after ``count`` steps, and whether all of them succeeded."""

    def body(_, carry):
        point, p, fine = carry
        point, p, ok, _ = rattle(target, point, p, step)
        return point, p, fine & ok

    return jax.lax.fori_loop(0, count, body, (point, p, jnp.asarray(True)))


@noises
def test_energy_error_is_of_second_order(sigma):
    target = ring(sigma).target()

    @jax.jit
    def error(seeds, step, count):
        def one(seed):
            point = target.at(ring(sigma).start)
            p = tangent_momentum(point, seed)
            end, p_end, fine = trajectory(target, point, p, step, count)
            return end.value - point.value + 0.5 * (p_end @ p_end - p @ p), fine

        return jax.vmap(one)(seeds)

    errors = []
    for count in (20, 40, 80):
        error_of, fine = error(jnp.arange(20), 0.4 / count, count)
        assert fine.all()
        errors.append(float(jnp.sqrt(jnp.mean(error_of**2))))
    assert 3.2 < errors[0] / errors[1] < 4.8
    assert 3.2 < errors[1] / errors[2] < 4.8


@pytest.mark.parametrize("sigma", [1e-1, 1e-3, 1e-6, 1e-8])
def test_way_back_leads_back(sigma):
    """To rounding: 40 steps of one to four hundred times it each, whatever the noise."""
    target = ring(sigma).target()

    @jax.jit
    def there_and_back(seed):
        point = target.at(ring(sigma).start)
        p = tangent_momentum(point, seed)
        end, p_end, fine = trajectory(target, point, p, 0.1, 20)
        back, p_back, fine_back = trajectory(target, end, -p_end, 0.1, 20)
        moved = jnp.abs(end.q - point.q).max()
        off = jnp.maximum(jnp.abs(back.q - point.q).max(), jnp.abs(p_back + p).max())
        return moved, off, fine & fine_back

    moved, off, fine = jax.vmap(there_and_back)(jnp.arange(10))
    assert fine.all()
    assert moved.min() > 0.3
    assert off.max() < 1e4 * EPS


@noises
def test_point_stays_on_the_manifold_and_momentum_tangent(sigma):
    problem = ring(sigma)
    target = problem.target()

    @jax.jit
    def run(seed):
        point = target.at(problem.start)
        end, p, fine = trajectory(target, point, tangent_momentum(point, seed), 0.05, 400)
        C, J = target.constraint(end.q)
        return (
            jnp.abs(C).max(),
            jnp.abs(J @ p).max() / jnp.linalg.norm(J),
            jnp.abs(end.q - point.q).max(),
            fine,
        )

    C, normal, moved, fine = jax.vmap(run)(jnp.arange(10))
    assert fine.all()
    assert moved.min() > 0.1
    assert C.max() < SECOND_ORDER
    assert normal.max() < 100 * EPS


def test_gradient_is_that_of_the_value_with_its_volume():
    rng = np.random.default_rng(0)
    M, D = 4, 3
    A, B, y = rng.normal(size=(M, D)), rng.normal(size=(M, D)), rng.normal(size=M)

    def residual(q):
        return jnp.tanh(A @ q[:D]) + 0.1 * jnp.exp(0.3 * B @ q[:D]) * q[D:] - y

    def value(q):
        J = jax.jacfwd(residual)(q)
        return jnp.sum(jnp.cos(q)) + 0.5 * jnp.linalg.slogdet(J @ J.T)[1]

    target = Target(lambda q: jnp.sum(jnp.cos(q)), lambda q: (residual(q), jax.jacfwd(residual)(q)))
    for seed in range(3):
        q = jax.random.normal(jax.random.key(seed), (M + D,))
        point = jax.jit(target.at)(q)
        expected, gradient = jax.jit(jax.value_and_grad(value))(q)
        np.testing.assert_allclose(point.value, expected, rtol=1e-10)
        np.testing.assert_allclose(point.gradient, gradient, rtol=1e-8, atol=1e-8)


def test_volume_at_a_noise_whose_square_is_below_rounding():
    """More data than unknowns: J Jᵀ = A Aᵀ + σ² I has known eigenvalues, the smallest of them σ²."""
    sigma, s, M = 1e-8, np.array([2.0, 1.0, 0.3]), 5
    rng = np.random.default_rng(0)
    U, V = np.linalg.qr(rng.normal(size=(M, 3)))[0], np.linalg.qr(rng.normal(size=(3, 3)))[0]
    J = jnp.asarray(np.concatenate([U * s @ V.T, sigma * np.eye(M)], axis=1))
    target = Target(lambda q: jnp.zeros(()), lambda q: (J @ q, J))  # noqa: ARG005
    exact = np.sum(np.log(np.hypot(s, sigma))) + (M - 3) * np.log(sigma)
    found = float(target.at(jnp.ones(3 + M)).value)
    assert found == pytest.approx(exact, abs=1e-6)
    gram = float(jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(J @ J.T)))))
    assert not abs(gram - exact) < 1e-2


# Another implementation


def test_agrees_with_mici():
    """The same ellipse with mici's integrator and sampler, whose code shares nothing with ours."""
    mici = pytest.importorskip("mici")
    sigma, scale = 0.1, np.array([1.0, AXIS**2])

    def constr(q):
        return np.array([scale @ q[:2] ** 2 + sigma * q[2] - LEVEL])

    def jacob_constr(q):
        return np.array([[*(2 * scale * q[:2]), sigma]])

    def mhp_constr(q):  # noqa: ARG001
        hessian = np.diag([*(2 * scale), 0.0])
        return lambda m: m[0] @ hessian

    centre = np.append(CENTRE, 0.0)
    system = mici.systems.DenseConstrainedEuclideanMetricSystem(
        neg_log_dens=lambda q: 0.5 * np.sum((q - centre) ** 2),
        grad_neg_log_dens=lambda q: q - centre,
        constr=constr,
        jacob_constr=jacob_constr,
        mhp_constr=mhp_constr,
        dens_wrt_hausdorff=False,
    )
    integrator = mici.integrators.ConstrainedLeapfrogIntegrator(system, step_size=0.25)
    sampler = mici.samplers.RandomMetropolisHMC(system, integrator, np.random.default_rng(0), (4, 12))
    result = sampler.sample_chains(
        20, 250, [np.asarray(ring(sigma).start)] * 4, adapters=[], display_progress=False
    )
    theirs = ring_coordinates(np.stack(result.traces["pos"]))
    ours, _ = sample(ring(sigma).target(), ring(sigma).start, 0.25, 8, 1500, seed=2)
    assert_agrees(z_of_draws(ring_coordinates(ours), theirs))
    assert_agrees(z_of_law(theirs, *ring_law(sigma)))
