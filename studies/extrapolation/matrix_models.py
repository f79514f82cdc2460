"""Deterministic parametric matrix models: best fit, ensemble of restarts, split conformal; eigenvector continuation."""

import re
from dataclasses import asdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from bayes_pmm import hermitian
from bayes_pmm.basis import parse_basis
from bayes_pmm.data import Dataset
from bayes_pmm.errors import BayesPMMError
from bayes_pmm.model import PMM
from bayes_pmm.outputs import as_outputs, minimum_dim
from bayes_pmm.problems.base import affine
from bayes_pmm.scaling import Scaling, fit_scaling
from studies.extrapolation.forecast import Forecast, NotApplicableError

DIM = 5
RESTARTS = 20
RIDGE = 1e-3
"""Weight of a coordinate in the least squares, beside residuals in units of the output's spread."""
STEPS = 200
AS_GOOD = 1.5
"""Restarts whose cost is at most this times the best one's fit about as well."""
HELD_OUT = 0.3


@partial(jax.jit, static_argnums=0)
def _restarts(pmm: PMM, keys, scaling: dict, c, y, seen):
    """Levenberg–Marquardt from random matrices: coordinates (R, K, d) and costs (R,)."""
    units = Scaling(**scaling)
    target = jnp.where(seen, y, 0.0)
    count = units.term_reference.shape[0] + len(pmm.operators)
    size = hermitian.size(pmm.dim, pmm.field)

    def residuals(x, _):
        r = (_outputs(pmm, units, x, c) - target) / units.spread[None, :]
        return jnp.where(seen, r, 0.0), RIDGE * x

    def one(key):
        x = jax.random.normal(key, (count, size))
        solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-8)
        found = optimistix.least_squares(residuals, solver, x, max_steps=STEPS, throw=False).value
        misfit, penalty = residuals(found, None)
        return found, jnp.sum(misfit**2) + jnp.sum(penalty**2)

    return jax.lax.map(one, keys)


def _outputs(pmm: PMM, units: Scaling, x, c):
    matrices = hermitian.to_matrix(x, pmm.dim, pmm.field)
    primary, secondary = jnp.split(matrices, [units.term_reference.shape[0]])
    operators = dict(zip(pmm.operators, secondary, strict=True))
    return units.to_user(pmm.evaluate(primary, operators, units.coefficients(pmm.basis, c)))


@partial(jax.jit, static_argnums=0)
def _evaluate(pmm: PMM, scaling: dict, x, c):
    return jax.vmap(lambda one: _outputs(pmm, Scaling(**scaling), one, c))(x)


def _fit(task, data: Dataset, rng: np.random.Generator, controls: np.ndarray, dim: int):
    """Outputs (R, K, Q) at the controls of all restarts with a finite cost, best first, and their costs (R,)."""
    pmm = PMM(tuple(task.problem.outputs.values()), dim=dim, basis=parse_basis(task.basis))
    scaling = {k: np.asarray(v) for k, v in asdict(fit_scaling(data, pmm.outputs, pmm.basis)).items()}
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), RESTARTS)
    found, costs = _restarts(pmm, keys, scaling, data.controls, data.values, data.mask)
    values, costs = np.asarray(_evaluate(pmm, scaling, found, np.asarray(controls, float))), np.asarray(costs)
    finite = np.isfinite(costs) & np.isfinite(values).all(axis=(1, 2))
    if not finite.any():
        raise BayesPMMError("no restart of the least squares reached a finite fit")
    order = np.argsort(np.where(finite, costs, np.inf))[: finite.sum()]
    return values[order], costs[order]


def _dim(task) -> int:
    """n = 5, or as many as the outputs need."""
    return max(DIM, minimum_dim(as_outputs(tuple(task.problem.outputs.values()))))


def _split(data: Dataset, rng: np.random.Generator) -> tuple[Dataset, np.ndarray]:
    """70 % of the rows, and the numbers of the others."""
    rows = rng.permutation(data.n_rows)
    held = np.sort(rows[: max(1, round(HELD_OUT * data.n_rows))])
    return data.select(np.setdiff1d(rows, held)), held


