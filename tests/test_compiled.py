"""Programs are kept by what they compute, not by the Python function that they come from."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.inference import compiled as room
from bayes_pmm.inference.compiled import compiled


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Each test begins with no program."""
    monkeypatch.setattr(room, "_programs", type(room._programs)())


def shifted(by):
    """A new function each time, with a constant of many numbers, as masks of data are."""
    by = np.full(5000, float(by))
    return lambda x: x + by


def test_same_program_for_same_text():
    x = jnp.zeros(5000)
    one, shapes = compiled(shifted(1), x)
    other, _ = compiled(shifted(1), x)
    assert one is other
    assert shapes.shape == (5000,)
    np.testing.assert_array_equal(other(x), np.ones(5000))


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (shifted(2), jnp.zeros(5000)),
        (lambda x: x - 1, jnp.zeros(5000)),
        (shifted(1), jnp.zeros(1)),
        (shifted(1), jnp.zeros(5000, jnp.float32)),
        (lambda x: {"of": shifted(1)(x)}, jnp.zeros(5000)),
    ],
    ids=["constant", "operation", "shape", "precision", "structure"],
)
def test_other_programs(function, argument):
    kept, _ = compiled(shifted(1), jnp.zeros(5000))
    program, _ = compiled(function, argument)
    assert program is not kept
    expected, found = function(argument), program(argument)
    assert type(found) is type(expected)
    np.testing.assert_array_equal(
        found["of"] if isinstance(found, dict) else found,
        np.asarray(expected["of"] if isinstance(expected, dict) else expected),
    )


@pytest.mark.parametrize("call", [jax.pure_callback, io_callback], ids=["pure", "io"])
def test_functions_on_the_host_are_not_mistaken_for_each_other(call):
    """The text of a program has their number only."""
    x = jnp.zeros(3)

    def adding(by):
        return lambda x: call(lambda v: np.asarray(v) + by, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for by in (1.0, 2.0):
        np.testing.assert_array_equal(compiled(adding(by), x)[0](x), np.full(3, by))
    assert not room._programs


def test_reports_to_the_host_are_not_mistaken_for_each_other():
    x, heard = jnp.zeros(3), []

    def reporting(name):
        def function(x):
            jax.debug.callback(lambda _: heard.append(name), x)
            return x + 1

        return function

    for name in ("one", "other"):
        compiled(reporting(name), x)[0](x)
        jax.effects_barrier()
    assert heard == ["one", "other"]


HIDDEN = """
import jax.numpy as jnp
import numpy as np
from bayes_pmm.inference.compiled import compiled

def shifted(by):
    by = np.full(5000, by)
    return lambda x: x + by

x = jnp.zeros(5000)
print([float(compiled(shifted(by), x)[0](x)[0]) for by in (1.0, 2.0)])
"""


def test_hidden_constants_are_not_mistaken_for_each_other():
    """A setting of JAX, read when it is imported, moves constants from the text to arguments that nobody sees."""
    env = os.environ | {"JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1"}
    command = [sys.executable, "-c", HIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.0, 2.0]"


def test_those_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(room, "KEPT", 2)
    x = jnp.zeros(5000)
    first, _ = compiled(shifted(1), x)
    second, _ = compiled(shifted(2), x)
    compiled(shifted(1), x)
    compiled(shifted(3), x)
    assert compiled(shifted(1), x)[0] is first
    assert compiled(shifted(2), x)[0] is not second


@pytest.mark.parametrize(
    "method",
    [bp.Manifold(chains=2, warmup=20, draws=10), bp.NUTS(chains=2, warmup=20, draws=10)],
    ids=["manifold", "nuts"],
)
def test_fit_of_other_data_compiles_no_sampler(method):
    """Other values, the same shapes: the search, the sampler and the densities are there already."""
    problem = problems.get("anticrossing")

    def fit(seed):
        data = problem.dataset(noise=0.01, seed=seed)
        return bp.fit(bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2)), method, key=seed)

    fit(0)
    kept = dict(room._programs)
    again = fit(1)
    assert kept
    assert room._programs == kept
    # What they draw depends on the data all the same: as if nothing had been kept.
    room._programs.clear()
    fresh = fit(1)
    for name, values in fresh.draws.sites.items():
        np.testing.assert_array_equal(again.draws.sites[name], values)
