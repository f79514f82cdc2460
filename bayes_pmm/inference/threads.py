"""How many compiled programs may run side by side in threads of one process."""

import os

__all__ = ["workers"]

SPLIT = '"outer_dimension_partitions":["'
"""How XLA marks an operation on large arrays whose parts it gives to its own threads."""


def workers(jobs: int, *programs) -> int:
    """Threads for so many jobs that run the given compiled programs.

    As many as there are cores, but half of them where a program splits large arrays: it waits for XLA's threads, of
    which there are as many as cores, while it occupies one of them. If as many programs as cores do so, they can wait
    for each other for ever (``studies/sampling/hang.py``: with JAX 0.10.2 two loops over 80 000 numbers each on two
    cores hang in half of the runs).

    Parameters
    ----------
    jobs : int
    *programs : jax.stages.Compiled
    """
    # Not every system says which of its cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if any(SPLIT in (program.as_text() or "") for program in programs):
        cores //= 2
    return max(1, min(jobs, cores))
