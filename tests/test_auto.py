"""Auto says what it picked and why, and falls back when a sampler reports trouble."""

import dataclasses
import time

import jax
import numpy as np
import pytest

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.diagnostics import diagnose
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference import auto
from bayes_pmm.inference.auto import Auto
from bayes_pmm.inference.checkpoint import ChainFile
from bayes_pmm.inference.manifold import Manifold
from bayes_pmm.inference.nested import NestedSampling
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.inference.start import AnnealedStarts

STARTS = AnnealedStarts(candidates=8, stages=6, late_stages=2)
METHOD = Auto(chains=2, draws=100, warmup=60, starts=STARTS)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def posterior():
    data = problems.get("spins").dataset(noise=1e-3, seed=0, known_errors=True)
    return bp.Posterior(data, bp.PMM(["E0"], dim=2), noise=bp.Noise(floor=False))


@pytest.fixture(scope="module")
def chosen(posterior):
    return bp.fit(posterior, METHOD, key=0)


@pytest.fixture
def canned(chosen, monkeypatch):
    """Both samplers return stored draws, which a test may spoil: what is tested is what Auto makes of them."""
    spoil = {}

    def replay(kind):
        name = kind.__name__.lower()

        def run(self, posterior, key, **options):  # noqa: ARG001
            info = chosen.draws.info | {"sampler": name, "thin": self.thin}
            draws = dataclasses.replace(chosen.draws, info=info)
            return spoil.get("longer" if self.thin > 1 else name, lambda d: d)(draws)

        monkeypatch.setattr(kind, "run", run)

    replay(Manifold)
    replay(NUTS)
    monkeypatch.setattr(AnnealedStarts, "find", lambda self, posterior, key, chains: STORED)  # noqa: ARG005
    return spoil


class STORED:
    sites = ({},)
    find = None  # no sampler searches
    basins = ()


def stuck(by, share=1.0):
    """Draws with one chain elsewhere, for a share of the time."""

    def spoil(draws):
        anchor = draws.sites["anchor"].copy()
        anchor[0, : int(share * anchor.shape[1])] += by
        return dataclasses.replace(draws, sites=draws.sites | {"anchor": anchor})

    return spoil


def gives_up(draws):  # noqa: ARG001
    raise BayesPMMError("no way")


def test_manifold_for_small_noise(posterior, chosen):
    info = chosen.draws.info
    assert info["sampler"] == "manifold"
    assert "noise about 0.001" in info["choice"]
    assert "came to" not in info["choice"]
    assert "auto chose manifold" in str(chosen)
    again = METHOD.run(posterior, jax.random.split(KEY)[0])
    np.testing.assert_array_equal(again.sites["anchor"], chosen.draws.sites["anchor"])


def test_nuts_for_large_noise(posterior):
    data = problems.get("spins").dataset(noise=0.1, seed=0, known_errors=True)
    large = dataclasses.replace(posterior, data=data, scaling=None)
    info = METHOD.run(large, KEY).info
    assert info["sampler"] == "nuts"
    assert info["warmup"] == 60
    assert "noise about 0.1" in info["choice"]
    assert "came to" not in info["choice"]


def test_noise_is_judged_output_by_output():
    """Learned floors: the output with the least noise in its own units decides, and known errors count."""
    problem = problems.get("oscillator")
    data = problem.dataset(noise=1e-2, seed=0)
    learned = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=4))
    found = AnnealedStarts(candidates=12).find(learned, KEY, 1)
    true = 1e-2 * np.nanstd(data.values) / np.asarray(learned.scaling.spread)
    assert true[1] < 0.3 * true[0]
    assert 0.3 * true[1] < auto._noise(learned, found) < 1.5 * true[1]
    larger = dataclasses.replace(
        data, errors=np.full(data.values.shape, 1.0) * np.nanstd(data.values, axis=0)
    )
    with_errors = dataclasses.replace(learned, data=larger)
    assert auto._noise(with_errors, found) == pytest.approx(1.0, rel=0.1)


