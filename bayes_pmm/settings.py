"""What users give as settings: seeds, and numbers that may come from NumPy."""

import dataclasses
import math
from numbers import Integral, Real
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.errors import InputError

__all__ = ["as_key", "as_whole", "double_precision", "in_range", "plain_numbers", "stream"]


def as_key(key: Any) -> jax.Array:
    """PRNG key of a seed, or the key itself.

    Parameters
    ----------
    key : int or PRNG key
        Whole numbers of NumPy too, and keys of the old kind (``jax.random.PRNGKey``).

    Raises
    ------
    InputError
        If it is neither, or the seed has more than 64 bits.
    """
    if isinstance(key, Integral):
        seed = int(key)
        if not -(2**63) <= seed < 2**63:
            raise InputError(f"seed {seed} has more than 64 bits; use one from -2**63 to 2**63 - 1")
        return jax.random.key(seed)
    typed = isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and key.shape == ():
        return key
    if isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise InputError(
        f"key = {key!r} is neither a whole number nor one PRNG key; use for example 0 or jax.random.key(0)"
    )


def double_precision() -> bool:
    """Whether JAX works in double precision."""
    return jnp.result_type(float) == np.float64


def stream(key: jax.Array, purpose: str) -> jax.Array:
    """Key for a purpose beside what the key itself is split into.

    JAX's ``fold_in(key, 1)`` is ``split(key)[1]``, so that small numbers folded in would give the same draws twice.
    """
    return jax.random.fold_in(key, crc32(purpose.encode()) | 1 << 31)


def plain_numbers(settings: Any) -> None:
    """Turn NumPy's numbers among a frozen dataclass's settings into Python's, which JSON and ``repr`` know."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(settings, field.name, value.item())


def as_whole(name: str, value: Any) -> int:
    """Whole number as an int.

    Raises
    ------
    InputError
        If it is not one; 4.0 is not either.
    """
    if not isinstance(value, Integral):
        near = round(value) if isinstance(value, Real) and math.isfinite(value) else 4
        raise InputError(f"{name} = {value!r} is not a whole number; use for example {name}={near}")
    return int(value)


def in_range(*numbers: float, zero: bool = False) -> bool:
    """Whether all are numbers, finite and positive, or with ``zero`` not negative; NaN is neither."""
    return all(isinstance(x, Real) and math.isfinite(x) and (x > 0 or (zero and x == 0)) for x in numbers)
