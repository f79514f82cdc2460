r"""Bases: from controls c to the coefficients φ_l(c) of the primary matrices in M(c) = Σ_l φ_l(c) M_l.

A basis is a frozen object with ``__call__(c)`` that takes controls of shape (N, p) and returns (N, L). If
``has_constant``, term 0 is the constant 1. If ``maps_controls``, the basis sees standardised controls;
otherwise it sees the user's units.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.settings import as_whole, in_range, plain_numbers

__all__ = ["Affine", "Basis", "Custom", "Fourier", "InversePowers", "Polynomial", "parse_basis"]

STANDS_OUT = 1.5
"""Times by which the widest gap on a circle exceeds the median one where it is outside the data. A judgement."""


class Basis:
    """Base class of the bases."""

    has_constant: bool = True
    maps_controls: bool = False

    def __call__(self, c: jax.Array) -> jax.Array:
        """Coefficients (N, L) at controls (N, p)."""
        raise NotImplementedError

    def places(self, controls: np.ndarray, trained: np.ndarray) -> np.ndarray:
        """Where controls (N, p) lie for the question what is outside the data, and how far: points (N, p).

        The controls themselves, unless the basis knows better. ``trained`` are those of the data.
        """
        del trained
        return controls

    def n_terms(self, n_controls: int) -> int:
        """Count the primary matrices, L, for p controls."""
        return jax.eval_shape(self, jax.ShapeDtypeStruct((1, n_controls), jnp.result_type(float))).shape[-1]


@dataclass(frozen=True)
class Polynomial(Basis):
    """All monomials of the standardised controls up to a total degree; degree 1 is the affine basis.

    Raises
    ------
    InputError
        If the degree is not a whole number of at least 1.
    """

    degree: int = 1
    maps_controls = True

    def __post_init__(self):
        object.__setattr__(self, "degree", as_whole("degree", self.degree))
        if self.degree < 1:
            raise InputError(f"basis poly:{self.degree}: the degree must be at least 1")

    def __call__(self, c):
        """Coefficients (N, L): 1, then the monomials by degree."""
        columns = [jnp.ones_like(c[:, 0])]
        for degree in range(1, self.degree + 1):
            for powers in combinations_with_replacement(range(c.shape[1]), degree):
                columns.append(math.prod(c[:, j] for j in powers))
        return jnp.stack(columns, axis=1)

    def __str__(self):
        return "affine" if self.degree == 1 else f"poly:{self.degree}"


def Affine() -> Polynomial:
    """Affine basis 1, c_1, …, c_p: the polynomial basis of degree 1."""
    return Polynomial(1)


@dataclass(frozen=True)
class Fourier(Basis):
    """1, cos(2πkc_j/P), sin(2πkc_j/P) for k = 1…order and every control; the period P in the user's units.

    Raises
    ------
    InputError
        If the order is not a whole number of at least 1, or the period is not positive and finite.
    """

    order: int
    period: float

    def __post_init__(self):
        plain_numbers(self)
        object.__setattr__(self, "order", as_whole("order", self.order))
        if self.order < 1 or not in_range(self.period):
            raise InputError(f"basis {self}: the order must be at least 1 and the period positive")

    def __call__(self, c):
        """Coefficients (N, 1 + 2·order·p): 1, then cos and sin by control and k."""
        k = jnp.arange(1, self.order + 1, dtype=c.dtype)
        angle = (2 * jnp.pi / self.period) * c[:, :, None] * k[None, None, :]
        waves = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1).reshape(c.shape[0], -1)
        return jnp.concatenate([jnp.ones_like(c[:, :1]), waves], axis=1)

    def places(self, controls, trained):
        """Controls within one period, which begins in the middle of the widest gap that the data leave on the circle.

        So the same phase is the same place, however many periods away. Where no gap stands out the data cover the
        circle, and what lies in the widest one is at the nearest of the data: no place is outside.
        """
        phases = np.sort(np.mod(trained, self.period), axis=0)
        following = np.concatenate([phases[1:], phases[:1] + self.period])
        gaps = following - phases
        widest = np.argmax(gaps, axis=0)[None]
        begin = np.take_along_axis(phases + following, widest, axis=0)[0] / 2
        half = np.take_along_axis(gaps, widest, axis=0)[0] / 2
        # Between repeated rows there is no gap.
        apart = gaps > 1e-9 * self.period
        typical = np.nanmedian(np.where(apart, gaps, np.nan), axis=0)
        covered = (2 * half <= STANDS_OUT * typical) & (apart.sum(axis=0) > 2)
        # Infinity has no phase, and is refused where controls are checked.
        with np.errstate(invalid="ignore"):
            places = begin + np.mod(controls - begin, self.period)
        return np.where(covered, np.clip(places, begin + half, begin + self.period - half), places)

    def __str__(self):
        return f"fourier:{self.order}:{self.period!r}"


@dataclass(frozen=True)
class InversePowers(Basis):
    """1, c_j^(-1), …, c_j^(-order) for every control, in the user's units.

    Raises
    ------
    InputError
        If the order is not a whole number of at least 1.
    """

    order: int

    def __post_init__(self):
        object.__setattr__(self, "order", as_whole("order", self.order))
        if self.order < 1:
            raise InputError(f"basis {self}: the order must be at least 1")

    def __call__(self, c):
        """Coefficients (N, 1 + order·p): 1, then the controls by power."""
        return jnp.concatenate(
            [jnp.ones_like(c[:, :1]), *(c ** (-k) for k in range(1, self.order + 1))], axis=1
        )

    def places(self, controls, trained):
        """Reciprocals: infinity is as near as zero is to them."""
        del trained
        with np.errstate(divide="ignore"):
            return 1.0 / np.asarray(controls)

    def __str__(self):
        return f"inverse:{self.order}"


@dataclass(frozen=True)
class Custom(Basis):
    """A user's own basis.

    Parameters
    ----------
    function : callable
        From controls (N, p) in the user's units to coefficients (N, L), written with ``jax.numpy``.
    has_constant : bool
        Whether term 0 is the constant 1. Without a constant the energies are scaled but not centred.
    name : str
        Name under which a saved fit remembers the basis; loading such a fit needs the basis again.

    Raises
    ------
    InputError
        If the function is none.
    """

    function: Callable[[jax.Array], jax.Array]
    has_constant: bool = True
    name: str = "custom"

    def __post_init__(self):
        if not callable(self.function):
            raise InputError(
                f"Custom({self.function!r}): give a function of the controls (N, p), such as"
                " lambda c: jnp.stack([jnp.ones(len(c)), jnp.exp(c[:, 0])], axis=1)"
            )

    def __call__(self, c):
        """Coefficients (N, L) from the user's function."""
        try:
            found = self.function(c)
        except jax.errors.TracerArrayConversionError as error:
            raise InputError(
                f"basis {self}: the function turns JAX's arrays into NumPy's; write it with jax.numpy instead of numpy"
            ) from error
        except (
            jax.errors.ConcretizationTypeError,
            jax.errors.NonConcreteBooleanIndexError,
            jax.errors.TracerIntegerConversionError,
        ) as error:
            raise InputError(
                f"basis {self}: the function does with values of the controls what cannot be compiled, such as if,"
                " float() or c[c > 0]; write jnp.where(condition, a, b) for the one, and leave out the others"
            ) from error
        shape: tuple[int, ...] = getattr(found, "shape", ())
        if len(shape) != 2 or shape[0] != c.shape[0]:
            raise InputError(
                f"basis {self}: the function gives shape {shape} for controls of shape {c.shape}; give"
                f" ({c.shape[0]}, L), one column per term"
            )
        return found

    def __str__(self):
        return self.name


def parse_basis(text: str) -> Basis:
    """Basis from ``affine``, ``poly:D``, ``fourier:K:PERIOD`` or ``inverse:K``.

    Raises
    ------
    InputError
        If the text is none of these.
    """
    if text == "affine":
        return Affine()
    if found := re.fullmatch(r"poly:(\d+)", text):
        return Polynomial(int(found[1]))
    if found := re.fullmatch(r"inverse:(\d+)", text):
        return InversePowers(int(found[1]))
    if found := re.fullmatch(r"fourier:(\d+):([-+.\deE]+)", text):
        try:
            return Fourier(int(found[1]), float(found[2]))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
    raise InputError(f"basis '{text}' does not parse; use affine, poly:D, fourier:K:PERIOD or inverse:K")
