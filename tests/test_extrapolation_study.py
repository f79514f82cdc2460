"""The extrapolation study: every peer forecasts, lines are scored and resumed, tables and pictures come from them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, Matern

from bayes_pmm import problems
from bayes_pmm.doubts import LIMITS
from bayes_pmm.errors import InputError
from bayes_pmm.widening import Widening
from studies.extrapolation import (
    ablations,
    gap,
    gaussian_processes,
    lines,
    matrix_models,
    misfit,
    networks,
    nonlinear,
    ours,
    picture,
    polynomial,
    rejudge,
    rescore,
    rivals,
    run,
    table,
)
from studies.extrapolation.forecast import Forecast, NotApplicableError
from studies.extrapolation.peers import GENERAL, INFORMED, MATRIX_MODELS, PEERS

TASK = problems.task("spins/1/1e-2/8")


@pytest.fixture
def short(monkeypatch):
    """Samplers with few draws, compiled for this test alone, and small matrices."""
    for module in (gaussian_processes, networks):
        monkeypatch.setattr(module, "WARMUP", 20)
        monkeypatch.setattr(module, "SAMPLES", 20)
        module._sampler.cache_clear()
    monkeypatch.setattr(matrix_models, "DIM", 2)
    yield
    for module in (gaussian_processes, networks):
        module._sampler.cache_clear()


SLOW_TO_COMPILE = ("bnn",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW_TO_COMPILE else n for n in PEERS]
)
def test_peer_gives_finite_draws(name, short):  # noqa: ARG001
    forecast = PEERS[name](TASK, np.random.default_rng(0))
    assert forecast.draws.shape[1:] == TASK.truth.shape
    assert len(forecast.draws) >= 2
    assert np.isfinite(forecast.draws).all()


@pytest.mark.parametrize("name", ["gp_rbf", "gp_matern", "polynomial"])
def test_general_methods_are_right_inside_the_data(name):
    """A smooth curve at interior points, where every regression method has to work."""
    c = TASK.data.controls
    inside = 0.5 * (c[1:] + c[:-1])
    task = SimpleNamespace(data=TASK.data, basis=TASK.basis, controls=inside)
    draws = PEERS[name](task, np.random.default_rng(0)).draws
    error = np.abs(draws.mean(axis=0) - TASK.problem.exact(inside)) / TASK.spread
    assert error.max() < 0.1


def test_polynomial_posterior_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    A, y, width = rng.standard_normal((6, 3)), rng.standard_normal(6), 2.0
    mean, root, rate, evidence = polynomial.posterior(A, y, width)
    covariance = np.linalg.inv(A.T @ A + np.eye(3) / width)
    np.testing.assert_allclose(mean, covariance @ A.T @ y, rtol=1e-10)
    np.testing.assert_allclose(root @ root.T, covariance, rtol=1e-10, atol=1e-12)
    marginal = np.eye(6) + width * A @ A.T
    expected = polynomial.RATE + 0.5 * y @ np.linalg.solve(marginal, y)
    assert rate == pytest.approx(expected, rel=1e-10)
    # Up to what all models share, the log evidence is that of a Student t with this matrix.
    other = polynomial.posterior(A[:, :1], y, width)
    shape = polynomial.SHAPE + 3

    def student(S):
        q = polynomial.RATE + 0.5 * y @ np.linalg.solve(S, y)
        return -0.5 * np.linalg.slogdet(S)[1] - shape * np.log(q)

    difference = student(marginal) - student(np.eye(6) + width * A[:, :1] @ A[:, :1].T)
    assert evidence - other[3] == pytest.approx(difference, rel=1e-8)


def test_gp_kernels_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b, lengths = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), np.array([0.7, 2.0])
    trend = gaussian_processes.TREND**2 * (1 + a @ b.T)
    for smooth, kernel in ((True, RBF(lengths)), (False, Matern(lengths, nu=2.5))):
        found = np.asarray(gaussian_processes._kernel(a, b, 1.5, lengths, smooth)) - trend
        np.testing.assert_allclose(found, 1.5**2 * kernel(a, b), atol=1e-11)


@pytest.mark.parametrize("smooth", [True, False])
def test_gp_covariance_leaves_missing_data_out(smooth):
    x, y = np.linspace(-1, 1, 5)[:, None], np.array([0.1, 0.4, 0.0, -0.2, 0.3])
    seen = np.array([True, True, False, True, True])
    density = lambda x, y, seen: _normal(
        y, np.asarray(gaussian_processes._covariance(x, 0 * y, seen, 1.0, np.ones(1), 0.1, smooth))
    )
    whole = density(x, np.where(seen, y, 0.0), seen)
    part = density(x[seen], y[seen], seen[seen])
    assert whole - part == pytest.approx(-0.5 * np.log(2 * np.pi))


def _normal(y, S):
    return -0.5 * (y @ np.linalg.solve(S, y) + np.linalg.slogdet(2 * np.pi * S)[1])


def test_continuation_is_exact_where_the_snapshots_span_the_space():
    forecast = INFORMED["continuation"](TASK, np.random.default_rng(0))
    np.testing.assert_allclose(forecast.draws[0], TASK.truth, atol=1e-8)


def test_continuation_needs_the_matrices():
    task = nonlinear.task("hardening/0/1e-2")
    with pytest.raises(NotApplicableError):
        INFORMED["continuation"](task, np.random.default_rng(0))


def test_conformal_band_is_the_held_out_residual(short):  # noqa: ARG001
    forecast = MATRIX_MODELS["pmm_conformal"](TASK, np.random.default_rng(0))
    half = len(forecast.draws) // 2
    centre = 0.5 * (forecast.draws[:half] + forecast.draws[half:])
    np.testing.assert_allclose(centre, np.broadcast_to(centre[0], centre.shape), atol=1e-12)
    # Two of eight rows are held out: as many widths, the larger one for every level above 1/3.
    assert forecast.about["held_out"] == 2
    width = forecast.draws[:half, 0, 0] - centre[0, 0, 0]
    assert len(np.unique(width.round(10))) == 2
    assert np.mean(np.isclose(width, width.max())) == pytest.approx(2 / 3, abs=0.01)


def test_nonlinear_problems_solve_their_equations():
    h0, v = nonlinear._matrices(3)
    energy = nonlinear.hardening(3).exact(np.array([[0.7]]))[0, 0]
    start = np.linalg.eigvalsh(h0)[0]
    H = h0 + 0.7 * (1 + 0.4 * (energy - start)) * v
    assert np.linalg.eigvalsh(H)[0] == pytest.approx(energy, abs=1e-10)
    # First order in the coupling: μ = 1/2 + q ∫|ψ|⁴ = 1/2 + q/√(2π).
    mu = nonlinear.chemical_potential(np.array([0.0, 1e-5]), 0.0, 0.0)
    assert mu[0] == pytest.approx(0.5, abs=1e-10)
    assert (mu[1] - mu[0]) / 1e-5 == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-4)


def test_hardening_is_convex_which_no_affine_ground_state_is():
    values = nonlinear.hardening(0).exact(np.linspace(0, 2, 21)[:, None])[:, 0]
    assert np.all(np.diff(values, 2) > 0)


def _task(truth=(0.0, 0.0), family="toy", hamiltonian=0, exact_dim=None):
    truth = np.asarray(truth, float)[:, None]
    return SimpleNamespace(
        name=f"{family}/{hamiltonian}/1e-2/3", family=family, hamiltonian=hamiltonian, noise=0.01, exact_dim=exact_dim,
        truth=truth, spread=np.array([2.0]), distance=np.array([0.2, 0.6]),
        data=SimpleNamespace(values=np.zeros((3, 1))),
    )  # fmt: skip


def test_scores_of_a_known_forecast():
    """Standard normal band, in a unit of two: values from tables."""
    normal = np.random.default_rng(0).standard_normal(200_000)
    draws = np.repeat(normal[:, None, None], 2, axis=1)
    row = lines.scored(_task(truth=(0.0, 1.644854)), Forecast(draws))
    assert row["pit"][1][0] == pytest.approx(0.95, abs=2e-3)
    assert row["crps"][0][0] == pytest.approx(0.233695 / 2, abs=1e-3)
    assert row["q95"][0][0] == pytest.approx(1.644854 / 2, abs=5e-3)
    assert row["error"][1][0] == pytest.approx(1.644854 / 2, abs=5e-3)


def test_crps_of_a_point_forecast_is_its_error():
    row = lines.scored(_task(truth=(0.0, 3.0)), Forecast(np.full((2, 2, 1), 1.0)))
    assert row["crps"] == row["error"] == [[0.5], [1.0]]
    assert not table.hits(row).any()


def test_weights_count():
    draws = np.array([0.0, 1.0, 5.0])[:, None, None].repeat(2, axis=1)
    row = lines.scored(_task(truth=(0.5, 0.5)), Forecast(draws, weights=np.array([0.5, 0.5, 0.0])))
    assert row["mean"][0][0] == pytest.approx(0.25)
    assert row["pit"][0][0] == pytest.approx(0.5)


def test_draws_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="cannot be scored"):
        lines.scored(_task(), Forecast(np.full((2, 2, 1), np.nan)))


def _row(method, family, hamiltonian, pit, crps, **more):
    shape = np.ones((2, 1))
    return {
        "task": f"{family}/{hamiltonian}/1e-2/3", "family": family, "hamiltonian": hamiltonian, "noise": 0.01,
        "exact_dim": None, "method": method, "ours": method == "pmm", "cpu_seconds": 1.0, "status": "done",
        "about": {"status": "ok"}, "distance": [0.2, 0.6], "pit": (pit * shape).tolist(),
        "crps": (crps * shape).tolist(), "error": shape.tolist(), "truth": shape.tolist(), "mean": shape.tolist(),
        "sd": shape.tolist(), "q05": (0 * shape).tolist(), "q95": (2 * shape).tolist(),
    } | more  # fmt: skip


def test_tables_count_and_compare():
    rows = [
        _row("pmm", "a", 0, 0.5, 0.1, flags=[[0], [0]]),
        _row("pmm", "a", 1, 0.99, 0.4, flags=[[1], [0]], doubts={"far": [[1], [0]]}),
        _row("gp_rbf", "a", 0, 0.5, 0.2),
        _row("gp_rbf", "a", 1, 0.5, 0.1),
        _row("polynomial", "a", 0, 0.5, 0.4),
        {"task": "a/1/1e-2/3", "family": "a", "hamiltonian": 1, "noise": 0.01, "exact_dim": None, "ours": False,
         "method": "polynomial", "status": "failed", "message": "ValueError: no", "cpu_seconds": 0.0},
    ]  # fmt: skip
    results = table.Results({(r["task"], r["method"]): r for r in rows}, "pmm")
    ours_rows = results.rows("pmm", "main", 0.01)
    assert table.coverage(ours_rows)[0] == 0.5
    # Two Hamiltonians, one all inside and one all outside: every share is possible.
    assert table.coverage(ours_rows)[1:] == (0.0, 1.0)
    ratio, low, high = table.geometric(results.pairs(ours_rows, "gp_rbf"))
    assert ratio == pytest.approx(np.sqrt(0.5 * 4), rel=1e-2)
    assert low == pytest.approx(0.5, rel=1e-2)
    assert high == pytest.approx(4.0, rel=1e-2)
    assert results.best("a/0/1e-2/3")["method"] == "gp_rbf"
    text = table.report(results)
    assert "1 of 2" in text
    assert "| a/1/1e-2/3 | 0.4 | 0.00 | ok | gp_rbf 0.1 |" in text
    assert "- a/1/1e-2/3 polynomial: ValueError: no" in text
    assert "| 0.01 | any | 1 of 4 | 100.0% | 50% |" in text
    assert "| 0.01 | far | 1 of 4 | 100.0% | 50% |" in text
    assert "| 0.01 | none | 3 of 4 | 33.3% | 50% |" in text


def test_groups_keep_apart():
    assert table.group_of({"family": "hardening", "exact_dim": None}) == "misspecified"
    assert table.group_of({"family": "spins", "exact_dim": 2}) == "exact"
    assert table.group_of({"family": "ising", "exact_dim": None}) == "main"


def test_a_cell_records_failure_and_goes_on(monkeypatch):
    def broken(task, rng):  # noqa: ARG001
        raise ValueError("no luck")

    monkeypatch.setitem(PEERS, "polynomial", broken)
    row = run.cell(TASK, "polynomial", None)
    assert (row["status"], row["message"]) == ("failed", "ValueError: no luck")
    assert run.cell(nonlinear.task("softening/0/1e-2"), "continuation", None)["status"] == "not applicable"


def test_lines_survive_a_kill(tmp_path):
    path = tmp_path / "results.jsonl"
    lines.write(path, {"task": "a", "method": "m", "x": 1})
    with path.open("a") as file:
        file.write('{"task": "b", "meth')
    assert list(lines.read(path)) == [("a", "m")]
    lines.write(path, {"task": "a", "method": "m", "x": 2})
    assert lines.read(path) == {("a", "m"): {"task": "a", "method": "m", "x": 2}}
    assert len(path.read_text().splitlines()) == 2
    path.write_text("{damaged\n" + json.dumps({"task": "b", "method": "m"}) + "\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        lines.read(path)


def test_selection_of_tasks():
    parse = lambda *given: run.parse(["--out", "unused", *given])
    every = run.selected(parse())
    assert len(every) == len(set(every)) == len(problems.families()) * 15 + 15
    shares = [run.selected(parse("--share", f"{i}/3")) for i in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(every)
    assert run.selected(parse("--tasks", "spins/1/1e-2/8", "hardening/0/*")) == [
        "spins/1/1e-2/8", "hardening/0/1e-2/10",
    ]  # fmt: skip
    for wrong in (("--methods", "gpp"), ("--share", "3/3"), ("--label", "bnn")):
        with pytest.raises(SystemExit):
            parse(*wrong)


def test_other_options_need_another_label(tmp_path):
    path = tmp_path / "results.jsonl"
    lines.write(path, {"task": TASK.name, "method": "pmm", "status": "done", "options": {"dim": 3}})
    with pytest.raises(SystemExit, match="another --label"):
        run.main(["--out", str(path), "--tasks", TASK.name, "--methods", "pmm"])


@pytest.mark.slow
def test_run_resume_table_and_pictures(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    arguments = [
        "--out", str(path), "--tasks", "spins/1/1e-2/8", "--chains", "2", "--warmup", "50", "--draws", "50",
        "--methods", "polynomial", "pmm", "--keep", str(tmp_path / "draws"),
    ]  # fmt: skip
    run.main(arguments)
    first = path.read_bytes()
    assert {r["status"] for r in lines.read(path).values()} == {"done"}
    run.main(arguments)
    assert path.read_bytes() == first
    assert "0 cells to run, 2 there" in capsys.readouterr().out
    table.main([str(path)])
    assert "| spins | 1 |" in capsys.readouterr().out
    # What is rejudged from a line is what the package said of the fit.
    rejudge.main([str(path), "--out", str(tmp_path / "again.jsonl")])
    for old, new in zip(
        lines.read(path).values(), lines.read(tmp_path / "again.jsonl").values(), strict=True
    ):
        assert old.get("doubts") == new.get("doubts")
    # And so is what is scored from its draws, wider with a larger rate.
    (ours_line,) = (row for row in lines.read(path).values() if row["ours"])
    for rate in (Widening().rate, 10.0):
        again = tmp_path / f"{rate}.jsonl"
        rescore.main([str(path), str(tmp_path / "draws"), "--widening", str(rate), "--out", str(again)])
        (new,) = lines.read(again).values()
        same = [k for k in ours_line if k != "strengths" and new[k] == ours_line[k]]
        assert (len(same) == len(ours_line) - 1) == (rate == Widening().rate)
        assert np.all(np.array(new["sd"]) >= np.array(ours_line["sd"]) * (1 - 1e-4))
    picture.main([str(path), str(tmp_path / "pictures")])
    assert (tmp_path / "pictures" / "families.png").stat().st_size > 5000
    assert (tmp_path / "pictures" / "reliability.png").stat().st_size > 5000


@pytest.mark.slow
def test_our_method_gives_weights_and_status():
    options = ours.Options(dim=2, sampler="nuts", lengths={"chains": 2, "warmup": 30, "draws": 20})
    forecast = ours.pmm(TASK, np.random.default_rng(0), options)
    assert forecast.draws.shape == (40, *TASK.truth.shape)
    assert forecast.weights.shape == (40,)
    assert forecast.flags.shape == TASK.truth.shape
    assert forecast.about["status"] in ("ok", "suspect", "failed")
    assert set(GENERAL) | set(MATRIX_MODELS) | set(INFORMED) == set(PEERS)


def test_committed_lines_have_the_present_doubt_wide(tmp_path):
    results = Path(ablations.__file__).with_name("results.jsonl").read_text("utf-8").splitlines()
    own = [text for text in results if '"strengths"' in text][::60]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(own) + "\n", "utf-8")
    again = {}
    for width in (LIMITS.width, 4 * LIMITS.width):
        rejudge.main([str(path), "--out", str(tmp_path / f"{width}.jsonl"), "--width", str(width)])
        again[width] = (tmp_path / f"{width}.jsonl").read_text("utf-8").splitlines()
    for text, same, wider in zip(own, again[LIMITS.width], again[4 * LIMITS.width], strict=True):
        old, same, wider = json.loads(text), json.loads(same), json.loads(wider)
        assert (old["flags"], old["doubts"]) == (same["flags"], same["doubts"])
        np.testing.assert_allclose(old["strengths"]["wide"], same["strengths"]["wide"], rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(
            4 * np.array(wider["strengths"]["wide"]), old["strengths"]["wide"], rtol=5e-3, atol=5e-3
        )
    with pytest.raises(FileExistsError):
        rejudge.main([str(path), "--out", str(path)])


def test_the_pages_of_tables_are_what_the_committed_lines_print(capsys):
    study = Path(ablations.__file__).parent
    pages = study.parents[1] / "docs" / "studies"
    results, earlier = str(study / "results.jsonl"), str(study / "ablations.jsonl")
    table.main([results])
    assert capsys.readouterr().out == (pages / "extrapolation_tables.md").read_text("utf-8")
    table.main([results, "--hamiltonians", "3", "4", "5", "6", "7", "8"])
    assert "| tasks |  | 114 |\n" in capsys.readouterr().out
    ablations.main([results, earlier])
    printed = capsys.readouterr().out
    assert printed == (pages / "extrapolation_ablations.md").read_text("utf-8")
    assert "nan" not in printed
    # A table whose lines are missing would be left out without a word.
    for title in (
        "Dilation and the widening with it, noise 0",
        "Widening before dilation, noise 0",
        "Growth with the default n, noise 0",
        "Units:",
        "Treatments:",
        "Predictors",
        "Where learned floors begin",
        "Lengths of chains",
    ):
        assert f"## {title}" in printed


def test_area_under_the_curve_of_a_perfect_and_a_useless_score():
    missed = np.array([False, False, True, True])
    assert ablations.auc(np.array([0.0, 1.0, 2.0, 3.0]), missed) == 1.0
    assert ablations.auc(np.array([0.0, 3.0, 1.0, 2.0]), missed) == 0.5


def test_tasks_with_a_gap():
    name = gap.tasks()[3]
    task, whole = run.task_of(name), run.task_of(name.replace(gap.MARK, ""))
    assert task.name == name
    low, high = whole.problem.train.min(), whole.problem.train.max()
    place = (task.data.controls - low) / (high - low)
    assert task.data.n_rows == whole.data.n_rows
    assert np.all((place <= 0.25 + 1e-12) | (place >= 0.75 - 1e-12))
    inside = (task.controls - low) / (high - low)
    assert np.all((inside > 0.25) & (inside < 0.75))
    assert not task.data.extrapolated(task.controls).any()
    np.testing.assert_array_equal(task.truth, whole.problem.exact(task.controls))
    np.testing.assert_allclose(task.distance[0], 0.5 / 9)
    assert not set(gap.tasks()) & set(run.all_tasks())


def test_what_the_page_copies_from_the_tables_is_as_they_have_it():
    pages = Path(__file__).parent.parent / "docs" / "studies"
    read = lambda name: (pages / f"extrapolation{name}.md").read_text("utf-8")
    page = read("").splitlines()
    for name, title, rows in (
        ("_tables", "## Figures", 12),
        ("_tables", "### Doubtful points", 26),
        ("_ablations", "## Lengths of chains", 4),
        ("_ablations", "## Nonlinear eigenvalue problems with the default sampler and lengths\n", 11),
    ):
        below = read(name).split(f"\n{title}", 1)[1].split("\n|", 1)[1]
        copied = ("|" + below).split("\n\n", 1)[0].splitlines()
        assert len(copied) >= rows, title
        assert not [line for line in copied if line not in page], title


def test_the_table_of_misfits_stands_on_the_page(capsys):
    folder = Path(__file__).parent.parent
    misfit.main(folder / "studies" / "extrapolation" / "results.jsonl")
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(printed) > 15
    page = (folder / "docs" / "studies" / "extrapolation.md").read_text("utf-8").splitlines()
    assert not [line for line in printed if line not in page]


def test_the_table_of_rivals_stands_on_the_page(capsys):
    folder = Path(__file__).parent.parent
    study = folder / "studies" / "extrapolation"
    rivals.main([str(study / "results.jsonl"), "--out", str(study / "rivals.jsonl"), "--table"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 4
    page = (folder / "docs" / "studies" / "extrapolation.md").read_text("utf-8").splitlines()
    assert not [line for line in printed if line not in page]


@pytest.mark.slow
def test_rivals_are_found_and_kept(tmp_path):
    study = Path(ablations.__file__).parent
    row = next(
        r
        for (t, m), r in lines.read(study / "results.jsonl").items()
        if m == "pmm" and t == "ising/0/1e-2/10"
    )
    path, out = tmp_path / "one.jsonl", tmp_path / "rivals.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    rivals.main([str(path), "--out", str(out)])
    ((_, found),) = lines.read(out).items()
    assert found["dim"] < row["about"]["dim"]
    assert np.shape(found["outputs"]) == np.shape(row["mean"])
    first = out.read_bytes()
    rivals.main([str(path), "--out", str(out)])
    assert out.read_bytes() == first
    # What it predicts next to the data is what they say.
    nearest = np.argmin(row["distance"])
    assert np.all(np.abs(np.subtract(found["outputs"], row["truth"])[nearest]) < 0.3)


def test_the_table_of_gaps_stands_on_the_page(capsys):
    folder = Path(__file__).parent.parent
    gap.main(["--out", str(folder / "studies" / "extrapolation" / "gap.jsonl"), "--table"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 20
    page = (folder / "docs" / "studies" / "extrapolation.md").read_text("utf-8").splitlines()
    assert not [line for line in printed if line not in page]
