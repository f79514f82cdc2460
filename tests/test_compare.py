"""Comparing models: the table, weights, averaged predictions, the command line, and bad input."""

import json
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from canned import FromPrior, canned
from crossing import crossing, walked
from line import Exact, line, predictive
from scipy.special import softmax

from bayes_pmm import cli, validation
from bayes_pmm.compare import Compared, Comparison, _settings, compare
from bayes_pmm.data import Dataset
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.errors import InputError
from bayes_pmm.evidence import log_evidence
from bayes_pmm.fit import Fit, fit
from bayes_pmm.inference import (
    NUTS,
    AnnealedStarts,
    Auto,
    Laplace,
    Manifold,
    TemperedSMC,
    Variational,
    method_of,
    settings_of,
)
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.validation import leave_future_out
from bayes_pmm.widening import Widening


@pytest.fixture(scope="module")
def curved():
    """A 1x1 matrix, which cannot bend, and a 2x2 one, for a curved level."""
    return {
        "flat": fit(crossing(1), Exact(500), key=0),
        "bent": walked(),
    }


@pytest.fixture(scope="module")
def lines():
    """The right prior of a straight line, and one that hardly lets it have a slope."""
    posterior = line()
    flat = replace(posterior, prior=replace(posterior.prior, shift_sd=0.05, scale_median=0.05))
    return {"free": fit(posterior, Exact(1000), key=0), "stiff": fit(flat, Exact(1000), key=1)}


@pytest.fixture(scope="module")
def compared(curved):
    return compare(curved, key=0, evidence=True)


def test_table_has_one_row_per_model(compared, curved):
    table = compared.to_dataframe().set_index("name")
    assert list(table.index) == ["flat", "bent"]
    assert list(table["dim"]) == [1, 2]
    assert list(table["parameters"]) == [2, 5]
    assert set(table["noise"]) == {"known"}
    assert set(table["outputs"]) == {"E0"}
    assert list(table["status"]) == [f.status for f in curved.values()]
    best = table["loo"].idxmax()
    assert best == "bent"
    assert table.loc[best, "loo_behind"] == 0
    assert table.loc["flat", "loo_behind"] == pytest.approx(
        table.loc["bent", "loo"] - table.loc["flat", "loo"]
    )
    for name in ("stacking", "pseudo_bma", "evidence"):
        assert table[f"weight_{name}"].sum() == pytest.approx(1)
        assert table.loc["bent", f"weight_{name}"] > 0.99
    np.testing.assert_allclose(table["weight_evidence"], softmax(table["log_evidence"]))
    text = str(compared)
    assert "scores interpolation" in text
    assert "w:stacking" in text
    assert text.index("flat") < text.index("bent")


def test_one_good_model_is_predicted_alone(compared, curved):
    at = np.linspace(-3, 3, 5)[:, None]
    alone, mixed = curved["bent"].predict(at, key=jax.random.key(5)), compared.predict(at, "stacking")
    assert mixed.status == alone.status
    # The same draws with other noise: the latent kind has none here.
    np.testing.assert_allclose(mixed.mean["latent"], alone.mean["latent"])
    np.testing.assert_allclose(mixed.quantiles["latent"], alone.quantiles["latent"])


def test_average_of_two_has_the_moments_of_the_mixture(lines):
    found = compare(lines, key=0)
    at = np.array([[0.5], [4.0]])
    w = np.array([0.3, 0.7])
    mixed = found.predict(at, w * 10, key=3)
    laws = [predictive(f.posterior, at, np.zeros((2, 1))) for f in lines.values()]
    mean = sum(x * law.mean() for x, law in zip(w, laws, strict=True))
    second = sum(x * (law.var() + law.mean() ** 2) for x, law in zip(w, laws, strict=True))
    sd = np.sqrt(second - mean**2)
    assert np.all(np.abs(mixed.mean["latent"][:, 0] - mean) < 4 * sd / np.sqrt(2000))
    assert np.all(np.abs(mixed.sd["latent"][:, 0] / sd - 1) < 0.1)
    below = sum(x * law.cdf(mixed.quantiles["latent"][1, :, 0]) for x, law in zip(w, laws, strict=True))
    assert np.all(np.abs(below - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000))