def test_manifold_where_nuts_does_not_suffice_at_large_noise(posterior, canned, monkeypatch):
    monkeypatch.setattr(auto, "LARGE_NOISE", 1e-4)
    assert METHOD.run(posterior, KEY).info["sampler"] == "nuts"
    canned["nuts"] = stuck(1.0)
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "manifold"
    assert "nuts came to R-hat" in info["choice"]
    canned["manifold"] = canned["longer"] = stuck(1.0)
    info = METHOD.run(posterior, KEY).info
    assert info["choice"].count("came to") == 3
    # Draws that converged are better than any that did not, whatever their R-hat.
    diverged = lambda d: dataclasses.replace(d, stats=d.stats | {"diverging": np.ones((2, 100), bool)})
    canned["nuts"] = diverged
    canned["manifold"] = lambda d: d
    assert METHOD.run(posterior, KEY).info["sampler"] == "manifold"


def test_nuts_goes_on_where_little_is_missing(posterior, canned, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(auto, "LARGE_NOISE", 1e-4)
    # Of 200 draws R-hat below 1.2 and ESS of 20 are wanted; 10 of 20 asks for three times as many.
    found = [(1.1, 10.0), (1.1, 30.0)]
    monkeypatch.setattr(auto, "_convergence", lambda *_: found.pop(0))
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert "nuts came to R-hat 1.100 and ESS 10, went on 3 times as long" in info["choice"]
    # Where that does not suffice either, the manifold sampler has its turn; where much is missing, at once.
    found = [(1.1, 10.0), (1.1, 12.0), (1.0, 200.0)]
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "manifold"
    assert info["choice"].count("nuts came to") == 2
    found = [(1.1, 4.0), (1.0, 200.0)]
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "manifold"
    assert "went on" not in info["choice"]
    found = [(1.1, 10.0), (1.0, 200.0)]
    info = dataclasses.replace(METHOD, longer=1).run(posterior, KEY).info
    assert info["sampler"] == "manifold"


def test_manifold_where_the_pilot_of_nuts_needs_many_steps(posterior, monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "LARGE_NOISE", 1e-4)
    monkeypatch.setattr(auto, "PILOT_STEPS", 1)
    method = dataclasses.replace(METHOD, warmup=120)
    draws = method.run(posterior, KEY)
    assert draws.info["sampler"] == "manifold"
    assert "steps for a draw, more than it is worth" in draws.info["choice"]
    assert "came to" not in draws.info["choice"]

    # Interrupted after the pilot: NUTS gives way again, from its checkpoint and for the same reason.
    def interrupt(self, posterior, key, **_):  # noqa: ARG001
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifold, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            method.run(posterior, KEY, checkpoint=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nuts"]
    saved, save = [], ChainFile.save
    monkeypatch.setattr(
        ChainFile, "save", lambda file, *a: (saved.append(file.path.parent.name), save(file, *a))
    )
    resumed = method.run(posterior, KEY, checkpoint=tmp_path)
    assert set(saved) == {"manifold"}
    assert resumed.info["choice"] == draws.info["choice"]
    for name, values in draws.sites.items():
        np.testing.assert_array_equal(resumed.sites[name], values)


def test_nuts_after_all_where_the_manifold_sampler_does_not_suffice_either(
    posterior, chosen, canned, monkeypatch
):
    monkeypatch.setattr(auto, "LARGE_NOISE", 1e-4)
    after = NUTS.run

    def run(self, posterior, key, **options):
        if self.pilot is not None:
            time.sleep(0.2)
            auto._few_steps({"n_steps": np.full((2, 100), 1000)})
        return after(self, posterior, key, **options)

    monkeypatch.setattr(NUTS, "run", run)
    canned["manifold"] = gives_up
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert info["choice"].startswith("nuts: noise about 0.001")
    assert "NUTS needs 1000 steps" in info["choice"]
    assert "no way" in info["choice"]
    # What the pilot took counts.
    assert info["seconds"] >= chosen.draws.info["seconds"] + 0.2
    # The longest plan: NUTS gives way, both runs of the manifold sampler are in trouble, NUTS after all.
    canned["manifold"] = canned["longer"] = stuck(1.0)
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert info["choice"].count("manifold came to") == 2


@pytest.mark.usefixtures("canned")
def test_nuts_for_many_data(posterior, monkeypatch):
    monkeypatch.setattr(auto, "MANY_DATA", 3)
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert "many for projections" in info["choice"]


def test_no_fallback_to_a_sampler_that_is_not_made_for_the_data(posterior, canned, monkeypatch):
    monkeypatch.setattr(auto, "MANY_DATA", 3)
    canned["nuts"] = stuck(1.0)
    canned["manifold"] = gives_up  # would say so
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert "nuts came to R-hat" in info["choice"]
    assert "no way" not in info["choice"]


def test_goes_on_where_draws_do_not_suffice(posterior, chosen, canned):
    canned["manifold"] = stuck(1.0)
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "manifold"
    assert "manifold came to R-hat" in info["choice"]
    assert "went on 4 times as long" in info["choice"]
    assert info["seconds"] == 2 * chosen.draws.info["seconds"]


def test_goes_on_once_more_where_that_is_cheap_and_should_suffice(posterior, canned, monkeypatch):  # noqa: ARG001
    def choice(found, **settings):
        monkeypatch.setattr(auto, "_convergence", lambda *_: found.pop(0))
        return dataclasses.replace(METHOD, **settings).run(posterior, KEY).info["choice"]

    # Of 200 draws an ESS of 20 is wanted. The second run, of three transitions for each draw, leaves 10 of them.
    assert "ESS 10, went on 9 times as long" in choice([(1.0, 10.0), (1.0, 10.0), (1.0, 200.0)])
    assert "times as long; manifold came to" in choice([(1.0, 10.0), (1.0, 10.0), (1.0, 19.0), (1.0, 200.0)])
    # Not without a second run, where chains stay apart, or where a step is dear.
    assert "went on" not in choice([(1.0, 10.0), (1.0, 10.0)], longer=1)
    assert "9 times" not in choice([(1.0, 10.0), (2.5, 10.0), (1.0, 10.0)])
    monkeypatch.setattr(auto, "CHEAP", 1e-6)
    assert "9 times" not in choice([(1.0, 10.0), (1.0, 10.0), (1.0, 10.0)])


def test_a_longer_run_that_is_killed_goes_on_from_its_own_checkpoint(posterior, monkeypatch, tmp_path):
    def run(**options):
        found = [(1.0, 10.0), (1.0, 200.0)]
        monkeypatch.setattr(auto, "_convergence", lambda *_: found.pop(0))
        return METHOD.run(posterior, KEY, **options)

    whole = run()
    assert "went on 3 times as long" in whole.info["choice"]

    def interrupt(stage, done, total):
        if stage == "sampling, manifold longer" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=interrupt, checkpoint=tmp_path)
    before = {p.name: int(np.load(p)["at"]) for p in (tmp_path / "manifold_longer").glob("chain_?.npz")}
    assert sum(before.values()) > 0
    saved, save = [], ChainFile.save

    def noted(file, state, at, *rest):
        saved.append((file.path.parent.name, file.path.name, at))
        save(file, state, at, *rest)

    monkeypatch.setattr(ChainFile, "save", noted)
    resumed = run(checkpoint=tmp_path)
    assert saved
    assert all(folder == "manifold_longer" and at > before[chain] for folder, chain, at in saved)
    assert resumed.info["choice"] == whole.info["choice"]
    for name, values in whole.sites.items():
        np.testing.assert_array_equal(resumed.sites[name], values)


def test_what_a_third_run_may_cost_follows_from_data_and_steps(posterior, chosen):
    steps = lambda n: dataclasses.replace(
        chosen.draws, stats=chosen.draws.stats | {"n_steps": np.full((2, 100), n)}
    )
    few, many = (auto._affordable(posterior, steps(n)) for n in (4, 40))
    assert few > 9 * many > 0
    # Steps are those of all transitions of a draw.
    thinned = dataclasses.replace(steps(40), info=chosen.draws.info | {"thin": 10})
    assert auto._affordable(posterior, thinned) == few


def test_the_longer_run_is_kept_even_where_it_looks_worse(posterior, canned):
    canned["manifold"], canned["longer"] = stuck(1.0, share=0.6), stuck(1.0)
    canned["nuts"] = stuck(1.0)
    draws = METHOD.run(posterior, KEY)
    assert draws.info["sampler"] == "manifold"
    assert "went on" in draws.info["choice"]
    # All of the chain is elsewhere, as in the longer run.
    shift = draws.sites["anchor"][0] - draws.sites["anchor"][1].mean()
    assert (shift > 0.5).all()


def test_fewer_draws_are_held_to_less():
    draws = Draws({}, {}, {})
    at = lambda rhat, ess: auto._Attempt(draws, rhat, ess)
    assert at(1.009, 410).reached(4000)
    assert not at(1.011, 410).reached(4000)
    assert not at(1.009, 390).reached(4000)
    assert not at(1.011, 1000).reached(8000)
    assert at(1.05, 45).reached(400)
    assert not at(1.15, 45).reached(400)
    assert not at(np.nan, 45).reached(400)
    some = lambda share: Draws({}, {"diverging": np.arange(1000) < 1000 * share}, {"sampler": "nuts"})
    assert auto._Attempt(some(0.01), 1.0, 1000).reached(4000)
    assert not auto._Attempt(some(0.02), 1.0, 1000).reached(4000)
    assert "2.0% divergent" in auto._Attempt(some(0.02), 1.0, 1000).trouble


@pytest.mark.parametrize(
    ("rhat", "ess", "total", "times"),
    [
        (1.005, 390, 4000, 2),  # nearly enough
        (1.005, 250, 4000, 3),
        (1.005, 1, 4000, 600),
        (1.02, 900, 4000, 3),
        (1.04, 30, 400, 2),  # a tenth of the draws is held to a tenth
        (np.inf, 0.0, 4000, 10**6),
    ],
)
def test_a_longer_run_is_as_long_as_it_must_be(rhat, ess, total, times):
    assert auto._Attempt(Draws({}, {}, {}), rhat, ess).lacking(total) == times


def test_going_on_starts_where_the_chains_are(posterior, chosen):
    starts = auto._going_on(STORED, chosen.draws)
    for chain, sites in enumerate(starts.sites):
        for name, value in sites.items():
            np.testing.assert_array_equal(value, chosen.draws.sites[name][chain, -1])
    assert len(starts.ensemble) >= auto.MEMORY
    # The whole of it on a real run: twice the goal is out of reach, so that it goes on.
    method = dataclasses.replace(METHOD, longer=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "GOAL_RHAT", 1.0 + 1e-9)
        draws = method.run(posterior, KEY)
    assert "went on 2 times as long" in draws.info["choice"]
    assert draws.sites["anchor"].shape == (2, 100)


def test_goes_on_where_the_prediction_controls_need_it(posterior, canned, monkeypatch):  # noqa: ARG001
    judge = auto.rhat_and_ess
    near = 2 * posterior.data.n_rows

    def short_far_away(outputs):
        rhat, ess = judge(outputs)
        return rhat, np.where(np.arange(len(ess)) < near, ess, 1.0)

    monkeypatch.setattr(auto, "rhat_and_ess", short_far_away)
    assert "went on" not in METHOD.run(posterior, KEY).info["choice"]
    assert "went on" in dataclasses.replace(METHOD, at=((9.0,),)).run(posterior, KEY).info["choice"]


def test_fit_gives_auto_its_prediction_controls(posterior, canned, monkeypatch):  # noqa: ARG001
    seen = []
    run = Auto.run
    monkeypatch.setattr(Auto, "run", lambda self, *a, **k: (seen.append(self.at), run(self, *a, **k))[1])
    fitted = bp.fit(posterior, METHOD, key=0, controls=[[2.0], [3.0]])
    assert seen == [((2.0,), (3.0,))]
    assert "at" not in fitted.draws.info["method"]
    bp.fit(posterior, METHOD, key=0)
    assert seen[1] == ()
    assert Auto(at=np.array([[1.0], [2.0]])).at == ((1.0,), (2.0,))
    with pytest.raises(InputError, match="controls"):
        bp.fit(posterior, dataclasses.replace(METHOD, at=((np.inf,),)), key=0)


def test_divergent_transitions_of_thinned_draws_are_a_share_of_all_transitions(posterior, chosen):
    diverging = np.zeros((2, 100), bool)
    diverging[0, :3] = True
    drawn = lambda info: dataclasses.replace(
        chosen.draws, stats={"diverging": diverging}, info=chosen.draws.info | info
    )
    assert auto._Attempt(drawn({})).divergent == 0.015
    assert auto._Attempt(drawn({"thin": 3})).divergent == 0.005
    outputs = chosen.training_outputs
    assert any(
        "1.5 % of the transitions diverged" in r for r in diagnose(drawn({}), outputs, posterior).reasons
    )
    assert not any("diverged" in r for r in diagnose(drawn({"thin": 3}), outputs, posterior).reasons)


def test_no_second_run_if_none_is_wanted(posterior, canned):
    canned["manifold"] = canned["nuts"] = stuck(1.0)
    info = dataclasses.replace(METHOD, longer=1).run(posterior, KEY).info
    assert "went on" not in info["choice"]


def test_falls_back_when_going_on_does_not_help(posterior, canned):
    canned["manifold"] = canned["longer"] = stuck(1.0)
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"


def test_no_fallback_to_nuts_where_the_noise_is_small(posterior, canned, monkeypatch):
    canned["manifold"], canned["longer"] = stuck(1.0), stuck(0.5)
    monkeypatch.setattr(auto, "NUTS_NOISE", 1.0)
    done = bp.fit(posterior, METHOD, key=0)
    assert done.draws.info["sampler"] == "manifold"
    assert done.draws.info["choice"].count("came to") == 2
    assert done.status == "failed"


def test_falls_back_when_a_sampler_raises(posterior, canned):
    canned["manifold"] = gives_up
    info = METHOD.run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert "no way" in info["choice"]
    canned["nuts"] = gives_up
    with pytest.raises(BayesPMMError, match="no way"):
        METHOD.run(posterior, KEY)


def test_a_second_run_that_fails_leaves_the_first(posterior, canned):
    canned["manifold"], canned["longer"] = stuck(1.0), gives_up
    done = bp.fit(posterior, METHOD, key=0)
    assert "no way" in done.draws.info["choice"]
    assert done.status != "ok"


def test_when_all_disagree_the_best_is_kept_and_never_ok(posterior, canned):
    canned["manifold"], canned["longer"], canned["nuts"] = stuck(1.0), stuck(1.0), stuck(1.0, share=0.6)
    done = bp.fit(posterior, METHOD, key=0)
    assert done.draws.info["choice"].count("came to") == 3
    assert done.draws.info["sampler"] == "nuts"
    assert done.status == "failed"


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [("PILOT_ACCEPTED", 1.1, "warm-up accepted only"), ("PILOT_FAILED", -0.1, "of the steps failed")],
)
def test_pilot_in_trouble(posterior, monkeypatch, limit, value, text):
    monkeypatch.setattr(auto, limit, value)
    info = dataclasses.replace(METHOD, draws=20).run(posterior, KEY).info
    assert info["sampler"] == "nuts"
    assert text in info["choice"]


def test_bad_settings():
    with pytest.raises(InputError, match="warmup"):
        Auto(warmup=2)
    with pytest.raises(InputError, match="draws"):
        Auto(draws=1)
    for wrong in (
        lambda: Auto(warmup=20.5),
        lambda: Auto(warmup="many"),
        lambda: Manifold(trajectory="long"),
        lambda: Manifold(target_accept="high"),
        lambda: bp.TemperedSMC(ess="a lot"),
        lambda: bp.Variational(learning_rate="slow"),
        lambda: AnnealedStarts(first="far"),
        lambda: NestedSampling(remainder="none"),
    ):
        with pytest.raises(InputError):
            wrong()


def test_progress_says_which_attempt_it_is_of(posterior, canned, monkeypatch):
    stages = []
    canned["manifold"] = stuck(1.0)
    replay = Manifold.run

    def run(self, posterior, key, *, progress, **options):
        progress("sampling", 1, 2)
        return replay(self, posterior, key, **options)

    monkeypatch.setattr(Manifold, "run", run)
    METHOD.run(posterior, KEY, progress=lambda stage, *_: stages.append(stage))
    assert stages == ["starts", "starts", "sampling, manifold", "sampling, manifold longer"]
