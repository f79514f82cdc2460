"""Compiled programs, kept in memory: another fit of the same shapes in this process need not compile again."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["compiled"]

KEPT = 32
"""Programs that are kept, those used last. A fit has three, the largest of a few MiB."""

OUTSIDE = ("callback", "stablehlo.send", "jax.const")
"""Marks in the text of a program of which a part stands elsewhere: Python functions on the host, which are called by
their number only, and constants that JAX passes as hidden arguments (``jax_use_simplified_jaxpr_constants``)."""

_programs: OrderedDict[tuple, jax.stages.Compiled] = OrderedDict()
_lock = threading.Lock()


def compiled(function: Callable, *args: Any) -> tuple[jax.stages.Compiled, Any]:
    """A function compiled for arguments of these shapes, and the shapes of its results.

    JAX keeps a compiled program for as long as it sees the same Python function, and every fit has functions of its
    own. Their programs are the same wherever the data are arguments, so they are kept here by their text, which costs
    the tracing only. One whose text does not hold all that it computes with is compiled each time. Results do not
    depend on whether a program was kept.

    Parameters
    ----------
    function : callable
        A function that can be traced; its constants are part of the program.
    *args
        Pytrees of arrays.

    Returns
    -------
    program : jax.stages.Compiled
    shapes : pytree of jax.ShapeDtypeStruct
    """
    lowered = jax.jit(function).lower(*args)
    text = lowered.as_text()
    if any(mark in text for mark in OUTSIDE):
        return lowered.compile(), lowered.out_info
    device = (jax.default_backend(), str(getattr(jax.config, "jax_default_device", None)))
    key = (hashlib.sha256(text.encode()).digest(), lowered.in_tree, lowered.out_tree, device)
    with _lock:
        program = _programs.get(key)
    if program is None:
        program = lowered.compile()
    with _lock:
        _programs[key] = program
        _programs.move_to_end(key)
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
    return program, lowered.out_info