def test_joint_draws_are_those_of_the_average(lines):
    table = compare(lines, key=0)
    at, weights = [[0.5], [2.0]], {"free": 0.75, "stiff": 0.25}
    draws = table.sample(at, weights, key=1, draws=20_000, kind="model")
    members = [f.sample(at, "model").reshape(-1, 2) for f in lines.values()]
    means, sds = (np.array([of(x, axis=0) for x in members]) for of in (np.mean, np.std))
    w = np.array([[0.75], [0.25]])
    mean = np.sum(w * means, axis=0)
    sd = np.sqrt(np.sum(w * (sds**2 + (means - mean) ** 2), axis=0))
    assert draws.shape == (20_000, 2, 1)
    assert np.all(np.abs(draws[:, :, 0].mean(0) - mean) < 4 * sd / np.sqrt(20_000))
    # Both places are of the same draw of the same model.
    pairs = {tuple(x) for x in np.concatenate(members).tolist()}
    assert {tuple(x) for x in draws[:, :, 0].tolist()} <= pairs
    again, other = (table.sample(at, weights, key=k, draws=50) for k in (1, 2))
    np.testing.assert_array_equal(again, table.sample(at, weights, key=1, draws=50))
    assert np.any(again != other)
    with pytest.raises(InputError, match="draws = 0"):
        table.sample(at, key=1, draws=0)


def test_averages_have_lines_between_levels():
    one, other = (canned(("g",), ("E0", "E1"), error=0.1, draws=200, seed=seed) for seed in (0, 1))
    models = (Compared("one", one, None), Compared("other", other, None))
    found = Comparison(models, {"equal": np.array([0.5, 0.5])})
    at = [0.5, 3.0]
    every, line = found.predict(at, "equal"), found.predict(at, "equal", outputs=["E1-E0", "E1"])
    assert line.output_names == ("E1-E0", "E1")
    np.testing.assert_allclose(line.mean["latent"][:, 0], np.diff(every.mean["latent"], axis=1)[:, 0])
    np.testing.assert_allclose(line.quantiles["latent"][..., 1], every.quantiles["latent"][..., 1])
    # A line is narrower or wider than its parts, as the draws are joint ones.
    parts = [np.diff(m.fit.sample([[0.5]], joint=False)[:, :, 0], axis=-1) for m in models]
    low, high = line.interval(0.9)
    np.testing.assert_allclose([low[0, 0], high[0, 0]], np.quantile(parts, [0.05, 0.95]), rtol=0.02)
    np.testing.assert_array_equal(line.extrapolated[:, 0], [False, True])
    np.testing.assert_array_equal(line.doubtful[:, 0], every.doubtful.any(axis=1))
    with pytest.raises(InputError, match="neither fitted nor"):
        found.predict(at, "equal", outputs="E2-E0")


def test_status_is_the_worst_of_those_that_count(lines):
    free, stiff = lines.values()
    broken = replace(
        stiff, draws=replace(stiff.draws, sites={k: v[:, :60] for k, v in stiff.draws.sites.items()})
    )
    models = tuple(Compared(name, f, None) for name, f in {"free": free, "short": broken}.items())
    found = Comparison(models, {"stacking": np.array([0.995, 0.005]), "pseudo_bma": np.array([0.9, 0.1])})
    at = np.array([[0.5]])
    assert found.predict(at).status == "ok"
    mixed = found.predict(at, "pseudo_bma")
    assert mixed.status == broken.predict(at).status != "ok"
    assert all(r.startswith("short: ") for r in mixed.reasons)


def test_notes_say_that_loo_of_an_approximation_is_not_of_its_bands(lines):
    exact = compare(lines, key=0)
    assert not any("approximation" in note for note in exact.notes)
    weighed = replace(lines["free"].draws, stats={"log_weight": np.zeros((4, lines["free"].draws.shape[1]))})
    notes = compare(lines | {"free": replace(lines["free"], draws=weighed)}, key=0).notes
    assert [note.split(":")[0] for note in notes if "loo weighs the approximation" in note] == ["free"]


