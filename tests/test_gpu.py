"""On an accelerator: the same densities, outputs, starts and laws as on the CPU, and runs that go on bit for bit."""

import os
from dataclasses import replace

import jax
import numpy as np
import pytest
from line import line, normal
from montecarlo import PROBABILITIES, assert_agrees, z_of_draws, z_of_law
from samplers import Found, of_problem, outputs_of
from scipy import stats
from test_checkpoint import KEY, interrupt

import bayes_pmm as bp
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference import NUTS, Laplace, Manifold, TemperedSMC, Variational
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.problems import get

# The backend is asked for in a fixture, since that starts it.
pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("accelerator")]

FEW = AnnealedStarts(12, 6, 6)
POSTERIORS = {
    "levels": lambda: of_problem(get("oscillator"), 1e-2, dim=4),
    "observable": lambda: of_problem(get("oscillator", observable=True), 1e-2, dim=4),
    "complex": lambda: of_problem(get("exceptional_point"), 1e-2, dim=3, field="complex"),
    "nine": lambda: of_problem(get("hubbard"), 1e-2, dim=9),
}


@pytest.fixture(scope="module")
def accelerator():
    if jax.default_backend() == "cpu":
        pytest.skip("JAX finds no accelerator")


def on_cpu(f, *args):
    with jax.default_device(jax.devices("cpu")[0]):
        return jax.tree.map(np.asarray, jax.jit(f)(*args))


@pytest.mark.parametrize("name", POSTERIORS)
def test_density_gradient_and_outputs_are_those_of_the_cpu(name):
    posterior = POSTERIORS[name]()
    z = jax.tree.map(np.asarray, posterior.unconstrain(posterior.prior_sites(KEY)))
    controls = posterior.data.controls

    def all_of_it(z):
        value, gradient = jax.value_and_grad(lambda z: posterior.potential(z, *posterior.training))(z)
        return value, gradient, posterior.outputs(posterior.constrain(z), controls)

    here = jax.tree.map(np.asarray, jax.jit(all_of_it)(z))
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(on_cpu(all_of_it, z)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8 * np.max(np.abs(b)))


def test_starts_are_as_good_as_on_the_cpu():
    posterior = POSTERIORS["levels"]()
    here = FEW.find(posterior, KEY, 4).basins[0]
    with jax.default_device(jax.devices("cpu")[0]):
        there = FEW.find(posterior, KEY, 4).basins[0]
    assert here.log_evidence == pytest.approx(there.log_evidence, abs=0.5)


@pytest.mark.parametrize("kind", [Manifold, NUTS])
def test_many_chains_have_the_closed_form(kind):
    posterior = line()
    at = np.linspace(-1, 3, 5)[:, None]
    mean, C, design = normal(posterior)
    centre = posterior.scaling.shift[0] + design(at) @ mean
    width = np.sqrt(np.einsum("ni,ij,nj->n", design(at), C, design(at)))
    draws = kind(chains=64, warmup=200, draws=60, starts=FEW).run(posterior, KEY)
    outputs = outputs_of(posterior, draws, at)
    law = stats.norm(centre, width)
    assert_agrees(z_of_law(outputs, centre, width, np.array([law.ppf(p) for p in PROBABILITIES])))


def test_manifold_and_nuts_agree():
    posterior = of_problem(get("spins"), 1e-2, known_errors=True, floor=False, dim=2)
    starts, controls = Found(posterior, chains=64), get("spins").outside
    found = [
        outputs_of(
            posterior, kind(chains=64, warmup=300, draws=150, starts=starts).run(posterior, KEY), controls
        )
        for kind in (Manifold, NUTS)
    ]
    for x in found:
        rhat, ess = rhat_and_ess(x)
        assert rhat.max() < 1.1  # of halves of 75 draws
        assert ess.min() > 400
    assert_agrees(z_of_draws(*found))


@pytest.mark.parametrize(
    "method",
    [
        bp.Auto(chains=8, draws=100, warmup=100, longer=1, starts=FEW),
        Variational(steps=500, draws=200, starts=FEW),
        Laplace(draws=200, starts=FEW),
        TemperedSMC(chains=2, draws=200),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_fit_is_stored_and_predicts_the_same_on_the_cpu(method, tmp_path):
    problem = get("oscillator")
    done = bp.fit(of_problem(problem, 2e-2, dim=3), method, key=0)
    bands = done.predict(problem.outside)
    done.save(tmp_path / "fit.nc")
    with jax.default_device(jax.devices("cpu")[0]):
        again = bp.load(tmp_path / "fit.nc").predict(problem.outside)
    assert bands.status == again.status
    for kind, mean in bands.mean.items():
        np.testing.assert_allclose(again.mean[kind], mean, rtol=1e-7)
        np.testing.assert_allclose(again.sd[kind], bands.sd[kind], rtol=1e-5)


@pytest.mark.skipif(
    "--xla_gpu_deterministic_ops=true" not in os.environ.get("XLA_FLAGS", ""),
    reason="XLA's fastest kernels sum in any order: needs XLA_FLAGS=--xla_gpu_deterministic_ops=true",
)
@pytest.mark.parametrize("kind", [Manifold, NUTS])
def test_a_run_goes_on_bit_for_bit(kind, tmp_path):
    posterior = of_problem(get("oscillator"), 2e-2, dim=2)
    method = replace(kind(chains=3, warmup=30, draws=120), starts=FEW)
    whole = method.run(posterior, KEY)
    interrupt(method, posterior, tmp_path, 3)
    again = method.run(posterior, KEY, checkpoint=tmp_path)
    for name, value in whole.sites.items():
        np.testing.assert_array_equal(again.sites[name], value)
