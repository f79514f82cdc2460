"""How much memory there is, so that what needs more is refused before the work."""

import os
from pathlib import Path

import numpy as np

from bayes_pmm.errors import InputError

__all__ = ["fits_into_memory"]

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may have (control groups, versions 2 and 1)."""


def fits_into_memory(needed: float, what: str, cure: str) -> None:
    """Refuse what needs more bytes than the machine has, rather than be killed for it.

    Raises
    ------
    InputError
        With how much is needed and how much there is.
    """
    there = _memory()
    if needed > there:
        raise InputError(
            f"{what} need about {needed / 2**30:.2g} GiB, and this machine has {there / 2**30:.2g}; {cure}"
        )


def _memory() -> float:
    """Bytes of this machine, or of this container where that has fewer; infinite where neither is said."""
    try:
        found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        found = np.inf
    for limit in CONTAINER_LIMITS:
        try:
            found = min(found, float(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return found
