"""Running chains: one thread a chain or all in one batch, in chunks that are saved and taken up again, bit for bit.

A run is a sequence of segments. Between segments all chains meet, and what they share (a metric) is computed from
the draws of all of them; inside a segment no chain knows of the others, so the result does not depend on which
thread was faster.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.inference.checkpoint import ChainFile, check_shapes, load_arrays, save_arrays
from bayes_pmm.inference.compiled import compiled
from bayes_pmm.inference.protocol import Progress
from bayes_pmm.inference.threads import one_blas_thread, workers

__all__ = ["CHUNK", "Segment", "batches", "chunk_for", "collect", "run_chains"]

CHUNK = 50
"""Draws between checkpoints and progress reports, at most."""

SECONDS = 8.0
"""Time between checkpoints that costly draws are to take at most, on one core of its own: much less than a minute, as
many a core is slower or has other work."""


@dataclass(frozen=True)
class Segment:
    """A stretch of draws between two meetings of the chains.

    Parameters
    ----------
    draws : int
    discard : int
        Draws at its beginning that leave no record.
    chunk : int
        Draws between checkpoints, where fewer than ``CHUNK`` are to be lost. It must follow from the data and settings
        alone, not from a clock: what a method computes anew at the beginning of a chunk has other digits elsewhere.
    """

    draws: int
    discard: int = 0
    chunk: int = CHUNK


def chunk_for(seconds: float) -> int:
    """Draws between checkpoints where the dearest ones take so many seconds, by an estimate that is no clock's."""
    return int(np.clip(SECONDS / seconds, 1, CHUNK))


def batches(wanted: bool | None) -> bool:
    """Whether all chains run in one batch: as wanted, by default on anything but a CPU."""
    # A CPU's batch waits for its slowest chain with one core; an accelerator runs a batch in the time of one chain.
    return jax.default_backend() != "cpu" if wanted is None else wanted


def collect(step: Callable, record: Callable, state: Any, count: jax.Array) -> tuple[Any, Any]:
    """Take ``count`` <= CHUNK steps: the last state, and records with a leading axis of CHUNK rows.

    Parameters
    ----------
    step : callable
        state -> state.
    record : callable
        state -> pytree of arrays to keep.
    state : pytree
    count : int array ()
        Traced, so that chunks of any length share one compiled function.
    """
    empty = jax.tree.map(lambda v: jnp.zeros((CHUNK, *v.shape), v.dtype), jax.eval_shape(record, state))

    def body(i, carry):
        state, kept = carry
        state = step(state)
        return state, jax.tree.map(lambda a, v: a.at[i].set(v), kept, record(state))

    return jax.lax.fori_loop(0, count, body, (state, empty))


