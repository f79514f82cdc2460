"""The lifted posterior against the posterior: constraint, Jacobian, points above draws, density with volume."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bayes_pmm.basis import Fourier, Polynomial
from bayes_pmm.data import Dataset
from bayes_pmm.inference.lifted import Lifted
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get


def arbitrary(outputs, errors, rows=6, seed=0):
    """Arbitrary numbers far from the outputs' zero; one missing datum a column, errors that differ from row to row."""
    rng = np.random.default_rng(seed)
    values = 5 + 3 * rng.normal(size=(rows, len(outputs)))
    values[:, [o.startswith("|") for o in outputs]] **= 2
    values[np.arange(len(outputs)), np.arange(len(outputs))] = np.nan
    s = rng.uniform(0.1, 0.5, size=values.shape) if errors else None
    return Dataset(
        5 + 2 * rng.normal(size=(rows, 1)), values, s, ("c",), [f"y{q}" for q in range(len(outputs))]
    )


def of_problem(name, noise=1e-2, known_errors=False, missing=True, **parameters):
    problem = get(name, **parameters)
    return problem.dataset(noise, seed=0, known_errors=known_errors, missing=missing), tuple(
        problem.outputs.values()
    )


@dataclass(frozen=True)
class Case:
    data: Dataset
    outputs: tuple
    dim: int
    field: str = "real"
    floor: bool = True
    basis: object = None

    def posterior(self):
        basis = {} if self.basis is None else {"basis": self.basis}
        pmm = PMM(self.outputs, dim=self.dim, field=self.field, **basis)
        return Posterior(self.data, pmm, noise=Noise(floor=self.floor))


VECTORS = ("<0|A|0>", "E1", "|<0|A|1>|^2", "|<0|B|2>|^2", "E0")
DIFFERENCES = ("E1-E0", "E2-E0", "E[-1]")
CASES = {
    "levels, learned floor": Case(*of_problem("oscillator"), 3),
    "observable, known errors and floor": Case(
        *of_problem("oscillator", known_errors=True, observable=True, points=6), 3
    ),
    "differences, missing, known errors": Case(arbitrary(DIFFERENCES, True), DIFFERENCES, 4, floor=False),
    "transitions, complex, missing, floor": Case(arbitrary(VECTORS, False), VECTORS, 3, "complex"),
    "two controls, polynomial, known errors": Case(
        *of_problem("two_couplings", known_errors=True, points=8), 2, floor=False, basis=Polynomial(2)
    ),
    "Fourier, masked, complex, known errors and floor": Case(
        *of_problem("anticrossing", noise=None, known_errors=True), 2, "complex", basis=Fourier(1, 3.0)
    ),
    "levels, complex": Case(*of_problem("exceptional_point"), 2, "complex"),
}