def point(task, rng: np.random.Generator) -> Forecast:
    """Best of the restarts: a point forecast."""
    values, costs = _fit(task, task.data, rng, task.controls, _dim(task))
    return Forecast(np.stack([values[0]] * 2), {"dim": _dim(task), "cost": float(costs[0])})


def held_out_dim(task, rng: np.random.Generator) -> Forecast:
    """Best of the restarts with the n, from what the outputs need to 5, that predicts held-out rows best."""
    data = task.data
    training, held = _split(data, rng)
    least = minimum_dim(as_outputs(tuple(task.problem.outputs.values())))
    errors = {}
    for n in range(least, _dim(task) + 1):
        values = _fit(task, training, rng, data.controls[held], n)[0][0]
        errors[n] = float(np.nanmean(((values - data.values[held]) / task.spread) ** 2))
    best = min(errors, key=errors.get)
    values, costs = _fit(task, data, rng, task.controls, best)
    return Forecast(np.stack([values[0]] * 2), {"dim": best, "cost": float(costs[0])})


def restarts(task, rng: np.random.Generator) -> Forecast:
    """Every restart that fits about as well as the best, with equal weights."""
    values, costs = _fit(task, task.data, rng, task.controls, _dim(task))
    good = values[costs <= AS_GOOD * costs[0]]
    # A single member is a point forecast.
    return Forecast(good if len(good) > 1 else np.stack([good[0]] * 2), {"members": len(good)})


def conformal(task, rng: np.random.Generator) -> Forecast:
    """Best of the restarts on 70 % of the rows, with the absolute residuals of the other 30 % as its band.

    The central interval of probability u is the forecast plus or minus the ⌈(m + 1) u⌉-th smallest of the m residuals,
    or the largest one where there is no such residual (u = 0.9 needs m = 9).
    """
    data = task.data
    training, held = _split(data, rng)
    there = np.concatenate([data.controls[held], task.controls])
    best = _fit(task, training, rng, there, _dim(task))[0][0]
    residuals = np.abs(best[: len(held)] - data.values[held])
    forecast, levels = best[len(held) :], (np.arange(500) + 0.5) / 500
    widths = np.empty((len(levels), data.n_outputs))
    for q, column in enumerate(residuals.T):
        known = np.sort(column[~np.isnan(column)])
        if not len(known):
            raise NotApplicableError(f"no held-out value of output {data.output_names[q]} to calibrate with")
        place = np.ceil((len(known) + 1) * levels).astype(int)
        widths[:, q] = known[np.minimum(place, len(known)) - 1]
    draws = np.concatenate([forecast + widths[:, None, :], forecast - widths[:, None, :]])
    return Forecast(draws, {"held_out": len(held)})


_LEVELS = re.compile(r"E(\d+)(?:-E(\d+))?")


def continuation(task, rng: np.random.Generator) -> Forecast:  # noqa: ARG001  nothing in it is random
    """Exact eigenvector continuation: the Hamiltonian projected on its own eigenvectors at the training controls.

    It knows the Hamiltonian, which no other method here does, and no noise.

    References
    ----------
    Frame et al., Phys. Rev. Lett. 121, 032501 (2018); Duguet et al., Rev. Mod. Phys. 96, 031002 (2024).
    """
    matrices, outputs = task.problem.matrices, list(task.problem.outputs.values())
    found = [_LEVELS.fullmatch(o) for o in outputs]
    if matrices is None or not all(found):
        raise NotApplicableError(
            "the eigenvectors of this problem, or the outputs' operators, are not at hand"
        )
    pairs = [tuple(int(g) for g in f.groups() if g is not None) for f in found]
    needed = 1 + max(k for pair in pairs for k in pair)
    _, vectors = np.linalg.eigh(affine(matrices, task.data.controls))
    snapshots = np.concatenate(list(vectors[:, :, :needed]), axis=1)
    U, sv, _ = np.linalg.svd(snapshots, full_matrices=False)
    basis = U[:, sv > 1e-10 * sv[0]]
    small = [basis.conj().T @ m @ basis for m in matrices]
    w = np.linalg.eigvalsh(affine(small, task.controls))
    columns = [w[:, p[0]] - (w[:, p[1]] if len(p) > 1 else 0.0) for p in pairs]
    return Forecast(np.stack([np.stack(columns, axis=1)] * 2), {"dim": basis.shape[1]})
