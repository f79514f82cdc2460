"""A problem with exact answers: controls in, exact outputs out, and synthetic data from them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError

__all__ = [
    "Problem",
    "affine",
    "affine_levels",
    "affine_levels_and_expectation",
    "affine_lines",
    "beyond",
    "level_outputs",
    "line",
]

_BATCH_ENTRIES = 1 << 21
_LEVEL = re.compile(r"E(\d+|\[-\d+\])")


@dataclass(frozen=True, eq=False)
class Problem:
    """A family of Hamiltonians with exact outputs, a training region and a region beyond it.

    Parameters
    ----------
    name
        The name in the registry.
    summary
        One line.
    control_names
        Names of the p controls, with their units where they have any.
    outputs
        The Q columns: name to output expression (``"E0"``, ``"E1-E0"``, ``"E[-1]"``, ``"<0|A|0>"``,
        ``"|<0|A|1>|^2"``).
    solve
        Controls (N, p) to exact outputs (N, Q).
    train, outside
        Default controls (N, p) for training and (K, p) for testing. `outside` lies outside the convex hull of
        `train` unless the problem's own docstring says otherwise.
    exact_dim
        Dimension of a small PMM that represents all outputs exactly in `basis`, None where none is known.
    matrices
        (M_0, M_1, ..., M_p), each (n, n), where the levels are eigenvalues of M_0 + Σ_l c_l M_l; None where
        the Hamiltonian is not affine in the controls or the outputs come from more than one matrix.
    observed
        Controls (N, p) to a mask (N, Q), True where an experiment would see the output. None: always.
    measured_sd
        Standard deviation of a typical measurement, in the outputs' own units. None: not an experiment.
    basis
        The basis in which a large enough PMM represents the problem, as `bayes_pmm.basis.parse_basis` takes it.

    Raises
    ------
    InputError
        If the default controls are not finite arrays of shape (N, p).
    """

    name: str
    summary: str
    control_names: tuple[str, ...]
    outputs: Mapping[str, str]
    solve: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    train: np.ndarray = field(repr=False)
    outside: np.ndarray = field(repr=False)
    exact_dim: int | None = None
    matrices: tuple[np.ndarray, ...] | None = field(default=None, repr=False)
    observed: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    measured_sd: float | None = None
    basis: str = "affine"

    def __post_init__(self) -> None:
        for name in ("train", "outside"):
            values = self._checked(getattr(self, name)).copy()
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def exact(self, controls: ArrayLike) -> np.ndarray:
        """Return the exact outputs.

        Parameters
        ----------
        controls
            Shape (N, p).

        Returns
        -------
        np.ndarray
            Shape (N, Q), columns in the order of `outputs`.

        Raises
        ------
        InputError
            If `controls` has another shape or is not finite.
        """
        return self.solve(self._checked(controls))

    def spread(self) -> np.ndarray:
        """Return the unit of `noise` for each output, shape (Q,), from the exact values observed at `train`.

        All levels share one unit, the standard deviation of their values taken together, since they are
        eigenvalues of one matrix and are scaled together. Every other output has its own standard deviation.
        It is zero where nothing varies or nothing is observed.
        """
        values = np.where(self._missing(True, self.train), np.nan, self.exact(self.train))
        result = np.array([_deviation(column) for column in values.T])
        level = np.array([_LEVEL.fullmatch(expression) is not None for expression in self.outputs.values()])
        result[level] = _deviation(values[:, level])
        return result

    def dataset(
        self,
        noise: float | None = 0.0,
        seed: int = 0,
        controls: ArrayLike | None = None,
        missing: bool | ArrayLike = True,
        known_errors: bool = False,
    ) -> Dataset:
        """Return synthetic data: exact values plus independent Gaussian noise.

        Parameters
        ----------
        noise
            Standard deviation in units of `spread`; None takes `measured_sd` instead.
        seed
            Seed of the noise. Which data are missing does not change the noise of the others.
        controls
            Shape (N, p), by default `train`.
        missing
            True leaves out what `observed` says is not seen, False leaves out nothing, and an array (N, Q)
            leaves out where it is True.
        known_errors
            Whether the data carry the noise's standard deviation as their errors.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            If the noise is negative or not finite, if `noise` is None and the problem has no `measured_sd`,
            if `known_errors` is asked for without noise, or if a shape is wrong.
        """
        controls = self.train if controls is None else self._checked(controls)
        values = self.exact(controls)
        sd = self._noise_sd(noise)
        if known_errors and not np.all(sd > 0):
            raise InputError(
                f"problem {self.name}: known_errors needs noise in every output; give noise > 0 and training "
                "controls at which each output varies"
            )
        values = values + sd * np.random.default_rng(seed).standard_normal(values.shape)
        values = np.where(self._missing(missing, controls), np.nan, values)
        return Dataset.from_columns(
            dict(zip(self.control_names, controls.T, strict=True)),
            dict(zip(self.outputs, values.T, strict=True)),
            {name: np.full(len(controls), s) for name, s in zip(self.outputs, sd, strict=True)}
            if known_errors
            else None,
        )

    def _checked(self, controls: ArrayLike) -> np.ndarray:
        controls = np.asarray(controls, dtype=np.float64)
        p = len(self.control_names)
        if controls.ndim != 2 or controls.shape[1] != p:
            raise InputError(
                f"problem {self.name}: controls have shape {controls.shape}; give one row per point and "
                f"{p} column{'s' if p > 1 else ''} ({', '.join(self.control_names)})"
            )
        if not np.isfinite(controls).all():
            row = int(np.argmin(np.isfinite(controls).all(axis=1)))
            raise InputError(f"problem {self.name}: row {row} of the controls is not finite; remove it")
        return controls

    def _noise_sd(self, noise: float | None) -> np.ndarray:
        if noise is None:
            if self.measured_sd is None:
                raise InputError(f"problem {self.name} has no measurement error of its own; give noise")
            return np.full(len(self.outputs), self.measured_sd)
        if not (np.isfinite(noise) and noise >= 0):
            raise InputError(f"problem {self.name}: noise is {noise}; give a finite number >= 0")
        return noise * self.spread()

    def _missing(self, missing: bool | ArrayLike, controls: np.ndarray) -> np.ndarray:
        shape = (len(controls), len(self.outputs))
        if missing is True and self.observed is not None:
            return ~self.observed(controls)
        if isinstance(missing, bool):
            return np.zeros(shape, dtype=bool)
        mask = np.asarray(missing, dtype=bool)
        if mask.shape != shape:
            raise InputError(f"problem {self.name}: missing has shape {mask.shape}; give {shape}")
        return mask


def _deviation(values: np.ndarray) -> float:
    given = values[~np.isnan(values)]
    return float(given.std()) if given.size else 0.0


def affine(matrices: Sequence[np.ndarray], controls: np.ndarray) -> np.ndarray:
    """Return M(c) = M_0 + Σ_l c_l M_l for p + 1 matrices (n, n) and controls (N, p): shape (N, n, n)."""
    return matrices[0] + np.einsum("Np,pij->Nij", controls, np.stack(matrices[1:]))


def affine_levels(matrices: Sequence[np.ndarray], controls: np.ndarray, levels: int) -> np.ndarray:
    """Return the `levels` lowest eigenvalues of M(c), ascending.

    Parameters
    ----------
    matrices
        p + 1 Hermitian matrices of shape (n, n).
    controls
        Shape (N, p).
    levels
        How many, at most n.

    Returns
    -------
    np.ndarray
        Shape (N, levels).
    """
    return np.concatenate([np.linalg.eigvalsh(m)[:, :levels] for m in _batches(matrices, controls)])


def affine_levels_and_expectation(
    matrices: Sequence[np.ndarray], operator: np.ndarray, controls: np.ndarray, levels: int
) -> np.ndarray:
    """Return the `levels` lowest eigenvalues of M(c) and ⟨0|operator|0⟩ in a last column: (N, levels + 1)."""
    parts = []
    for m in _batches(matrices, controls):
        w, v = np.linalg.eigh(m)
        value = np.einsum("Ni,ij,Nj->N", v[:, :, 0].conj(), operator, v[:, :, 0], optimize=True)
        parts.append(np.concatenate([w[:, :levels], value.real[:, None]], axis=1))
    return np.concatenate(parts)


def affine_lines(matrices: Sequence[np.ndarray], controls: np.ndarray, lines: int) -> np.ndarray:
    """Return the distances of levels 1 to `lines` of M(c) from the lowest: shape (N, lines)."""
    w = affine_levels(matrices, controls, lines + 1)
    return w[:, 1:] - w[:, :1]


def level_outputs(levels: int, available: int) -> dict[str, str]:
    """Return the columns ``{"E0": "E0", ...}`` of the lowest levels.

    Raises
    ------
    InputError
        If `levels` is not between 1 and `available`.
    """
    if not 1 <= levels <= available:
        raise InputError(f"levels is {levels}; this Hamiltonian has {available}, give 1 to {available}")
    return {f"E{k}": f"E{k}" for k in range(levels)}


def line(start: float, stop: float, points: int) -> np.ndarray:
    """Return equally spaced controls, both ends included, as a column (points, 1)."""
    return np.linspace(start, stop, points)[:, None]


def beyond(start: float, stop: float, points: int) -> np.ndarray:
    """Return equally spaced controls in (start, stop], the start left out, as a column (points, 1)."""
    return np.linspace(start, stop, points + 1)[1:, None]


def _batches(matrices: Sequence[np.ndarray], controls: np.ndarray) -> Iterator[np.ndarray]:
    # Large Hamiltonians on a fine grid would not fit into memory together.
    rows = max(1, _BATCH_ENTRIES // matrices[0].size)
    for start in range(0, max(len(controls), 1), rows):
        yield affine(matrices, controls[start : start + rows])