def run_chains(
    segments: Sequence[Segment],
    states: list,
    shared: Any,
    chunk: Callable,
    arrays: Any,
    *,
    meet: Callable | None = None,
    batched: bool = False,
    progress: Progress,
    checkpoint: Path | None,
) -> tuple[list, float]:
    """Run all chains through all segments.

    Parameters
    ----------
    segments : sequence of Segment
    states : list of pytrees
        The chains' first states, all of one structure.
    shared : pytree
        What the chains share in the first segment.
    chunk : callable
        (state, count, shared, arrays) -> (state, records with a leading axis of CHUNK rows); compiled here.
    arrays : pytree
        Data, so that other data of the same shapes find the compiled program; see
        :func:`~bayes_pmm.inference.compiled.compiled`.
    meet : callable, optional
        (index of the coming segment, shared, records of all chains) -> what they share in it. Called with the
        records (chain, draw, ...) of the segment before; must be deterministic.
    batched : bool
        All chains in one batch instead of one thread a chain: for accelerators.
    progress : callable
    checkpoint : Path or None

    Returns
    -------
    records : list of pytrees
        Of the last segment, one per chain, arrays (draw, ...).
    seconds : float
        Of sampling, those before an interruption included.
    """
    if batched:
        batch = jax.tree.map(lambda *s: jnp.stack(s), *states)
        together = jax.vmap(chunk, in_axes=(0, None, None, None))

        def turned(state, count, shared, arrays):
            """Draws first and chains second, as if the batch were one chain."""
            state, kept = together(state, count, shared, arrays)
            return state, jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), kept)

        records, seconds = run_chains(
            segments, [batch], shared, turned, arrays,
            meet=None if meet is None else lambda k, s, r: meet(k, s, _chains_first(r)),
            progress=lambda stage, done, all_: progress(stage, len(states) * done, len(states) * all_),
            checkpoint=checkpoint,
        )  # fmt: skip
        return [jax.tree.map(lambda a, i=i: a[:, i], records[0]) for i in range(len(states))], seconds
    chains, total = len(states), sum(s.draws for s in segments)
    files = [None if checkpoint is None else ChainFile(checkpoint, i) for i in range(chains)]
    at, records, before = [0] * chains, [[] for _ in range(chains)], [0.0] * chains
    program, (_, record) = compiled(chunk, states[0], np.int32(0), shared, arrays)
    for i, file in enumerate(files):
        if file is not None and (previous := file.load(states[i])):
            states[i], at[i], leaves, before[i] = previous
            if leaves:
                drawn = {len(x) for x in leaves}
                check_shapes(file.path, leaves, [(*drawn, *x.shape[1:]) for x in jax.tree.leaves(record)])
                records[i] = [jax.tree.unflatten(jax.tree.structure(record), leaves)]
    began, lock, stop = time.perf_counter(), threading.Lock(), threading.Event()

    def chain(i: int, start: int, segment: Segment, shared: Any) -> None:
        end = start + segment.draws
        if at[i] == start:
            records[i] = []
        while at[i] < end and not stop.is_set():
            # A chunk never spans the end of the discarded draws, so that kept draws are whole chunks.
            border = start + segment.discard
            count = min(CHUNK, segment.chunk, (border if at[i] < border else end) - at[i])
            states[i], kept = program(states[i], np.int32(count), shared, arrays)
            # NumPy cuts: JAX would compile a function for each shape.
            kept = jax.tree.map(lambda a, count=count: np.asarray(a)[:count], kept)
            if at[i] >= border:
                records[i].append(kept)
            at[i] += count
            if (file := files[i]) is not None:
                file.save(states[i], at[i], records[i], before[i] + time.perf_counter() - began)
            with lock:
                progress("sampling", sum(at), total * chains)

    if min(at) < total:
        progress("sampling", sum(at), total * chains)
    start = 0
    # LAPACK's own threads would fight with the chains' threads: 20 times slower on small matrices.
    with one_blas_thread(), ThreadPoolExecutor(workers(chains, program)) as pool:
        for k, segment in enumerate(segments):
            if k > 0 and meet is not None:
                shared = _met(meet, k, shared, records, checkpoint, [a - start for a in at], segment)
            futures = [pool.submit(chain, i, start, segment, shared) for i in range(chains)]
            try:
                # One chain's failure must not wait for the others to finish.
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:
                stop.set()
                raise
            if any(f.done() and f.exception() for f in futures):
                stop.set()
            for f in futures:
                f.result()
            start += segment.draws
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *r) for r in records]
    return joined, time.perf_counter() - began + max(before)


def _chains_first(records: Any) -> Any:
    """From (1, draw, chain, ...) to (chain, draw, ...)."""
    return jax.tree.map(lambda a: np.swapaxes(a[0], 0, 1), records)


def _met(meet, k, shared, records, checkpoint, ahead, segment):
    """What the chains share in segment k: from its file if they met before, otherwise from their records."""
    # Two files: once some chains have gone on, what they share cannot be computed again.
    paths = (
        [] if checkpoint is None else [checkpoint / f"shared_{k}.npz", checkpoint / f"shared_{k}.copy.npz"]
    )
    for path in paths:
        if stored := load_arrays(path, shared):
            return stored[0]
    if min(ahead) >= segment.draws:
        return shared  # all chains are past this segment
    if max(ahead) > 0:
        # No other sampler should be tried instead, as after a failure of this one.
        raise InputError(
            f"{paths[0]}: missing or damaged like its copy, and some chains went on from it; start this run again"
            " elsewhere"
        )
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *r) for r in records]
    shared = meet(k, shared, jax.tree.map(lambda *c: np.stack(c), *joined))
    for path in reversed(paths):
        save_arrays(path, shared)
    return shared