def test_refits_have_the_settings_of_the_fit(lines, monkeypatch):
    methods = []

    def note(posterior, method, key, **options):
        methods.append(method)
        return leave_future_out(posterior, Exact(500), key=key, **options)

    monkeypatch.setattr(validation, "leave_future_out", note)
    methods_of = {
        "free": Variational(guide="low-rank", starts=AnnealedStarts(candidates=5)),
        # What auto chose for all the data need not be what it would choose for fewer, nor enough of it.
        "stiff": Auto(chains=2, draws=300, longer=2),
    }
    fits = {
        name: replace(
            f, draws=replace(f.draws, info=f.draws.info | {"method": settings_of(methods_of[name])})
        )
        for name, f in lines.items()
    }
    compare(fits, key=0, leave_future_out=True)
    assert methods == list(methods_of.values())
    # These have draws of no method of the package.
    with pytest.raises(InputError, match="by a method of one's own"):
        compare(lines, key=0, leave_future_out=True)


@pytest.mark.parametrize(
    "method",
    [
        NUTS(chains=3, target_accept=0.9, max_tree_depth=7, pilot=print),
        Manifold(thin=3, trajectory=2.0, target_accept=0.7, starts=AnnealedStarts(candidates=7)),
        Auto(warmup=60, longer=1, at=((1.0,),)),
        Variational(guide="flow", exact=NUTS()),
        Laplace(max_iterations=9),
        TemperedSMC(moves=3, ess=0.5),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_method_is_made_again_from_what_its_draws_say(method):
    stored = json.loads(json.dumps(settings_of(method)))
    own = {
        k: f.default for k, f in type(method).__dataclass_fields__.items() if k in ("pilot", "exact", "at")
    }
    assert method_of({"method": stored}) == replace(method, **own)


def test_older_fits_know_the_name_and_lengths_of_their_method():
    info = {"sampler": "manifold", "chains": 2, "warmup": 60, "draws": 70}
    assert method_of(info) == Manifold(chains=2, warmup=60, draws=70)
    assert method_of(info | {"choice": "went on"}) == Auto(chains=2, draws=70, warmup=60)
    assert method_of(info | {"sampler": "variational", "guide": "flow"}) == Variational(
        guide="flow", chains=2, draws=70
    )


def test_scores_that_are_not_to_be_trusted_are_said_of_the_average(lines):
    found = compare(lines, key=0, evidence=True)
    at = np.array([[0.5]])
    assert found.predict(at, "evidence").status == found.predict(at, "stacking").status == "ok"
    free, stiff = found.models
    poor = replace(stiff, evidence=replace(stiff.evidence, reasons=("few terms decide",)))
    mixed = replace(found, models=(free, poor)).predict(at, "evidence")
    assert mixed.status == "suspect"
    assert mixed.reasons == (f"weights: the evidence of stiff is {poor.evidence.status}",)
    high = replace(stiff, loo=replace(stiff.loo, pareto_k=np.full_like(stiff.loo.pareto_k, 2.0)))
    mixed = replace(found, models=(free, high)).predict(at, "stacking")
    assert "weights: loo of 9 data of stiff is not to be trusted" in mixed.reasons
    assert replace(found, models=(free, high)).predict(at, "equal").status == "ok"


def test_one_model_without_a_score_does_not_lose_those_of_the_others(lines, monkeypatch):
    def fails_for_stiff(fit, key, **options):
        if fit is lines["stiff"]:
            raise InputError("30 draws are too few")
        return log_evidence(fit, key=key, **options)

    monkeypatch.setattr(sys.modules["bayes_pmm.compare"], "log_evidence", fails_for_stiff)
    found = compare(lines, key=0, evidence=True)
    table = found.to_dataframe().set_index("name")
    assert np.isfinite(table.loc["free", "log_evidence"])
    assert np.isnan(table.loc["stiff", "log_evidence"])
    assert "stiff: no evidence: 30 draws are too few" in str(found)
    assert "evidence" not in found.weights
    # Mistakes are no missing scores.
    for wrong in ({"method": "nutz"}, {"share": 3}, {"check": "yes"}, {"refit": "nutz"}):
        with pytest.raises(InputError, match=r"nutz|share|check"):
            compare(lines, key=0, leave_future_out=True, **wrong)


def test_weights_are_not_chosen_where_a_leave_future_out_is_missing(lines):
    found = compare(lines, key=0, leave_future_out=True, method=Exact(100))
    free, stiff = found.models
    partly = replace(
        found, models=(free, replace(stiff, future=None)), weights={"stacking": np.array([0.5, 0.5])}
    )
    with pytest.raises(InputError, match="leave-future-out of a model is missing"):
        partly.predict(np.array([[0.5]]))
    assert partly.predict(np.array([[0.5]]), "equal").status == "ok"


def test_leave_future_out_weights(lines):
    found = compare(lines, key=0, leave_future_out=True, method=Exact(500))
    table = found.to_dataframe().set_index("name")
    assert table.loc["free", "future"] > table.loc["stiff", "future"]
    assert table.loc["free", "weight_future"] > 0.5
    assert found.weights["future"].sum() == pytest.approx(1)
    future = [m.future.pointwise for m in found.models]
    # Both models were asked for the same data.
    np.testing.assert_array_equal(*(np.isfinite(x) for x in future))
    assert found.predict(np.array([[3.0]])).mean["latent"][0, 0] == pytest.approx(
        found.predict(np.array([[3.0]]), "future").mean["latent"][0, 0]
    )


def test_names_are_made_and_never_lost(lines):
    found = compare(list(lines.values()), key=0)
    assert [m.name for m in found.models] == ["dim 1 real affine", "dim 1 real affine #2"]


def test_bad_input(lines, curved, compared):
    for one in ({"one": lines["free"]}, lines["free"]):
        with pytest.raises(InputError, match="1 fit: a comparison needs two"):
            compare(one, key=0)
    with pytest.raises(InputError, match="free and bent have other controls"):
        compare({"free": lines["free"], "bent": curved["bent"]}, key=0)
    longer = fit(line(outlier=1.0), Exact(200), key=0)
    with pytest.raises(InputError, match="other values"):
        compare({"a": lines["free"], "b": longer}, key=0)
    with pytest.raises(InputError, match="no weights 'future'"):
        compared.predict(np.array([[0.0]]), "future")
    for wrong in ([1.0], [-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(InputError, match="give 2 numbers"):
            compared.predict(np.array([[0.0]]), wrong)


def test_weights_have_the_names_of_the_command_line_too(compared):
    one, other = (compared.predict([[0.5]], w).mean["latent"] for w in ("pseudo-bma", "pseudo_bma"))
    np.testing.assert_array_equal(one, other)


def test_equal_weights_need_no_scores(compared):
    at = np.array([[0.0], [3.0]])
    equal, same = compared.predict(at, "equal", key=1), compared.predict(at, [2.0, 2.0], key=1)
    np.testing.assert_array_equal(equal.mean["latent"], same.mean["latent"])
    other = compared.predict(at, [0.0, 1.0], key=1)
    assert not np.allclose(equal.mean["latent"], other.mean["latent"])


@pytest.fixture(scope="module")
def runs(lines, curved, tmp_path_factory):
    """Folders with saved fits: two lines on the same data, and one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    for name, done in {**lines, "other": curved["flat"]}.items():
        (folder / name).mkdir()
        done.save(folder / name / "posterior.nc")
        (folder / name / "options.json").write_text(json.dumps({"options": {}, "rest": [[3.0]]}))
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


def test_command_line(runs, capsys):
    a, b = runs / "free", runs / "stiff"
    options = [
        "--evidence",
        "--csv",
        runs / "t.csv",
        "--at",
        "rest",
        "--out",
        runs / "bands.csv",
        "--weights",
        "evidence",
    ]
    code, out, _ = run(capsys, "compare", a, b, *options)
    assert code == 0
    assert "log_evidence" in out
    assert "scores interpolation" in out
    rows = (runs / "t.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("name,dim,field,basis,outputs,noise,parameters,status,loo,loo_se")
    assert (runs / "bands.csv").read_text().splitlines()[1].startswith("3.0,E0,latent,")
    assert run(capsys, "compare", a, b, "--strict")[0] == 0
    assert run(capsys, "compare", a, b, "--strict", "--at", "g=9", "--out", runs / "far.csv")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["free"], "a comparison needs two"),
        (["free", "free"], "given twice"),
        (["free", "missing"], "no such file"),
        (["free", "other"], "same data only"),
        (["free", "stiff", "--at", "g=0:1:3"], "belong together"),
        (["free", "stiff", "--weights", "evidence"], "--weights is for averaged"),
        (
            ["free", "stiff", "--at", "g=1", "--out", "x.csv", "--weights", "future"],
            "needs --leave-future-out",
        ),
        (["free", "stiff", "--csv", "free"], "exists already"),
        ([], "Missing argument"),
    ],
)
def test_bad_command_lines_are_one_clear_line(runs, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(runs)
    before = sorted(p.name for p in runs.iterdir())
    code, _, err = run(capsys, "compare", *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(p.name for p in runs.iterdir()) == before


def test_settings_are_those_that_are_not_the_default(lines):
    stiff = lines["stiff"].posterior
    assert "scale_median=0.05" in _settings(stiff)
    plain = replace(stiff, prior=Prior(), noise=Noise(floor=False), widening=Widening())
    assert _settings(plain) == ""
    assert _settings(replace(plain, widening=Widening(0.0))) == "rate=0.0"


def test_a_point_is_outside_if_it_is_for_any_model():
    """By its period a Fourier basis knows 9.5 to be 2.5; for the other it is far outside. Their order is nothing."""
    models = {}
    c = np.linspace(1.0, 6.0, 8)
    data = Dataset.from_columns({"L": c}, {"E0": np.sin(c)}, {"E0": 0.1})
    for basis in ("affine", "fourier:1:7.0"):
        posterior = Posterior(data, PMM(["E0"], dim=2, basis=basis))
        draws = FromPrior(60).run(posterior, jax.random.key(0))
        models[basis] = Fit(posterior, draws, Diagnosis("ok", (), 1.0, 500.0, 0), jax.random.key(1))
    at = [[9.5]]
    assert models["affine"].predict(at).extrapolated.all()
    assert not models["fourier:1:7.0"].predict(at).extrapolated.any()
    for order in (list(models), list(models)[::-1]):
        bands = compare({name: models[name] for name in order}, key=0).predict(at, "equal")
        assert bands.extrapolated.all()
        np.testing.assert_array_equal(bands.doubts["far"], models["affine"].predict(at).doubts["far"])
        assert bands.doubts["uncurved"].all() == models["affine"].predict(at).doubts["uncurved"].all()
        assert bands.doubtful.any()


def test_each_model_reads_the_columns_in_its_own_way():
    """A line is one column of a model and the difference of two of another; the highest level depends on dim."""
    c = np.linspace(0, 1, 8)
    data = Dataset.from_columns({"g": c}, {"a": 1 + c**2, "b": 2.2 + 3 * c}, 0.1)
    models = {
        str(pmm.outputs[1]): fit(Posterior(data, pmm), FromPrior(30), key=0)
        for pmm in (PMM(["E0", "E1"], dim=2), PMM(["E0", "E1-E0"], dim=2), PMM(["E0", "E[-1]"], dim=3))
    }
    found, at = compare(models, key=0), [[0.5], [2.0]]
    for output, names in (("E1-E0", ["E1", "E1-E0"]), ("E[-1]", ["E1", "E[-1]"])):
        means = {name: models[name].predict(at, outputs=output).mean["latent"] for name in names}
        for share in (0.0, 0.25):
            weights = dict(zip(names, (share, 1 - share), strict=True))
            mixed = found.predict(at, weights, outputs=iter([output]))
            np.testing.assert_allclose(mixed.mean["latent"], sum(weights[n] * means[n] for n in names))
            assert mixed.output_names == (output,)
            np.testing.assert_array_equal(mixed.extrapolated, [[False], [True]])


def test_weights_by_name(lines):
    found = compare(lines, key=0)
    at = np.array([[1.0], [3.0]])
    by_name = found.predict(at, {"stiff": 0.25, "free": 0.75}, key=1)
    listed = found.predict(at, [{"stiff": 0.25, "free": 0.75}[m.name] for m in found.models], key=1)
    np.testing.assert_array_equal(by_name.quantiles["latent"], listed.quantiles["latent"])
    with pytest.raises(InputError, match="there is no model 'fre'"):
        found.predict(at, {"fre": 1.0})
