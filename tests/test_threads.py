"""Programs that split large arrays get fewer threads, because as many of them as there are cores may hang."""

import os

import jax
import jax.numpy as jnp
import pytest

import bayes_pmm as bp
from bayes_pmm.inference import threads
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.start import AnnealedStarts


def loop(batch, n):
    step = lambda i, x: x + jnp.linalg.solve(x, x)  # noqa: E731, ARG005
    return jax.jit(lambda x: jax.lax.fori_loop(0, 9, step, x)).lower(jnp.ones((batch, n, n))).compile()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a single core splits nothing")
def test_large_arrays_are_recognised(monkeypatch):
    small, large = loop(10, 9), loop(400, 20)
    assert threads.SPLIT not in small.as_text()
    assert threads.SPLIT in large.as_text()
    for cores, whole, split in ((1, 1, 1), (2, 2, 1), (4, 4, 2), (16, 4, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert threads.workers(4, small) == whole
        assert threads.workers(4, small, large) == split


def test_many_data_do_not_hang():
    """A thousand rows of 9 × 9 matrices: with two chains side by side on two cores such fits stood still."""
    problem = bp.problems.get("oscillator")
    c = jnp.linspace(0.0, 1.0, 1000)[:, None]
    levels = problem.solve(c)[:, :1]
    data = bp.Dataset.from_columns({"g": c[:, 0]}, {"E0": levels[:, 0]})
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=9))
    starts = AnnealedStarts(candidates=2, stages=2, steps=2, late_stages=1)
    draws = NUTS(chains=2, warmup=2, draws=4, max_tree_depth=2, starts=starts).run(
        posterior, jax.random.key(0)
    )
    assert draws.sites["gaps"].shape == (2, 4, 8)
