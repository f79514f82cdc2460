"""NUTS: NumPyro's kernel, one thread a chain, in chunks that can be saved and taken up again."""

import os
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from bayes_pmm.errors import InputError
from bayes_pmm.inference.checkpoint import ChainFile
from bayes_pmm.inference.protocol import Draws, Progress, silent
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.posterior import Posterior

__all__ = ["NUTS"]

CHUNK = 50
"""Draws between checkpoints and progress reports."""


@dataclass(frozen=True)
class NUTS:
    """No-U-turn sampler with a dense mass matrix.

    Parameters
    ----------
    chains, warmup, draws : int
        Number of chains, and of warm-up and kept draws of each.
    target_accept : float
        Acceptance that the step size is adapted to.
    max_tree_depth : int
        At most 2**max_tree_depth - 1 leapfrog steps a draw.
    dense_mass : bool
        Full mass matrix rather than its diagonal.
    starts : AnnealedStarts
        How the chains' starting points are found.
    """

    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    target_accept: float = 0.95
    max_tree_depth: int = 10
    dense_mass: bool = True
    starts: AnnealedStarts = field(default_factory=AnnealedStarts)

    def __post_init__(self):
        for name, least in (("chains", 1), ("warmup", 1), ("draws", 4)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)} is too few; use at least {least}")

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Draw from the posterior; see :class:`~bayes_pmm.inference.protocol.Method`."""
        key_start, key_run = jax.random.split(key)
        progress("starts", 0, 1)
        found = self.starts.find(posterior, key_start, self.chains)
        progress("starts", 1, 1)
        start = [posterior.unconstrain(s) for s in found.sites]
        z, stats, seconds = self._sample(posterior, start, key_run, progress, checkpoint)
        constrain = jax.jit(jax.vmap(jax.vmap(posterior.constrain)))
        sites = {k: np.asarray(v) for k, v in constrain(z).items()}
        info = {
            "sampler": "nuts",
            "chains": self.chains,
            "warmup": self.warmup,
            "draws": self.draws,
            "seconds": seconds,
            "basins": [vars(b) for b in found.basins],
            "max_tree_depth": self.max_tree_depth,
        }
        return Draws(sites, stats, info)

    def _sample(self, posterior, start, key, progress, checkpoint):
        args = tuple(jnp.asarray(a) for a in posterior.training)
        total = self.warmup + self.draws
        value_and_grad = jax.jit(jax.value_and_grad(posterior.potential))
        init, step = hmc(
            potential_fn_gen=lambda c, y, e: lambda z: posterior.potential(z, c, y, e), algo="NUTS"
        )

        def initial(z, chain_key):
            value, grad = value_and_grad(z, *args)
            return init(
                ParamInfo(z, value, grad),
                self.warmup,
                step_size=0.1,
                dense_mass=self.dense_mass,
                target_accept_prob=self.target_accept,
                trajectory_length=None,
                max_tree_depth=self.max_tree_depth,
                model_args=args,
                rng_key=chain_key,
            )

        def chunk(state, count, args):
            def body(i, carry):
                state, kept = carry
                state = step(state, args, {})
                record = _record(state)
                return state, jax.tree.map(lambda a, v: a.at[i].set(v), kept, record)

            empty = jax.tree.map(lambda v: jnp.zeros((CHUNK, *v.shape), v.dtype), _record(state))
            return jax.lax.fori_loop(0, count, body, (state, empty))

        states = [initial(z, k) for z, k in zip(start, jax.random.split(key, self.chains), strict=True)]
        compiled = jax.jit(chunk).lower(states[0], np.int32(0), args).compile()
        done, lock = [0] * self.chains, threading.Lock()
        stop = threading.Event()

        def chain(index):
            saved = ChainFile(checkpoint, index) if checkpoint is not None else None
            state, at, records, before = states[index], 0, [], 0.0
            if saved is not None and (previous := saved.load(state)):
                state, at, leaves, before = previous
                done[index] = at
                if leaves:
                    records = [jax.tree.unflatten(jax.tree.structure(_record(state)), leaves)]
            while at < total and not stop.is_set():
                # A chunk never spans the end of the warm-up, so that kept draws are whole chunks.
                count = min(CHUNK, (self.warmup if at < self.warmup else total) - at)
                state, kept = compiled(state, np.int32(count), args)
                kept = jax.tree.map(lambda a, count=count: np.asarray(a[:count]), kept)
                if at >= self.warmup:
                    records.append(kept)
                at += count
                if saved is not None:
                    saved.save(state, at, records, before + time.perf_counter() - began)
                with lock:
                    done[index] = at
                    progress("sampling", sum(done), total * self.chains)
            return records, before

        began = time.perf_counter()
        with ThreadPoolExecutor(max_workers=min(self.chains, os.cpu_count() or 1)) as pool:
            futures = [pool.submit(chain, i) for i in range(self.chains)]
            try:
                # One chain's failure must not wait for the others to finish.
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
            results = [f.result() for f in futures]
        seconds = time.perf_counter() - began + max(before for _, before in results)
        joined = jax.tree.map(
            lambda *chains: np.stack(chains),
            *[jax.tree.map(lambda *parts: np.concatenate(parts), *records) for records, _ in results],
        )
        return joined[0], joined[1], seconds


def _record(state) -> tuple[dict, dict]:
    stats = {
        "lp": -state.potential_energy,
        "energy": state.energy,
        "diverging": state.diverging,
        "acceptance_rate": state.accept_prob,
        "n_steps": state.num_steps,
        "step_size": state.adapt_state.step_size,
    }
    return state.z, stats
