r"""Units: fitted once to the training data, stored with the fit, undone in everything that the user sees.

All levels share one map E = (E' − m)/s, or they would no longer be eigenvalues of one matrix. Differences are
divided by s and never centred; where they are measured, s is the spread of the levels that they imply. Each
secondary matrix has its own (m_A, s_A); strengths are divided by s_A².
"""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.basis import Basis
from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import Output

__all__ = ["Scaling", "fit_scaling"]

LEAST_FLOOR = 1e-9
"""Least learned floor, in the model's unit: a tenth of the least noise that the samplers are meant for. On floors of
1e-11, where eigenvalues of matrices of that size are still exact to 1e-3 of it, chains stood still."""

ROUNDING = 1e-14
"""What double precision leaves of an offset of the data, relative to it."""

SMALLEST = 1e-140
"""Least unit of outputs: squares of noises of 1e-12 of it are numbers still. One over it is the largest."""

ALIKE = 1e-3
"""Terms that differ by less are the same basis, in float32 too."""


@dataclass(frozen=True)
class Scaling:
    """Maps between the user's and the model's units.

    Parameters
    ----------
    control_reference, control_scale : tuple (p,)
        c_ref (mean of the training controls) and their standard deviations.
    term_reference, term_scale : tuple (L,)
        φ_l(c_ref), subtracted from every term but the constant, and the term's root mean square after that.
    shift, scale : tuple (Q,)
        Per output: user = shift + scale · model.
    spread : tuple (Q,)
        Standard deviation of each output's data, the unit of its noise floor.
    variation : tuple (1,)
        How much the levels and their differences vary along the controls: root mean square of their own standard
        deviations, in the model's units; 1 where there is a single level.
    """

    control_reference: tuple[float, ...]
    control_scale: tuple[float, ...]
    term_reference: tuple[float, ...]
    term_scale: tuple[float, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    spread: tuple[float, ...]
    variation: tuple[float, ...] = (1.0,)

    @property
    def least_floor(self) -> jax.Array:
        """Where the learned noise floor of an output begins (Q,), in the user's units: well above rounding."""
        return LEAST_FLOOR * jnp.asarray(self.scale) + ROUNDING * jnp.abs(jnp.asarray(self.shift))

    def coefficients(self, basis: Basis, controls: jax.Array | np.ndarray) -> jax.Array:
        """Coefficients φ (N, L) of the primary matrices at controls (N, p) in the user's units."""
        c = jnp.asarray(controls)
        phi = basis(_mapped(basis, c, jnp.asarray(self.control_reference), jnp.asarray(self.control_scale)))
        return (phi - jnp.asarray(self.term_reference)[None, :]) / jnp.asarray(self.term_scale)[None, :]

    def to_user(self, values: jax.Array) -> jax.Array:
        """Return outputs (..., Q) in the user's units."""
        tail = (1,) * (jnp.ndim(values) - 1)
        shift, scale = jnp.asarray(self.shift), jnp.asarray(self.scale)
        return shift.reshape(*tail, -1) + scale.reshape(*tail, -1) * values

    def suits(self, data: Dataset, outputs: tuple[Output, ...], basis: Basis) -> bool:
        """Whether it can have been fitted for such outputs and this basis, be it to other data or by a reference."""
        if not len(self.shift) == len(self.scale) == len(self.spread) == len(outputs):
            return False
        if len(self.term_reference) != basis.n_terms(data.n_controls):
            return False
        for operator in {o.operator for o in outputs}:
            own = [
                (o, m, s)
                for o, m, s in zip(outputs, self.shift, self.scale, strict=True)
                if o.operator == operator
            ]
            shifts = [m for o, m, _ in own if o.kind in ("level", "expectation")]
            units = [s**0.5 if o.kind == "transition" else s for o, _, s in own]
            centred = [m for o, m, _ in own if o.kind in ("difference", "transition")]
            if len({*shifts}) > 1 or any(centred) or not np.allclose(units, units[0], rtol=1e-9, atol=0.0):
                return False
        controls = data.controls[data.mask.any(axis=1)]
        reference, width = np.asarray(self.control_reference), np.asarray(self.control_scale)
        phi = np.asarray(self.coefficients(basis, np.concatenate([controls, reference[None]])))
        # By its definition each term is 0 at the reference, and its root mean square at the rows fitted to is 1.
        if basis.has_constant and not np.allclose(phi[-1], np.arange(phi.shape[1]) == 0, atol=ALIKE):
            return False
        fitted_here = np.all(np.abs(controls.mean(axis=0) - reference) < 1e-9 * width)
        fitted_here &= np.allclose(controls.std(axis=0), width, rtol=1e-9)
        return not fitted_here or np.allclose(np.sqrt(np.mean(phi[:-1] ** 2, axis=0)), 1.0, atol=ALIKE)

    def to_dict(self) -> dict:
        """Plain lists, for storage."""
        return {k: list(v) for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: dict) -> "Scaling":
        """Inverse of :meth:`to_dict`."""
        return cls(**{k: tuple(float(x) for x in v) for k, v in stored.items()})


def fit_scaling(
    data: Dataset, outputs: tuple[Output, ...], basis: Basis, reference: np.ndarray | None = None
) -> Scaling:
    """Scaling fitted to the training data.

    Parameters
    ----------
    data : Dataset
    outputs : tuple of Output
    basis : Basis
    reference : array (p,), optional
        c_ref, the controls at which the first matrix is diagonal; default the mean of the training controls. Priors
        that are defined in the gauge depend on it.

    Raises
    ------
    InputError
        If an output's data or a term of the basis cannot be scaled.
    """
    # Rows without any value are no data.
    controls = data.controls[data.mask.any(axis=1)]
    with np.errstate(over="ignore", invalid="ignore"):
        reference = controls.mean(0) if reference is None else np.asarray(reference, float)
        width = controls.std(0)
    if not (np.isfinite([*reference, *width]).all() and np.all(width > 0)):
        raise InputError(
            f"the controls have no unit to work in (spread {width.tolist()}): they vary too much or too little for"
            " double precision; use other units"
        )
    # One compiled call: operations outside of one are compiled each for itself.
    at = jax.jit(lambda c: basis(_mapped(basis, c, reference, width)))
    close = controls * (1 + 1e-12)
    terms = np.asarray(at(np.concatenate([controls, close, reference[None]])), float)
    phi, phi_close, phi_ref = terms[: len(controls)], terms[len(controls) : -1], terms[-1]
    if not (np.isfinite(phi).all() and np.isfinite(phi_ref).all()):
        raise InputError(
            f"basis {basis}: not finite at some training control or at their mean {reference.tolist()};"
            " use another basis or shift the control"
        )
    if basis.has_constant:
        if not np.allclose(phi[:, 0], 1.0):
            raise InputError(
                f"basis {basis}: term 0 must be the constant 1; pass has_constant=False otherwise"
            )
        phi_ref = np.where(np.arange(phi.shape[1]) == 0, 0.0, phi_ref)
    else:
        phi_ref = np.zeros_like(phi_ref)
    size = np.sqrt(np.mean((phi - phi_ref) ** 2, axis=0))
    # What a relative change of the controls by 1e-12 does to a term is rounding, as is 1e-12 of the term.
    rounding = np.max(np.abs(phi_close - phi), axis=0) + 1e-12 * np.max(np.abs(phi), axis=0)
    if np.any(size <= rounding):
        raise InputError(
            f"basis {basis}: term {int(np.argmax(size <= rounding))} is zero or constant at the training"
            " controls; leave it out"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        shift, scale = _output_units(data, outputs, basis.has_constant)
    if not (
        np.isfinite(shift).all()
        and np.all((scale > SMALLEST) & (scale < 1 / SMALLEST))
        and np.max(np.abs(shift / scale)) < 1e15
    ):
        raise InputError(
            f"the data have no unit to work in (mean {shift.tolist()}, spread {scale.tolist()}): they are too large,"
            " too small or too nearly alike for double precision; subtract an offset, or use other units"
        )
    spread = np.array([_spread(data.values[:, q], scale[q]) for q in range(len(outputs))])
    spectral = [q for q, o in enumerate(outputs) if o.kind in ("level", "difference")]
    own = [
        _deviation(data.values[data.mask[:, q], q]) / scale[q] for q in spectral if data.mask[:, q].sum() > 1
    ]
    # Levels that do not vary at all leave the unit open.
    varies = np.sqrt(np.mean(np.square(own))) if own else 0.0
    variation = [float(varies) if varies > 0 else 1.0]
    parts = (reference, width, phi_ref, size, shift, scale, spread, variation)
    return Scaling(*(tuple(map(float, v)) for v in parts))


def _mapped(basis, c, reference, width):
    return (c - reference[None, :]) / width[None, :] if basis.maps_controls else c


def _deviation(values: np.ndarray, mean: float | None = None) -> float:
    """Root mean square of the deviations from the mean, 0 where they are rounding."""
    s = float(np.sqrt(np.mean((values - (values.mean() if mean is None else mean)) ** 2)))
    return s if s > 1e-12 * np.max(np.abs(values)) else 0.0


def _spread(column: np.ndarray, fallback: float) -> float:
    """Return the standard deviation of an output's data, at least 1e-3 of its scale."""
    return max(float(np.nanstd(column)), 1e-3 * fallback)


def _spread_of_levels(cells: list[np.ndarray], outputs: tuple[Output, ...]) -> float:
    """Spread of the levels that lines, or lines and levels, imply: of their mean positions, and along the controls.

    Levels that nothing connects count from the middle of their own group.
    """
    known = [
        (x, o) for x, o in zip(cells, outputs, strict=True) if o.kind in ("level", "difference") and x.size
    ]
    ends = sorted({k for _, o in known for k in o.levels})
    rows = [[(k == o.levels[0]) - float(k in o.levels[1:]) for k in ends] for _, o in known]
    zero = np.mean([x.mean() for x, o in known if o.kind == "level"] or [0.0])
    means = np.array([x.mean() - zero * (o.kind == "level") for x, o in known])
    # The shortest solution has mean 0 in each group that only differences connect.
    places = np.linalg.lstsq(np.array(rows), means, rcond=None)[0]
    # The variance of a difference is that of two levels. A shift of all levels is none of their spread.
    along = np.mean([np.var(x) / (1 if o.kind == "level" else 2) for x, o in known])
    return float(np.sqrt(np.var(places) + along))


def _unit_without_spread(mean: float, errors: np.ndarray) -> float:
    """Unit for outputs that do not vary: their own size, else their errors', else 1."""
    return abs(mean) or float(np.sqrt(np.mean(errors**2))) or 1.0


def _output_units(data: Dataset, outputs: tuple[Output, ...], centre: bool) -> tuple[np.ndarray, np.ndarray]:
    cells = [data.values[data.mask[:, q], q] for q in range(len(outputs))]
    known = [data.errors[data.mask[:, q], q] for q in range(len(outputs))]

    def pool(kinds, operator=None, of=cells):
        chosen = [x for x, o in zip(of, outputs, strict=True) if o.kind in kinds and o.operator == operator]
        return np.concatenate(chosen) if chosen else np.zeros(0)

    shift, scale = np.zeros(len(outputs)), np.ones(len(outputs))
    levels = pool(["level"])
    m = levels.mean() if centre and levels.size else 0.0
    lines = pool(["difference"])
    s = 0.0
    if lines.size:
        s = _spread_of_levels(cells, outputs)
    elif levels.size:
        s = _deviation(levels, m)
    if not s > 0:
        errors = pool(["level", "difference"], of=known)
        s = _unit_without_spread(m, errors if errors.size else np.zeros(1))
    for q, o in enumerate(outputs):
        if o.kind == "level":
            shift[q], scale[q] = m, s
        elif o.kind == "difference":
            scale[q] = s
        else:
            values, strengths = pool(["expectation"], o.operator), pool(["transition"], o.operator)
            if strengths.size and (
                strengths.min() < -3 * strengths.std() or strengths.max() <= 0 > strengths.min()
            ):
                raise InputError(f"output {o}: a transition strength cannot be negative; check the column")
            m_A = values.mean() if values.size else 0.0
            sizes = [_deviation(values)] if values.size else []
            sizes += [np.sqrt(np.mean(np.abs(strengths)))] if strengths.size else []
            s_A = max(sizes)
            if not s_A > 0:
                s_A = _unit_without_spread(m_A, pool(["expectation", "transition"], o.operator, known))
            shift[q], scale[q] = (m_A, s_A) if o.kind == "expectation" else (0.0, s_A**2)
    return shift, scale
