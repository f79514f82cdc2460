"""Programs that split large arrays get fewer threads, because as many of them as there are cores may hang."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bayes_pmm.inference import threads


def loop(batch, n):
    step = lambda i, x: x + jnp.linalg.solve(x, x)  # noqa: ARG005
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


def batch(function, *shape):
    step = lambda i, x: function(x)  # noqa: ARG005
    return jax.jit(lambda x: jax.lax.fori_loop(0, 9, step, x)).lower(jnp.ones(shape)).compile()


@pytest.mark.parametrize(
    "function", [lambda x: jnp.linalg.eigh(x)[1], jnp.linalg.cholesky, lambda x: jnp.linalg.qr(x)[0]]
)
def test_large_batches_of_linear_algebra_are_recognised(monkeypatch, function):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for shape, expected in (
        ((60, 9, 9), 1),
        ((20, 14, 14), 1),
        ((30, 9, 9), 2),
        ((200, 4, 4), 2),
        ((90, 90), 2),
    ):
        program = batch(function, *shape)
        assert threads.SPLIT not in program.as_text()
        assert threads.workers(4, program) == expected, shape


def blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_limits_that_overlap_leave_what_was_there_before():
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        for _ in range(2):
            first, second = threads.one_blas_thread(), threads.one_blas_thread()
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            assert set(blas()) == {1}, "the second is still at work"
            second.__exit__(None, None, None)
            assert blas() == before
        with pytest.raises(KeyboardInterrupt), threads.one_blas_thread():
            raise KeyboardInterrupt
        assert blas() == before


MANY_DATA = """
import sys
import jax, jax.numpy as jnp
import bayes_pmm as bp
from bayes_pmm.inference import NUTS, AnnealedStarts

jax.config.update("jax_enable_x64", True)
c = jnp.linspace(0.0, 1.0, int(sys.argv[1]))
levels = bp.problems.get("oscillator").solve(c[:, None])
data = bp.Dataset.from_columns({"g": c}, {"E0": levels[:, 0]})
starts = AnnealedStarts(candidates=2, stages=2, steps=2, late_stages=1)
method = NUTS(chains=2, warmup=2, draws=50, max_tree_depth=2, starts=starts)
draws = method.run(bp.Posterior(data, bp.PMM(["E0"], dim=9)), jax.random.key(0))
print(draws.sites["gaps"].shape)
"""


@pytest.mark.parametrize("rows", [100, 1000])
def test_many_data_do_not_hang(rows):
    """Many rows of 9 × 9 matrices: with two chains side by side on two cores such fits stood still."""
    # A process of its own can be ended; a thread that waits for another one in XLA cannot.
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    command = [sys.executable, "-c", MANY_DATA, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2, 50, 8)"
