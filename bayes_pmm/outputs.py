r"""What a data column measures: a level, a difference of levels, an expectation value, a transition strength.

Outputs are small frozen objects. Each one evaluates itself from the eigenvalues ``w`` (ascending) and the
eigenvectors ``V`` (columns) of M(c), and says which levels and which secondary matrix it needs. Level indices
count from 0 at the bottom; negative ones count from the top (``-1`` is the highest level).
"""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from bayes_pmm.errors import InputError
from bayes_pmm.settings import as_whole

__all__ = [
    "Difference",
    "Expectation",
    "Level",
    "Output",
    "Transition",
    "as_outputs",
    "minimum_dim",
    "operators",
    "output_named",
    "parse_output",
]


class Output:
    """Base class of the outputs: ``kind``, ``levels``, ``operator`` and ``value``."""

    kind: ClassVar[str]
    operator: str | None

    def __post_init__(self):
        # A fit is stored with the expressions of its outputs, and must come back from them.
        if self.operator is not None and not re.fullmatch(_NAME, str(self.operator)):
            raise InputError(
                f"output {self}: the operator's name must be a letter, then letters, digits or _; use S_plus, say"
            )
        for index in self.levels:
            as_whole("level", index)

    @property
    def levels(self) -> tuple[int, ...]:
        """Indices of the levels that the output needs."""
        raise NotImplementedError

    @property
    def needs_vectors(self) -> bool:
        """Whether eigenvectors are needed besides eigenvalues."""
        return self.operator is not None

    def value(self, w: jax.Array, V: jax.Array | None, secondary: Mapping[str, jax.Array]) -> jax.Array:
        """Value from eigenvalues (..., n), eigenvectors (..., n, n) and secondary matrices (n, n): (...)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Level(Output):
    """Level E_k of M(c)."""

    index: int
    kind = "level"
    operator = None

    @property
    def levels(self):
        """Indices of the levels that the output needs."""
        return (self.index,)

    def value(self, w, V, secondary):  # noqa: ARG002
        """Value (...) from levels, vectors and secondary matrices."""
        return w[..., self.index]

    def __str__(self):
        return _level(self.index)


@dataclass(frozen=True)
class Difference(Output):
    """Difference of two levels, E_upper - E_lower: a measured line."""

    upper: int
    lower: int
    kind = "difference"
    operator = None

    @property
    def levels(self):
        """Indices of the levels that the output needs."""
        return (self.upper, self.lower)

    def value(self, w, V, secondary):  # noqa: ARG002
        """Value (...) from levels, vectors and secondary matrices."""
        return w[..., self.upper] - w[..., self.lower]

    def __str__(self):
        return f"{_level(self.upper)}-{_level(self.lower)}"


@dataclass(frozen=True)
class Expectation(Output):
    """Expectation value ⟨v_k|A|v_k⟩ of the secondary matrix A in level k."""

    operator: str
    level: int
    kind = "expectation"

    @property
    def levels(self):
        """Indices of the levels that the output needs."""
        return (self.level,)

    def value(self, w, V, secondary):  # noqa: ARG002
        """Value (...) from levels, vectors and secondary matrices."""
        v = V[..., self.level]
        return jnp.real(jnp.einsum("...i,ij,...j->...", v.conj(), secondary[self.operator], v))

    def __str__(self):
        return f"<{self.level}|{self.operator}|{self.level}>"


@dataclass(frozen=True)
class Transition(Output):
    """Transition strength ``|⟨v_i|A|v_j⟩|²`` of the secondary matrix A between two different levels."""

    operator: str
    bra: int
    ket: int
    kind = "transition"

    @property
    def levels(self):
        """Indices of the levels that the output needs."""
        return (self.bra, self.ket)

    def value(self, w, V, secondary):  # noqa: ARG002
        """Value (...) from levels, vectors and secondary matrices."""
        bra, ket = V[..., self.bra], V[..., self.ket]
        amplitude = jnp.einsum("...i,ij,...j->...", bra.conj(), secondary[self.operator], ket)
        return jnp.real(amplitude) ** 2 + jnp.imag(amplitude) ** 2

    def __str__(self):
        return f"|<{self.bra}|{self.operator}|{self.ket}>|^2"


def _level(index: int) -> str:
    return f"E{index}" if index >= 0 else f"E[{index}]"


_INDEX = r"(?:(\d+)|\[\s*(-?\d+)\s*\])"
_LEVEL = re.compile(rf"E{_INDEX}")
_DIFFERENCE = re.compile(rf"E{_INDEX}\s*-\s*E{_INDEX}")
_NAME = r"[^\W\d]\w*"
_BRAKET = rf"<\s*(-?\d+)\s*\|\s*({_NAME})\s*\|\s*(-?\d+)\s*>"
_EXPECTATION = re.compile(_BRAKET)
_UNIT = re.compile(r"\s*[(\[][^()\[\]]*[)\]]$|\s*/\s*[^\W\d]+$|[\s_][^\W\d_]+$")
_STRENGTH = re.compile(rf"\|\s*{_BRAKET}\s*\|\s*(?:\^|\*\*)\s*2")


def output_named(name: str) -> Output | None:
    """What a column's name says as an expression, or None; a unit behind it, as in "E1 (meV)", is not looked at.

    Examples
    --------
    >>> output_named("E1 (meV)"), output_named("E1/meV"), output_named("E1_meV"), output_named("energy")
    (Level(index=1), Level(index=1), Level(index=1), None)
    """
    for text in (name, _UNIT.sub("", name)):
        with contextlib.suppress(InputError):
            return parse_output(text)
    return None


def parse_output(expression: str) -> Output:
    """Output from its expression.

    Parameters
    ----------
    expression : str
        ``E2``, ``E[-1]`` (highest), ``E1-E0``, ``<0|A|0>`` or ``|<0|A|1>|^2``.

    Raises
    ------
    InputError
        If the expression does not parse, or asks for something that depends on the gauge.

    Examples
    --------
    >>> parse_output("E1-E0")
    Difference(upper=1, lower=0)
    """
    text = expression.strip()
    number = lambda plain, bracket: int(plain if plain is not None else bracket)
    if found := _LEVEL.fullmatch(text):
        return Level(number(*found.groups()))
    if found := _DIFFERENCE.fullmatch(text):
        a, b, c, d = found.groups()
        upper, lower = number(a, b), number(c, d)
        if upper == lower:
            raise InputError(
                f"output '{expression}': the difference of a level and itself is 0; use two levels"
            )
        return Difference(upper, lower)
    if found := _EXPECTATION.fullmatch(text):
        bra, name, ket = int(found[1]), found[2], int(found[3])
        if bra != ket:
            raise InputError(
                f"output '{expression}': the phase of a transition amplitude is not defined;"
                f" use |<{bra}|{name}|{ket}>|^2"
            )
        return Expectation(name, bra)
    if found := _STRENGTH.fullmatch(text):
        bra, name, ket = int(found[1]), found[2], int(found[3])
        if bra == ket:
            raise InputError(
                f"output '{expression}': bra and ket are the same level;"
                f" use the expectation value <{bra}|{name}|{bra}>"
            )
        return Transition(name, bra, ket)
    raise InputError(
        f"output '{expression}' does not parse; use E2, E[-1], E1-E0, <0|A|0> or |<0|A|1>|^2, one for"
        " each column of the data"
    )


def as_outputs(outputs: "Output | str | Iterable[Output | str]") -> tuple[Output, ...]:
    """Tuple of outputs from outputs or their expressions.

    Raises
    ------
    InputError
        If it is no list of them, or one is neither an output nor the text of one.
    """
    if isinstance(outputs, str | Output):
        outputs = [outputs]
    if isinstance(outputs, Mapping):
        raise InputError(
            "outputs: of a mapping one would not know whether its names or its values are meant; give a list, one"
            " expression for each column of the data in their order, such as list(outputs.values())"
        )
    if not isinstance(outputs, Iterable):
        raise InputError(f"outputs = {outputs!r}: give a list of expressions, such as ['E0', 'E1']")
    outputs = tuple(outputs)
    for output in outputs:
        if not isinstance(output, str | Output):
            raise InputError(
                f"output {output!r} is no expression; write a text such as"
                f" 'E{output if isinstance(output, int) else 0}', E1-E0 or <0|A|0>"
            )
    return tuple(o if isinstance(o, Output) else parse_output(o) for o in outputs)


def operators(outputs: Sequence[Output]) -> tuple[str, ...]:
    """Names of the secondary matrices that the outputs use, in order of first use."""
    return tuple(dict.fromkeys(o.operator for o in outputs if o.operator is not None))


def minimum_dim(outputs: Sequence[Output]) -> int:
    """Smallest matrix dimension that has all the levels asked for."""
    return max(k + 1 if k >= 0 else -k for o in outputs for k in o.levels)
