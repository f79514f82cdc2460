"""The library from data to bands: kinds, noise, custom bases, errors, and what the status says."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from canned import canned

import bayes_pmm as bp
from bayes_pmm import memory, predict, progress
from bayes_pmm.bands import QUANTILES
from bayes_pmm.diagnostics import LIMITS, diagnose
from bayes_pmm.errors import InputError
from bayes_pmm.inference import Draws, method_by_name
from bayes_pmm.predict import combinations, widened

SMALL = bp.NUTS(chains=2, warmup=150, draws=150)


@pytest.fixture(scope="module")
def two_level():
    """Exact 2×2 problem with known errors on one output and a learned floor on both."""
    problem = bp.problems.get("exceptional_point")
    noisy = problem.dataset(noise=2e-2, seed=0)
    names = noisy.output_names
    data = bp.Dataset.from_columns(
        {noisy.control_names[0]: noisy.controls[:, 0]},
        {n: noisy.values[:, i] for i, n in enumerate(names)},
        {names[0]: np.full(noisy.n_rows, 0.05)},
    )
    posterior = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=2))
    return problem, bp.fit(posterior, SMALL, key=3, controls=problem.outside)


def test_latent_and_predictive(two_level):
    problem, fit = two_level
    bands = fit.predict(problem.outside)
    assert bands.mean["latent"].shape == problem.exact(problem.outside).shape
    variance = {k: v**2 for k, v in bands.sd.items()}
    # Predictive is latent plus the rms of the known errors; without known errors they are the same draws.
    np.testing.assert_array_equal(variance["predictive"][:, 1], variance["latent"][:, 1])
    added = variance["predictive"][:, 0] - variance["latent"][:, 0]
    n = fit.draws.sites["floor"][..., 0].size
    # var(X + e) - var(X) has relative Monte Carlo error of order sqrt(2/n) and a cross term.
    error = 0.05**2 * np.sqrt(2 / n) + 2 * 0.05 * bands.sd["latent"][:, 0] / np.sqrt(n)
    assert np.all(np.abs(added - 0.05**2) < 4 * error)


def test_latent_is_stretched_model_plus_floor(two_level):
    problem, fit = two_level
    model, latent = fit.sample(problem.outside, "model"), fit.sample(problem.outside, "latent")
    posterior = fit.posterior
    stretched = widened(posterior, model, problem.outside, fit.training_outputs, fit.weights)
    assert not np.allclose(stretched, model)
    standardised = (latent - stretched) / fit.draws.sites["floor"][:, :, None, :]
    # Independent standard normals.
    n = standardised.size
    assert abs(standardised.mean()) < 4 / np.sqrt(n)
    assert abs(standardised.var() - 1) < 4 * np.sqrt(2 / n)


def test_bands_are_quantiles_of_the_draws(two_level):
    problem, fit = two_level
    bands, draws = fit.predict(problem.outside), fit.sample(problem.outside, joint=False)
    np.testing.assert_allclose(
        bands.quantiles["latent"], np.quantile(draws.reshape(-1, *draws.shape[2:]), QUANTILES, axis=0)
    )
    sd = draws.reshape(-1, bands.sd["latent"].size).std(axis=0, ddof=1)
    np.testing.assert_allclose(bands.sd["latent"].ravel(), sd, rtol=1e-12)
    # Joint draws have another floor at each control, of the same law.
    joint, S = fit.sample(problem.outside).reshape(-1, sd.size), draws.shape[0] * draws.shape[1]
    np.testing.assert_allclose(
        np.sqrt(np.diag(fit.covariance(problem.outside))), joint.std(axis=0, ddof=1), rtol=1e-12
    )
    np.testing.assert_allclose(joint.std(axis=0), sd, rtol=4 / np.sqrt(S))
    with pytest.raises(bp.InputError, match="not stored"):
        bands.quantile(0.5001)
    assert list(bands.to_dataframe().columns) == list(bands.columns)


def test_bands_at_a_control_do_not_depend_on_the_others(two_level):
    _, fit = two_level
    alone, thrice = fit.predict([0.5]), fit.predict([0.5, 2.0, 0.5])
    for i in (0, 2):
        np.testing.assert_allclose(
            thrice.quantiles["latent"][:, i], alone.quantiles["latent"][:, 0], rtol=1e-12
        )
        np.testing.assert_allclose(thrice.mean["predictive"][i], alone.mean["predictive"][0], rtol=1e-12)


def test_bands_of_one_output(two_level):
    _, fit = two_level
    bands = fit.predict([0.5, 9.0])
    one = bands[bands.output_names[1]]
    assert len(one) == len(bands) == 2
    assert one.output_names == bands.output_names[1:2]
    np.testing.assert_array_equal(one.interval(0.9)[1], bands.interval(0.9)[1][:, 1:2])
    np.testing.assert_array_equal(one.doubtful, bands.doubtful[:, 1:2])
    assert list(one.to_dataframe()["output"].unique()) == list(one.output_names)
    with pytest.raises(bp.InputError, match="no output is called 'E9'; there are"):
        bands["E9"]


def test_settings_of_the_method_may_be_given_to_fit(two_level):
    _, fit = two_level
    quick = {"chains": 2, "warmup": 20, "draws": 8}
    given = bp.fit(fit, "nuts", key=1, **quick)
    named = bp.fit(fit.posterior, bp.NUTS(**quick), key=1)
    for site, values in named.draws.sites.items():
        np.testing.assert_array_equal(given.draws.sites[site], values)
    for wrong, words in (
        ({"tune": 5}, "NUTS has no setting 'tune'; it is called warmup"),
        ({"random_seed": 5}, "it is called key, an argument of fit"),
        ({"step": 5}, "it has .*target_accept"),
        ({"draws": 0}, "draws = 0 is too few"),
    ):
        with pytest.raises(bp.InputError, match=words):
            bp.fit(fit.posterior, "nuts", key=1, **wrong)


def test_blocks_of_controls_do_not_matter(two_level):
    _, fit = two_level
    many = np.linspace(-3, 3, 300)
    whole = fit.sample(many, "model")
    np.testing.assert_allclose(whole[:, :, 290:], fit.sample(many[290:], "model"), rtol=1e-12, atol=1e-12)


def test_same_key_same_fit_other_key_another(two_level):
    problem, fit = two_level
    again = bp.fit(fit.posterior, SMALL, key=3)
    np.testing.assert_array_equal(again.draws.sites["gaps"], fit.draws.sites["gaps"])
    other = bp.fit(fit.posterior, SMALL, key=4)
    assert not np.array_equal(other.draws.sites["gaps"], fit.draws.sites["gaps"])
    np.testing.assert_array_equal(
        fit.predict(problem.outside).mean["latent"], fit.predict(problem.outside).mean["latent"]
    )


@pytest.mark.parametrize("controls", [[[0.0, 1.0]], [], [[np.nan]], [[np.inf]]])
def test_bad_controls(two_level, controls):
    _, fit = two_level
    with pytest.raises(bp.InputError):
        fit.predict(controls)


def test_unknown_names(two_level):
    problem, fit = two_level
    with pytest.raises(bp.InputError, match="latent, predictive or model"):
        fit.sample(problem.outside, "both")
    with pytest.raises(bp.InputError, match="unknown"):
        method_by_name("gibbs")
    with pytest.raises(bp.InputError, match="one output per column"):
        bp.Posterior(fit.posterior.data, bp.PMM(["E0"]))


def test_custom_basis_is_asked_for_when_loading(tmp_path):
    basis = bp.Custom(lambda c: jnp.concatenate([jnp.ones_like(c), jnp.exp(c)], axis=1), name="exponential")
    c = np.linspace(0, 1, 8)
    rng = np.random.default_rng(0)
    data = bp.Dataset.from_columns({"c": c}, {"E0": 1 - np.exp(c) + 0.02 * rng.normal(size=8)})
    fit = bp.fit(bp.Posterior(data, bp.PMM(["E0"], dim=1, basis=basis)), SMALL, key=0)
    # A 1×1 model in the right basis is a straight line in exp(c): it extrapolates.
    band, exact = fit.predict([1.3]), 1 - np.exp(1.3)
    assert abs(band.mean["latent"][0, 0] - exact) < 4 * band.sd["latent"][0, 0]
    fit.save(tmp_path / "fit.nc")
    with pytest.raises(bp.InputError, match="basis"):
        bp.load(tmp_path / "fit.nc")
    again = bp.load(tmp_path / "fit.nc", basis=basis)
    np.testing.assert_array_equal(again.predict([1.3]).mean["latent"], band.mean["latent"])


@pytest.mark.parametrize("field", ["real", "complex"])
def test_two_controls_several_kinds_of_output(field):
    rng = np.random.default_rng(1)
    c = rng.uniform(-1, 1, (14, 2))
    symmetric = lambda: (lambda a: a + a.T)(rng.normal(size=(2, 2)))
    H0, H1, H2, A = (symmetric() for _ in range(4))
    w, V = np.linalg.eigh(H0 + c[:, :1, None] * H1 + c[:, 1:, None] * H2)
    a = np.einsum("nik,ij,njl->nkl", V, A, V)
    columns = {
        "E0": w[:, 0],
        "top": w[:, 1],
        "line": w[:, 1] - w[:, 0],
        "A0": a[:, 0, 0],
        "B": a[:, 0, 1] ** 2,
    }
    noisy = {k: v + 0.02 * v.std() * rng.normal(size=14) for k, v in columns.items()}
    data = bp.Dataset.from_columns({"x": c[:, 0], "y": c[:, 1]}, noisy)
    pmm = bp.PMM(["E0", "E[-1]", "E1-E0", "<0|A|0>", "|<0|A|1>|^2"], dim=2, field=field)
    fit = bp.fit(bp.Posterior(data, pmm), bp.NUTS(chains=2, warmup=300, draws=100), key=0)
    r = (data.values - fit.sample(c, "model").reshape(-1, 14, 5).mean(0)) / np.std(data.values, axis=0)
    # The exact matrices are in the model: the residual is the noise of 2 %.
    assert np.sqrt(np.mean(r**2)) < 0.03
    assert set(fit.draws.sites) >= {"scale", "anchor", "gaps", "shift", "floor"}


def test_float32_is_warned_about():
    data = bp.Dataset.from_columns({"c": [0.0, 1.0, 2.0, 3.0]}, {"E0": [0.0, -1.0, -2.1, -2.9]})
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=1))
    with jax.enable_x64(False), pytest.warns(UserWarning, match="float32"):
        bp.fit(posterior, bp.NUTS(chains=1, warmup=5, draws=4, starts=bp.AnnealedStarts(candidates=4)), key=0)


def test_a_fit_in_double_precision_is_not_used_in_single(tmp_path):
    canned().save(tmp_path / "fit.nc")
    code = f"import bayes_pmm as bp; bp.load({str(tmp_path / 'fit.nc')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr
    assert "jax_enable_x64" in done.stderr.splitlines()[-1]


def test_covariance_of_one_number_is_a_matrix():
    for outputs in (("E0",), ("E0", "E1")):
        fit = canned(controls=("J",), outputs=outputs)
        assert fit.covariance([[0.5]]).shape == (len(outputs), len(outputs))


def test_importing_flips_no_flag():
    import os
    import subprocess
    import sys

    code = (
        "import jax, bayes_pmm; c = jax.config; assert not (c.jax_enable_x64 or c.jax_compilation_cache_dir)"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=env)


class TestStatus:
    """`diagnose` on made-up draws."""

    good = np.random.default_rng(0).normal(size=(4, 1000, 2, 1))

    def status(self, outputs, stats=None, **info):
        fine = {"diverging": np.zeros((4, 1000), bool)}
        return diagnose(Draws({}, fine if stats is None else stats, info), outputs)

    def with_floor(self, floor, error=0.01, info=None):
        """Draws of a posterior of seven rows whose levels are 1 apart, and straight but for noise of 0.01."""
        c = np.arange(7.0)[:, None]
        y = np.hstack([0.1 * c, 1 + 0.1 * c]) + 0.01 * np.random.default_rng(0).normal(size=(7, 2))
        data = bp.Dataset(c, y, np.full((7, 2), error), ("c",), ("a", "b"))
        posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2))
        draws = Draws({"floor": np.broadcast_to(floor, (4, 1000, 2))}, {}, info or {})
        return diagnose(draws, np.broadcast_to(self.good, (4, 1000, 2, 2)), posterior)

    def test_floors_are_judged(self):
        scatter = np.exp(np.random.default_rng(1).normal(size=(4, 1000, 2)))
        assert self.with_floor(0.01 * scatter).status == "ok"
        stuck = 0.01 * scatter
        stuck[0] *= 100
        assert self.with_floor(stuck).status == "failed"
        # What is nothing in any band may be stuck.
        assert self.with_floor(1e-9 * stuck).status == "ok"

    def with_known_errors(self, off):
        """Mean curves that are off by so many known errors, without a learned floor."""
        c = np.linspace(0.0, 1.0, 7)[:, None]
        data = bp.Dataset(c, np.hstack([c, 1 + c]), np.full((7, 2), 0.01), ("c",), ("a", "b"))
        posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=2), noise=bp.Noise(floor=False))
        curves = data.values + 0.01 * np.array([off, 1.0]) * (-1.0) ** np.arange(7)[:, None]
        scatter = 1e-3 * np.random.default_rng(2).normal(size=(4, 1000, 7, 2))
        draws = Draws({"anchor": np.zeros((4, 1000))}, {}, {})
        return diagnose(draws, curves + scatter, posterior)

    def test_a_model_that_misses_the_data_by_their_known_errors(self):
        # Seven residuals of twice the error each have a probability of 2e-4: not enough.
        assert self.with_known_errors(2.0).status == "ok"
        found = self.with_known_errors(5.0)
        assert found.status == "suspect"
        (reason,) = found.reasons
        assert "residuals of a are 5 times their known errors" in reason

    def test_masses_from_weights_without_a_tail_are_called_a_guess(self):
        def reasons(k):
            modes = [{"chains": (0, 1), "mass": 0.9, "pareto_k": k}, {"chains": (2, 3), "mass": 0.1}]
            return "".join(self.status(self.good, modes=modes).reasons)

        assert "masses 0.90, 0.10 by left-out data)" in reasons(0.3)
        assert "a guess (Pareto k 1.2)" in reasons(1.2)

    def test_modes_without_weight_do_not_speak_of_the_floor(self):
        floor = 0.01 * np.exp(0.1 * np.random.default_rng(1).normal(size=(4, 1000, 2)))
        floor[3] *= 100
        modes = [{"chains": (0, 1, 2), "mass": 1.0}, {"chains": (3,), "mass": 0.0}]
        found = self.with_floor(floor, info={"modes": modes})
        assert not any("does not follow" in reason for reason in found.reasons)
        assert any("follow" in reason for reason in self.with_floor(floor).reasons)

    @pytest.mark.parametrize("error", [0.0, 0.01])
    def test_a_model_that_does_not_follow_the_data(self, error):
        scatter = np.exp(0.1 * np.random.default_rng(1).normal(size=(4, 1000, 2)))
        found = self.with_floor(np.array([0.1, 0.01]) * scatter, error)
        assert found.status == "suspect"
        (reason,) = found.reasons
        assert "the learned floor of a is 0.1," in reason
        assert ("10 times its known errors" in reason) == (error > 0)
        # Large errors account for a large floor.
        assert self.with_floor(np.array([0.1, 0.01]) * scatter, 0.05).status == "ok"

    def test_one_chain_is_judged_by_its_halves(self):
        alone = self.status(self.good[:1], {})
        assert alone.status == "suspect"
        (reason,) = alone.reasons
        assert "single chain" in reason
        drifting = self.good[:1].copy()
        drifting[0, 500:] += 5
        assert self.status(drifting, {}).status == "failed"

    def test_nothing_moved(self):
        d = self.status(np.ones((4, 1000, 2, 1)))
        assert d.status == "failed"
        assert d.max_rhat is None

    def test_reasons_name_the_limit_that_was_crossed(self):
        outputs = self.good.copy()
        outputs[0] += 5
        (reason, _) = self.status(outputs).reasons
        assert "above 1.1: the chains disagree; fit again with more draws" in reason
        modes = [{"chains": (1, 2, 3), "mass": 0.9}, {"chains": (0,), "mass": 0.1}]
        reasons = self.status(outputs, modes=modes).reasons
        assert not any("longer" in r for r in reasons)

    def test_ok(self):
        d = self.status(self.good)
        assert d.status == "ok"
        assert d.reasons == ()
        assert d.max_rhat < LIMITS.rhat
        assert d.min_ess > LIMITS.ess

    def test_one_stuck_chain_is_not_ok(self):
        outputs = self.good.copy()
        outputs[0] += 0.6
        assert self.status(outputs).status == "suspect"
        outputs[0] += 5
        assert self.status(outputs).status == "failed"

    def test_a_disagreement_in_one_output_only(self):
        outputs = self.good.copy()
        outputs[0, :, 1] += 5
        assert self.status(outputs).status == "failed"

    def test_small_samples(self):
        assert self.status(self.good[:, :60]).status == "suspect"

    def test_divergences(self):
        diverging = np.zeros((4, 1000), bool)
        diverging[:, :20] = True
        d = self.status(self.good, {"diverging": diverging})
        assert d.status == "suspect"
        assert d.divergences == 80

    def test_not_finite(self):
        outputs = self.good.copy()
        outputs[0, 0, 0, 0] = np.nan
        assert self.status(outputs).status == "failed"

    @pytest.mark.parametrize(
        ("k", "status"), [(0.3, "ok"), (0.8, "suspect"), (1.3, "failed"), (np.nan, "failed")]
    )
    def test_pareto_k(self, k, status):
        assert self.status(self.good, {}, pareto_k=k).status == status

    def test_close_basins(self):
        basins = [{"count": 9, "misfit": 1.0, "log_evidence": e} for e in (10.0, 9.0, -50.0)]
        d = self.status(self.good, basins=basins)
        assert d.status == "suspect"
        assert "1 more basins" in d.reasons[0]
        assert self.status(self.good, basins=[b | {"chains": 2} for b in basins]).status == "ok"

    def test_failed_steps(self):
        assert self.status(self.good, failed_steps_share=0.1).status == "ok"
        assert "70 % of a chain's steps failed" in self.status(self.good, failed_steps_share=0.7).reasons[0]


def test_spread_out_fit_is_quiet_off_the_terminal(two_level, capfd):
    _, fit = two_level
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        bp.fit(
            fit.posterior, bp.NUTS(chains=1, warmup=5, draws=4, starts=bp.AnnealedStarts(candidates=4)), key=0
        )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", [3, bp.NUTS])
def test_no_method_is_refused(two_level, method):
    with pytest.raises(InputError, match=r"is no method; give a name such as 'auto' or settings"):
        bp.fit(two_level[1].posterior, method, key=0)


def test_a_control_outside_the_domain_of_the_basis_is_refused_before_sampling(monkeypatch):
    data = bp.Dataset.from_columns({"L": [1.0, 2.0, 3.0, 4.0]}, {"E": [1.0, 0.6, 0.45, 0.4]})
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=2, basis=bp.InversePowers(1)))
    monkeypatch.setattr(bp.NUTS, "run", lambda *_, **__: pytest.fail("was sampled"))
    with pytest.raises(InputError, match=r"controls: row 1, \[0\.0\]: basis inverse:1 is not finite there"):
        bp.fit(posterior, "nuts", key=0, controls=[[5.0], [0.0]])


def test_data_are_no_posterior_for_a_fit():
    with pytest.raises(InputError, match=r"give Posterior\(data, PMM"):
        bp.fit(bp.problems.get("spins").dataset(), key=0)


def test_a_line_now_and_then_without_a_terminal(monkeypatch, capsys):
    now = iter([0.0, 10.0, 61.0, 70.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.on_terminal() as report:
        for done in (1, 2, 3, 4):
            report("sampling", done, 9)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 2 of 9 after 61 s",
        "sampling: 4 of 9 after 130 s",
    ]


def test_a_bar_in_a_notebook(monkeypatch, capsys):
    class Shell:
        kernel = None

    # What sys.modules has inside a Jupyter kernel, and inside a plain IPython.
    for shell, shown in ((Shell(), True), (object(), False)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        with progress.on_terminal() as report:
            report("starts", 1, 1)
            report("sampling", 3, 9)
        written = capsys.readouterr().err
        assert ("starts:" in written and "sampling:" in written) == shown
        assert bool(written) == shown


def test_more_predictions_than_memory_are_refused_before_the_work(two_level, monkeypatch):
    _, fit = two_level
    monkeypatch.setattr(memory, "_memory", lambda: 2**20)
    many = np.linspace(0.0, 3.0, 1000)[:, None]
    with pytest.raises(
        InputError, match=r"1000 controls with 2 outputs and 300 draws need about .* at fewer controls"
    ):
        fit.predict(many)
    with pytest.raises(InputError, match="need about"):
        bp.fit(fit.posterior, SMALL, key=0, controls=many)
    assert fit.predict(many[:5]).status == fit.status
    # The covariances of a defect grow by the square of the controls.
    outputs_need = 8 * predict.COPIES * len(many) * 2 * 300
    monkeypatch.setattr(memory, "_memory", lambda: 1.5 * outputs_need)
    fit.predict(many)
    with pytest.raises(
        InputError, match=r"covariances between 1000 controls need about .* at fewer controls"
    ):
        bp.with_defect(fit, bp.Defect((0.0, 0.1), (0.5, 0.5))).predict(many)


def test_lines_between_fitted_levels(two_level):
    problem, fit = two_level
    names = fit.posterior.data.output_names
    bands = fit.predict(problem.outside, outputs=["E1-E0", names[0]])
    draws = fit.sample(problem.outside, joint=False)
    line = (draws[..., 1] - draws[..., 0]).reshape(-1, len(problem.outside))
    assert bands.output_names == ("E1-E0", names[0])
    np.testing.assert_allclose(bands.quantile(0.5)[:, 0], np.median(line, axis=0))
    whole = fit.predict(problem.outside)
    np.testing.assert_array_equal(bands.quantile(0.5)[:, 1], whole.quantile(0.5)[:, 0])
    np.testing.assert_array_equal(bands.extrapolated[:, 0], whole.extrapolated.any(axis=1))
    np.testing.assert_array_equal(bands.doubtful[:, 0], whole.doubtful.any(axis=1))
    assert bands.status == whole.status
    assert "E1-E0" in set(bands.to_dataframe()["output"])
    below = fit.predict(problem.outside, outputs="E0-E1")
    np.testing.assert_allclose(below.mean["latent"], -bands.mean["latent"][:, :1])
    for wrong in ("E2", "E2-E0", "<0|A|0>"):
        with pytest.raises(bp.InputError, match="neither fitted nor the sum or difference"):
            fit.predict(problem.outside, outputs=wrong)
    with pytest.raises(bp.InputError, match="name at least one"):
        fit.predict(problem.outside, outputs=[])


@pytest.mark.parametrize(
    ("fitted", "wanted", "expected"),
    [
        (["E1-E0", "E2-E0"], "E2-E1", [-1, 1]),
        (["E1-E0", "E2-E1"], "E2-E0", [1, 1]),
        (["E1-E0", "E2-E0"], "E0-E1", [-1, 0]),
        (["E0", "E1-E0"], "E1", [1, 1]),
        (["E0", "E[-1]"], "E[-1]-E0", [-1, 1]),
        (["E0", "E2"], "E[-2]-E0", [-1, 1]),  # of dimension 4
        (["E0", "<0|A|0>"], "<0|A|0>", [0, 1]),
    ],
)
def test_lines_follow_from_what_is_fitted(fitted, wanted, expected):
    c = np.linspace(0, 1, 6)
    columns = {f"y{k}": (k + 1) * (1 + c) for k in range(len(fitted))}
    posterior = bp.Posterior(bp.Dataset.from_columns({"g": c}, columns), bp.PMM(fitted, dim=4))
    names, found = combinations(posterior, wanted)
    assert names == (wanted,)
    np.testing.assert_array_equal(found, [expected])


def test_lines_by_the_names_of_columns_and_strengths_both_ways():
    g = np.linspace(0.0, 1.0, 5)
    data = bp.Dataset.from_columns({"B": g}, {"f1": 1 + g, "f-2": 2 + g, "S": 1 + g})
    posterior = bp.Posterior(data, bp.PMM(["E1-E0", "E2-E0", "|<0|X|1>|^2"]))
    np.testing.assert_array_equal(combinations(posterior, "f-2 - f1")[1], [[-1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(combinations(posterior, "|<1|X|0>|^2")[1], [[0.0, 0.0, 1.0]])
    for refused in ("f-2 - S", "f1-f3"):
        with pytest.raises(InputError, match=r"does not parse|neither fitted"):
            combinations(posterior, refused)


def test_a_kind_where_statistics_belong_is_said(two_level):
    _, fit = two_level
    with pytest.raises(InputError, match=r"statistics = 'prior': .* of the prior it is kind='prior'"):
        bp.predictive_check(fit, "prior")
