"""How many compiled programs may run side by side in threads of one process, and BLAS with one thread meanwhile."""

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread", "workers"]

SPLIT = '"outer_dimension_partitions":["'
"""How XLA marks an operation on large arrays whose parts it gives to its own threads."""

LAPACK = re.compile(r"= \(?\w+\[([\d,]+)\].* custom_call_target=\"lapack_")
"""A call of LAPACK in a program's text, with the shape of its result. jaxlib gives the matrices of a large batch to the
same threads and waits for them (0.10.2; later ones may not)."""

LARGE = 25_000
"""Batch n³ from which on a batch may be split: eigh was split between 27 000 and 44 000 for n = 4 to 14, QR, Cholesky
and LU at more."""

_lock = threading.Lock()
_limit = contextlib.ExitStack()
_users = 0


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS and LAPACK to one thread, since their own would fight with those that call them.

    The limit is the whole process's, and threads may overlap in any order: the first sets it, and the last one puts
    back what was there before. OpenMP's is not touched: it is a thread's own, and another could not put it back.
    """
    global _users
    with _lock:
        if _users == 0:
            _limit.enter_context(threadpool_limits(1, user_api="blas"))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.close()


def workers(jobs: int, *programs) -> int:
    """Threads for so many jobs that run the given compiled programs.

    As many as there are cores, but half of them where a program splits large arrays: it waits for XLA's threads, of
    which there are as many as cores, while it occupies one of them. If as many programs as cores do so, they can wait
    for each other for ever (``studies/sampling/hang.py``: with JAX 0.10.2 two loops over 80 000 numbers each on two
    cores hang in half of the runs). So can batches of eigenproblems: fits of 100 rows of 9 × 9 matrices stood still.

    Parameters
    ----------
    jobs : int
    *programs : jax.stages.Compiled
    """
    # Not every system says which of its cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if any(_splits(program.as_text() or "") for program in programs):
        cores //= 2
    return max(1, min(jobs, cores))


def _splits(text: str) -> bool:
    """Whether a program gives parts of its work to XLA's threads and waits for them."""
    if SPLIT in text:
        return True
    shapes = ([int(d) for d in dims.split(",")] for dims in LAPACK.findall(text))
    batches = ((math.prod(shape[:-2]), shape[-2:]) for shape in shapes if len(shape) > 2)
    return any(batch > 1 and batch * math.prod(n) * min(n) > LARGE for batch, n in batches)