@pytest.fixture(scope="module", params=[*CASES, "small noise"])
def case(request):
    """What the tests compare at a few points: a list of namespaces, from one compiled function of u, η and L."""
    if request.param == "small noise":
        posterior, centre, width = small_noise()
    else:
        posterior, centre, width = CASES[request.param].posterior(), 0.0, 1.0
    one = posterior.unconstrain(posterior.prior_sites(jax.random.key(0)))
    lifted = Lifted.of(posterior, one)
    D, M = lifted.size, posterior.data.n_observed
    arrays = jax.tree.map(jnp.asarray, posterior.arrays)
    data = posterior.data
    rows, cols = np.nonzero(data.mask)
    y, spread = data.values[rows, cols], np.array(posterior.scaling.spread)[cols]

    def output_and_sigma(u):
        """In the user's units, written from the posterior's outputs and the floor's site."""
        sites = posterior.constrain(ravel_pytree(one)[1](u))
        f = posterior.outputs(sites, jnp.asarray(data.controls))[rows, cols]
        floor = sites["floor"][cols] if posterior.noise.floor else 0.0
        return f, jnp.sqrt(jnp.asarray(data.errors)[rows, cols] ** 2 + floor**2)

    @jax.jit
    def compare(u, noise, L):
        def residual(q):
            f, sigma = output_and_sigma(L @ q[:D])
            r = (f - y + sigma * q[D:]) / spread
            return r, (r, (y - f) / sigma)

        x, on = jnp.linalg.solve(L, u), lifted.lift(u, L, arrays)
        target = lifted.target(L, arrays)
        both = jnp.stack([jnp.concatenate([x, noise]), on])
        J, (r, eta) = jax.lax.map(jax.jacrev(residual, has_aux=True), both)
        return {
            "found": jax.lax.map(target.constraint, both),
            "direct": (r, J),
            "above": (L @ on[:D], on[D:]),
            "eta": eta[1],
            "value": target.at(on).value,
            "log_density": lifted.log_density(u, arrays),
        }

    rng = np.random.default_rng(3)
    compared = []
    for k in range(4):
        u = centre + width * rng.uniform(-1.0, 1.0, size=D)
        L = np.tril(0.3 * rng.normal(size=(D, D)), -1) + np.diag(rng.uniform(0.2, 2, D)) if k else np.eye(D)
        result = SimpleNamespace(**jax.tree.map(np.asarray, compare(u, rng.normal(size=M), L)))
        compared.append(SimpleNamespace(**vars(result), u=u, D=D, M=M, spread=spread))
    return compared


def small_noise(relative=1e-8):
    """Data made from a point u itself with known errors of 1e-8, that point, and a width of the same size."""
    base = CASES["levels, complex"].posterior()
    z = base.unconstrain(base.prior_sites(jax.random.key(1)))
    sd = relative * np.array(base.scaling.spread)
    exact = np.asarray(base.outputs(base.constrain(z), jnp.asarray(base.data.controls)))
    values = exact + sd * np.random.default_rng(0).normal(size=exact.shape)
    errors = np.broadcast_to(sd, values.shape)
    data = Dataset(base.data.controls, values, errors, base.data.control_names, base.data.output_names)
    posterior = Posterior(data, base.pmm, noise=Noise(floor=False), scaling=base.scaling)
    del z["floor"]
    return posterior, np.asarray(ravel_pytree(z)[0]), relative


def test_constraint_and_jacobian_are_those_of_the_posterior(case):
    for at in case:
        for found, direct in zip(at.found, at.direct, strict=True):
            # Outputs are of size 1, so a residual of the size of a small noise has their rounding.
            np.testing.assert_allclose(found, direct, rtol=1e-10, atol=1e-13 + 1e-10 * np.abs(direct).max())


def test_lift_is_on_the_manifold_above_u(case):
    for at in case:
        u, eta = at.above
        np.testing.assert_allclose(u, at.u, rtol=1e-12, atol=1e-12)
        sigma = np.diagonal(at.found[1][1][:, at.D :])
        # Rounding of the outputs in units of the noise.
        np.testing.assert_allclose(eta, at.eta, rtol=1e-10, atol=1e-13 / sigma.min())
        assert np.abs(at.found[0][1]).max() < 1e-14 * max(1.0, np.abs(sigma * eta).max())


def test_density_on_the_manifold_is_the_posterior(case):
    """Prior times likelihood = exp(−value) × area of the graph x → η(x), up to the constant of the normal law."""
    for at in case:
        J = at.direct[1][1]
        sigma = np.diagonal(J[:, at.D :])
        B = -J[:, : at.D] / sigma[:, None]
        # By QR: I + Bᵀ B is not formed.
        R = np.linalg.qr(np.concatenate([np.eye(at.D), B]), mode="r")
        area = np.sum(np.log(np.abs(np.diagonal(R))))
        constant = 0.5 * at.M * np.log(2 * np.pi) + np.log(at.spread).sum()
        rounding = 1e-13 / sigma.min() * np.abs(at.eta).sum()
        assert rounding < 1e-2
        assert -at.value + area - at.log_density == pytest.approx(constant, abs=1e-9 + rounding)
