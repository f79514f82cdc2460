"""The command line's contract: files, columns, keys, exit codes, and that nothing is overwritten or lost."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from canned import FromPrior

from bayes_pmm import cli, problems, runs
from bayes_pmm.doubts import DOUBTS
from bayes_pmm.errors import BayesPMMError, UnfinishedError
from bayes_pmm.fit import load
from bayes_pmm.inference import Auto
from bayes_pmm.inference.checkpoint import ChainFile

QUICK = ["--dim", "2", "--chains", "2", "--warmup", "60", "--draws", "60"]


def run(capsys, *arguments):
    """Exit code, standard output and standard error of the command line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


def fingerprint(folder: Path) -> dict:
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    """A table of the exact 2×2 problem with 1 % noise, an unused text column, a missing cell, and errors."""
    path = tmp_path_factory.mktemp("data") / "levels.csv"
    rng = np.random.default_rng(0)
    c = np.linspace(0, 2, 9)
    e0, e1 = -0.5 * np.sqrt(1 + c**2), 0.5 * np.sqrt(1 + c**2)
    with path.open("w") as file:
        file.write("c,E0,E1,s,note\n")
        for i, x in enumerate(c):
            top = "" if i == 3 else repr(float(e1[i] + 0.01 * rng.normal()))
            file.write(f"{float(x)!r},{float(e0[i] + 0.01 * rng.normal())!r},{top},0.01,run {i}\n")
    return path


@pytest.fixture(scope="module")
def finished(levels, tmp_path_factory):
    """A small finished run, its folder and its options."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["fit", levels, "--controls", "c", "--outputs", "E0,E1", "--errors", "s,-", "--where", "c<=1.5",
               *QUICK, "--at", "c=0:3:7", "--out", folder]  # fmt: skip
    with pytest.raises(SystemExit) as done:
        cli.main([str(o) for o in options])
    assert done.value.code == 0
    return folder, options


def test_values_exchanged_in_a_row_are_said(tmp_path, capsys):
    path, c = tmp_path / "levels.csv", np.linspace(0, 1, 8)
    rows = [[2 + x, x] if i == 3 else [x, 2 + x] for i, x in enumerate(c.tolist())]
    path.write_text(
        "c,E0,E1\n" + "".join(f"{x},{a},{b}\n" for x, (a, b) in zip(c.tolist(), rows, strict=True))
    )
    options = ["fit", path, "--controls", "c", "--outputs", "E0,E1", *QUICK, "--sampler", "nuts"]
    code, _, err = run(capsys, *options, "--out", tmp_path / "run")
    assert code == 0
    assert "column E0 (output E0) lies above column E1 (output E1) in 1 of 8 rows" in err


def test_run_folder_holds_the_contract(finished):
    folder, _ = finished
    names = {p.name for p in folder.iterdir()}
    assert names == {"posterior.nc", "bands.csv", "bands.png", "report.html", "summary.json", "options.json"}
    with (folder / "bands.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "c",
        "output",
        "kind",
        "mean",
        "sd",
        "q05",
        "q25",
        "q50",
        "q75",
        "q95",
        "extrapolated",
        "doubts",
        "status",
    ]
    assert len(rows) == 7 * 2 * 2
    assert {r["kind"] for r in rows} == {"latent", "predictive"}
    assert {r["output"] for r in rows} == {"E0", "E1"}
    assert all((r["extrapolated"] == "true") == (float(r["c"]) > 1.5) for r in rows)
    assert all(set(r["doubts"].split()) <= set(DOUBTS) for r in rows)
    assert all(r["doubts"] == "" for r in rows if r["extrapolated"] == "false")
    for r in rows:
        quantiles = [float(r[k]) for k in ("q05", "q25", "q50", "q75", "q95")]
        assert quantiles == sorted(quantiles)
        assert repr(float(r["mean"])) == r["mean"]
    predictive = {(r["c"], r["output"]): float(r["sd"]) for r in rows if r["kind"] == "predictive"}
    for r in rows:
        if r["kind"] == "latent" and r["output"] == "E0" and r["extrapolated"] == "false":
            # known errors of 0.01 belong to the measurement, not to the latent band
            assert predictive[r["c"], "E0"] > float(r["sd"])


def test_a_defect_is_learned_kept_and_part_of_the_options(levels, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["fit", levels, "--controls", "c", "--outputs", "E0", *QUICK, "--out", folder]
    code, out, err = run(capsys, *options, "--defect", "--sampler", "nuts")
    assert code == 0, err
    assert "defect outside the data" in out
    assert load(folder).defect is not None
    code, _, err = run(capsys, *options, "--sampler", "nuts", "--resume")
    assert code == 2
    assert "was run with other defect" in err


def test_a_fit_is_kept_when_no_defect_can_be_learned(levels, tmp_path, capsys, monkeypatch):
    def fails(*arguments, **options):  # noqa: ARG001
        raise BayesPMMError("no end can be left out")

    monkeypatch.setattr(runs, "learn_defect", fails)
    folder = tmp_path / "run"
    options = ["fit", levels, "--controls", "c", "--outputs", "E0", *QUICK, "--out", folder]
    code, _, err = run(capsys, *options, "--defect", "--sampler", "nuts", "--widening", 0.1)
    assert code == 0, err
    notes = [line for line in err.splitlines() if line.startswith("bayes-pmm: note: saved without a defect")]
    assert len(notes) == 1
    assert notes[0].endswith("no end can be left out")
    assert load(folder).defect is None
    assert load(folder).posterior.widening.rate == 0.1


def test_a_negative_widening_is_refused(levels, tmp_path, capsys):
    options = ["fit", levels, "--controls", "c", "--outputs", "E0", "--out", tmp_path / "run"]
    code, _, err = run(capsys, *options, "--widening", -1)
    assert code == 2
    assert "widening: rate = -1.0" in err
    assert not (tmp_path / "run").exists()


def test_only_fit_speaks_of_resume(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(problems, "get", interrupt)
    code, _, err = run(capsys, "demo", "--out", tmp_path / "new")
    assert code == 130
    assert "interrupted" in err
    assert "resume" not in err
    monkeypatch.undo()
    code, _, err = run(capsys, "demo", "--out", tmp_path)
    assert code == 2
    assert "exists already; choose another name\n" in err


def test_results_that_could_not_be_written_speak_of_resume(levels, tmp_path, capsys, monkeypatch):
    def unwritten(*arguments, **options):  # noqa: ARG001
        raise UnfinishedError("run: the disk is full")

    monkeypatch.setattr(cli, "execute", unwritten)
    code, _, err = run(capsys, "fit", levels, "--controls", "c", "--outputs", "E0", "--out", tmp_path / "new")
    assert code == 1
    assert "disk is full; the same command with --resume goes on" in err
    code, _, err = run(capsys, "demo", "--out", tmp_path / "new")
    assert code == 1
    assert "resume" not in err


def test_summary_has_the_keys(finished):
    folder, _ = finished
    facts = json.loads((folder / "summary.json").read_text())
    assert list(facts) == ["status", "reasons", "max_rhat", "min_ess", "divergences", "pareto_k", "against_exact",
                           "sampler", "dim", "chains", "draws", "seconds", "sigma", "version", "extrapolated",
                           "doubtful", "doubts"]  # fmt: skip
    assert facts["pareto_k"] is facts["against_exact"] is None
    assert 0 <= facts["doubtful"] <= facts["extrapolated"]
    assert all(0 < count <= facts["extrapolated"] for count in facts["doubts"].values())
    assert facts["status"] in ("ok", "suspect", "failed")
    assert (facts["dim"], facts["chains"], facts["draws"], facts["sampler"]) == (2, 2, 60, "nuts")
    assert set(facts["sigma"]) == {"E0", "E1"}
    # 120 draws cannot give an effective sample size of 400: the status must say so.
    assert facts["status"] != "ok"
    assert any("effective sample size" in r for r in facts["reasons"])


def test_strict_gives_three_and_resume_of_a_finished_run_changes_nothing(finished, capsys):
    folder, options = finished
    before = fingerprint(folder)
    code, out, _ = run(capsys, *options, "--resume")
    assert code == 0
    assert "finished before" in out
    assert run(capsys, *options, "--resume", "--strict")[0] == 3
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    "change", [["--seed", "1"], ["--dim", "3"], ["--outputs", "E1=E1,E0=E0"], ["--at", "c=0:3:8"]]
)
def test_resume_with_other_options_is_refused(finished, capsys, change):
    folder, options = finished
    before = fingerprint(folder)
    code, _, err = run(capsys, *options, *change, "--resume")
    assert code == 2
    assert "other" in err
    assert fingerprint(folder) == before


def test_resume_says_which_setting_is_another(finished, capsys):
    _, options = finished
    code, _, err = run(capsys, *options, "--draws", "70", "--resume")
    assert code == 2
    assert "was run with draws=60, not draws=70;" in err
    assert "prolonged" in err
    code, _, err = run(capsys, *options, "--at", "c=0:3:8", "--resume")
    assert code == 2
    assert "was run with other prediction controls;" in err
    assert "bayes-pmm predict" in err


def test_an_unfinished_run_and_one_of_another_version_are_said(finished, capsys, tmp_path):
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    code, _, err = run(capsys, "report", tmp_path / "run")
    assert code == 2
    assert "not finished" in err
    assert "--resume" in err
    with h5py.File(shutil.copy(finished[0] / "posterior.nc", tmp_path / "other.nc"), "a") as file:
        file.attrs["format"] = "bayes_pmm fit 7"
    code, _, err = run(capsys, "report", tmp_path / "other.nc")
    assert code == 2
    assert "'bayes_pmm fit 7'" in err


def test_damaged_notes_do_not_matter_where_they_are_not_needed(finished, capsys, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "options.json").write_text("{")
    assert run(capsys, "predict", folder, "--at", "c=0:3:4", "--out", tmp_path / "a.csv")[0] == 0
    code, _, err = run(capsys, "predict", folder, "--at", "rest", "--out", tmp_path / "b.csv")
    assert code == 2
    assert "options.json: is damaged" in err


def test_existing_run_is_left_alone(finished, capsys):
    folder, options = finished
    before = fingerprint(folder)
    code, _, err = run(capsys, *options)
    assert code == 2
    assert "--resume" in err
    assert fingerprint(folder) == before


def test_predict_writes_bands_and_never_overwrites(finished, capsys, tmp_path):
    folder, _ = finished
    target = tmp_path / "bands.csv"
    code, _, err = run(capsys, "predict", folder, "--at", "c=2.5", "--out", target)
    assert code == 0
    assert "SUSPECT" in err or "FAILED" in err
    before = target.read_bytes()
    assert len(before.splitlines()) == 1 + 4
    code, _, err = run(capsys, "predict", folder, "--at", "c=2.5", "--out", target)
    assert code == 2
    assert target.read_bytes() == before
    assert run(capsys, "predict", folder, "--at", "rest", "--out", tmp_path / "rest.csv")[0] == 0
    assert len((tmp_path / "rest.csv").read_text().splitlines()) == 1 + 2 * 4
    again = tmp_path / "again.csv"
    assert run(capsys, "predict", folder / "posterior.nc", "--at", "rest", "--out", again)[0] == 0
    assert again.read_bytes() == (tmp_path / "rest.csv").read_bytes()
    assert run(capsys, "predict", folder, "--at", "c=2.5", "--strict", "--out", tmp_path / "x.csv")[0] == 3


def test_predict_with_other_levels(finished, capsys, tmp_path):
    folder, _ = finished
    target = tmp_path / "bands.csv"
    code, _, err = run(capsys, "predict", folder, "--at", "c=2.5", "--levels", "0.68,.95", "--out", target)
    assert code == 0, err
    header = target.read_text().splitlines()[0]
    assert header == "c,output,kind,mean,sd,q02.5,q16,q50,q84,q97.5,extrapolated,doubts,status"
    for wrong in ("95", "0.5,", "half"):
        code, _, err = run(
            capsys, "predict", folder, "--at", "c=2.5", "--levels", wrong, "--out", tmp_path / "x.csv"
        )
        assert code == 2
        assert "--levels" in err


def test_lines_between_fitted_levels(finished, capsys, tmp_path):
    folder, _ = finished
    target = tmp_path / "lines.csv"
    options = ["predict", folder, "--at", "c=0:3:4"]
    assert run(capsys, *options, "--outputs", "E1-E0, E0", "--out", target)[0] == 0
    rows = [line.split(",") for line in target.read_text().splitlines()[1:]]
    assert {row[1] for row in rows} == {"E1-E0", "E0"}
    assert len(rows) == 4 * 2 * 2
    code, _, err = run(capsys, *options, "--outputs", "E3-E0", "--out", tmp_path / "no.csv")
    assert code == 2
    assert "neither fitted nor the sum or difference" in err


def test_a_control_named_like_a_quantile_column(levels, capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(levels.read_text().replace("c,", "q02.5,", 1))
    options = [
        "--levels",
        "0.95",
        "--sampler",
        "laplace",
        "--draws",
        "50",
        "--chains",
        "2",
        "--dim",
        "2",
        "--at",
        "q02.5=0:3:3",
    ]
    folder = tmp_path / "run"
    code, _, err = run(
        capsys, "fit", table, "--controls", "q02.5", "--outputs", "E0", *options, "--out", folder
    )
    assert code == 0, err
    columns = (folder / "bands.csv").read_text().split("\n")[0].split(",")
    assert columns[0] == "control q02.5"
    assert "q02.5" in columns
    assert run(capsys, "report", folder)[0] == 0


def test_predictions_agree_with_the_run(finished, capsys, tmp_path):
    folder, _ = finished
    target = tmp_path / "again.csv"
    assert run(capsys, "predict", folder, "--at", "c=0:3:7", "--out", target)[0] == 0
    assert target.read_bytes() == (folder / "bands.csv").read_bytes()


def test_report_prints_and_leaves_the_page(finished, capsys, tmp_path):
    folder, _ = finished
    before = fingerprint(folder)
    code, out, _ = run(capsys, "report", folder)
    assert code == 0
    assert "status:" in out
    facts = json.loads((folder / "summary.json").read_text())
    assert ("predictions are doubtful (" in out) == (facts["doubtful"] > 0)
    assert fingerprint(folder) == before
    page = tmp_path / "page.html"
    assert run(capsys, "report", folder, "--out", page)[0] == 0
    text = page.read_text()
    for words in (
        "levels.csv",
        "c&lt;=1.5",
        "<th>seed</th>",
        "2 with 60 warm-up draws and 60 draws each, sampling",
    ):
        assert words in text, words
    assert "effective sample size" in text
    # Pictures in base64 may hold any four letters.
    assert "http" not in re.sub(r'base64,[^"]*', "", text)
    assert run(capsys, "report", folder, "--strict")[0] == 3


def test_long_table_and_rest(levels, capsys, tmp_path):
    rows = list(csv.DictReader(levels.open()))
    table = tmp_path / "long.csv"
    with table.open("w") as file:
        file.write("c,which,value\n")
        for i, r in enumerate(rows):
            which = "upper" if i % 2 else "lower"
            value = r["E1"] if i % 2 else r["E0"]
            file.write(f"{r['c']},{which},{value}\n")
    code, _, err = run(
        capsys, "fit", table, "--controls", "c", "--long", "which:value", "--outputs", "lower,upper",
        "--where", "c<1.6", *QUICK, "--at", "rest", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    with (tmp_path / "run" / "bands.csv").open(newline="") as file:
        assert {float(r["c"]) for r in csv.DictReader(file)} == {1.75, 2.0}


BAD = {
    "missing column": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "x", "--outputs", "E0"], "x"),
    "non-numeric cell": ("c,E0\n0,1\n1,abc\n2,4\n", ["--controls", "c", "--outputs", "E0"], "line 3"),
    "empty file": ("", ["--controls", "c", "--outputs", "E0"], "empty"),
    "duplicate header": ("c,E0,E0\n0,1,1\n1,2,2\n2,4,4\n", ["--controls", "c", "--outputs", "E0"], "2 times"),
    "fewer rows than outputs": ("c,E0,E1\n0,1,2\n", ["--controls", "c", "--outputs", "E0,E1"], "row"),
    "NaN control": ("c,E0\n0,1\nnan,2\n2,4\n", ["--controls", "c", "--outputs", "E0"], "line 3"),
    "infinite control": ("c,E0\n0,1\ninf,2\n2,4\n", ["--controls", "c", "--outputs", "E0"], "line 3"),
    "negative error": (
        "c,E0,s\n0,1,.1\n1,2,-.1\n2,4,.1\n", ["--controls", "c", "--outputs", "E0", "--errors", "s"], "line 3"),
    "zero error": (
        "c,E0,s\n0,1,.1\n1,2,0\n2,4,.1\n", ["--controls", "c", "--outputs", "E0", "--errors", "s"], "line 3"),
    "error missing beside a value": (
        "c,E0,s\n0,1,.1\n1,2,\n2,4,.1\n", ["--controls", "c", "--outputs", "E0", "--errors", "s"], "line 3"),
    "constant control": ("c,E0\n1,1\n1,2\n1,4\n", ["--controls", "c", "--outputs", "E0"], "c"),
    "all-missing output": ("c,E0,E1\n0,1,\n1,2,\n2,4,\n", ["--controls", "c", "--outputs", "E0,E1"], "E1"),
    "n too small": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0=E3", "--dim", "3"], "dim"),
    "expression": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0=E1+E0"], "does not parse"),
    "amplitude": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0=<0|A|1>"], "phase"),
    "column named like another level": (
        "c,E0,E2\n0,1,3\n1,2,4\n2,4,5\n", ["--controls", "c", "--outputs", "E0,E2"], "write E2=E2, or E2=E1 if"),
    "column twice": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0,E0=E1"], "twice"),
    "output twice": (
        "c,T,U\n0,1,1\n1,2,2\n2,4,4\n", ["--controls", "c", "--outputs", "T=E0,U=E0"], "output E0 is given twice"),
    "huge seed": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--seed", str(2**63)], "--seed"),
    "floor is no number": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--floor", "nan"], "floor_scale"),
    "grid": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--at", "c=0..3"], "c=0..3"),
    "grid misses a control": (
        "c,d,E0\n0,1,1\n1,0,2\n2,4,4\n", ["--controls", "c,d", "--outputs", "E0", "--at", "c=0:3:4"], "d"),
    "ragged row": ("c,E0\n0,1\n1,2,3\n2,4\n", ["--controls", "c", "--outputs", "E0"], "line 3"),
    "where": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--where", "c !! 2"], "--where"),
    "where selects nothing": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--where", "c>9"], "c>9 keeps no row"),
    "rest without where": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--at", "rest"], "rest"),
    "basis": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--basis", "spline"], "basis"),
    "inverse at zero": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--basis", "inverse:1"], "finite"),
    "more terms than rows": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--basis", "poly:99"], "100 terms"),
    "endless draws": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--draws", "1000000000000"], "--draws"),
    "sampler": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--sampler", "gibbs"], "gibbs"),
    "too few draws": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--draws", "0"], "draws"),
    "unknown option": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--bogus"], "--bogus"),
    "no errors and no floor": (
        "c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--floor", "0"], "floor"),
    "long without value": ("c,E0\n0,1\n1,2\n2,4\n", ["--controls", "c", "--outputs", "E0", "--long", "c"], "--long"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, capsys, tmp_path):
    text, options, word = BAD[case]
    table = tmp_path / "data.csv"
    table.write_text(text)
    code, _, err = run(capsys, "fit", table, *options, "--out", tmp_path / "run")
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1
    assert word in err
    assert not (tmp_path / "run").exists()
    assert table.read_text() == text


def test_unwritable_run_folder(levels, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, err = run(
        capsys,
        "fit",
        levels,
        "--controls",
        "c",
        "--outputs",
        "E0",
        *QUICK,
        "--out",
        tmp_path / "file" / "run",
    )
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["truncated", "foreign", "netcdf of another", "missing"])
def test_bad_posterior_file(finished, capsys, tmp_path, kind):
    folder, _ = finished
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    path = run_folder / "posterior.nc"
    if kind == "truncated":
        whole = (folder / "posterior.nc").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "foreign":
        path.write_bytes(b"not a netCDF file")
    elif kind == "netcdf of another":
        import xarray as xr

        xr.Dataset({"a": ("x", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    before = fingerprint(run_folder)
    for command in (
        ["predict", run_folder, "--at", "c=1", "--out", tmp_path / "b.csv"],
        ["report", run_folder],
    ):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        assert "posterior.nc" in err
    assert fingerprint(run_folder) == before
    assert not (tmp_path / "b.csv").exists()


def test_killed_run_resumes_to_the_same_bytes(levels, tmp_path, capsys, monkeypatch):
    """A run killed in its middle and resumed gives the bands of an uninterrupted one."""
    options = ["fit", str(levels), "--controls", "c", "--outputs", "E0,E1", "--dim", "3", "--chains", "2",
               "--warmup", "100", "--draws", "600", "--at", "c=0:3:4"]  # fmt: skip
    command = [sys.executable, "-m", "bayes_pmm", *options]
    environment = dict(os.environ)
    whole = tmp_path / "whole"
    subprocess.run([*command, "--out", str(whole)], check=True, env=environment, capture_output=True)
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [*command, "--out", str(killed)], env=environment, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not list(killed.glob("checkpoint/**/chain_*.npz")):
            pass
        process.kill()
    assert not (killed / "summary.json").exists(), "it finished before it was killed: make it longer"
    before = {path.name: int(np.load(path)["at"]) for path in killed.glob("checkpoint/**/chain_?.npz")}
    saved, save = [], ChainFile.save

    def noted(file, state, at, records, seconds):
        saved.append((file.path.name, at))
        save(file, state, at, records, seconds)

    monkeypatch.setattr(ChainFile, "save", noted)
    code, _, err = run(capsys, *command[3:], "--out", killed, "--resume")
    assert code == 0, err
    assert before
    assert saved
    assert all(at > before.get(name, 0) for name, at in saved), "the resumed run drew again what was saved"
    assert (killed / "bands.csv").read_bytes() == (whole / "bands.csv").read_bytes()


def test_demo_makes_a_new_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        cli, "Auto", lambda **_: __import__("bayes_pmm").Manifold(chains=2, warmup=50, draws=20)
    )
    code, out, err = run(capsys, "demo")
    assert code == 0
    assert "exact" in out
    assert "FAILED" in err or "SUSPECT" in err
    assert (tmp_path / "bayes-pmm-demo-1" / "bands.csv").exists()
    code, _, err = run(capsys, "demo", "--out", "bayes-pmm-demo-1")
    assert code == 2


def test_a_guide_and_the_comparison_with_exact_draws(levels, tmp_path, capsys, monkeypatch):
    """Both are settings of the run: shown, kept, and asked for again with --resume."""
    lengths = []

    def drawn(self, posterior, key, **_):
        lengths.append((self.chains, self.warmup, self.draws))
        return FromPrior(60).run(posterior, key)

    monkeypatch.setattr(Auto, "run", drawn)
    folder = tmp_path / "run"
    options = ["fit", levels, "--controls", "c", "--outputs", "E0", *QUICK, "--out", folder]
    chosen = ["--sampler", "variational", "--guide", "low-rank"]
    code, out, err = run(capsys, *options, *chosen, "--exact")
    assert code == 0, err
    assert "variational (low-rank), 2 chains x 60 draws" in out
    (line,) = [x for x in out.splitlines() if x.startswith("against canned, outputs at the data: means")]
    assert lengths == [(2, 60, 60)]
    facts = json.loads((folder / "summary.json").read_text())
    assert list(facts["against_exact"]) == ["sampler", "shift", "narrowest", "widest", "rhat", "ess"]
    assert 0 < facts["against_exact"]["narrowest"] <= facts["against_exact"]["widest"] < 1
    assert facts["pareto_k"] is None or np.isfinite(facts["pareto_k"])
    page = (folder / "report.html").read_text()
    assert line in page
    assert "<td>variational (low-rank)</td>" in page
    assert line in run(capsys, "report", folder)[1]
    before = fingerprint(folder)
    assert "finished before" in run(capsys, *options, *chosen, "--exact", "--resume")[1]
    code, _, err = run(capsys, *options, *chosen, "--resume")
    assert code == 2
    assert "warmup: the sampler variational has no such setting" in err
    short = [*options[:6], "--dim", "2", "--chains", "2", "--draws", "60", "--out", folder]
    code, _, err = run(capsys, *short, *chosen, "--resume")
    assert code == 2
    assert "was run with exact=Auto" in err
    code, _, err = run(capsys, *options, "--sampler", "variational", "--guide", "full", "--exact", "--resume")
    assert code == 2
    assert "was run with guide='low-rank', not guide='full'" in err
    assert fingerprint(folder) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--guide", "flow"], "guide: the sampler auto has no such setting, only variational"),
        (["--guide", "full", "--sampler", "laplace"], "guide: the sampler laplace has no such setting"),
        (["--guide", "wide", "--sampler", "variational"], "'full', 'low-rank', 'flow'"),
        (
            ["--exact", "--sampler", "nuts"],
            "exact: the sampler nuts has no such setting, only variational, laplace",
        ),
        (["--exact", "--sampler", "variational", "--warmup", "5"], "warmup = 5 is too few"),
        (["--sampler", "smc", "--warmup", "50"], "warmup: the sampler smc has no such setting"),
    ],
)
def test_a_guide_or_comparison_of_no_use_is_refused(levels, tmp_path, capsys, options, words):
    code, _, err = run(
        capsys, "fit", levels, "--controls", "c", "--outputs", "E0", *options, "--out", tmp_path / "run"
    )
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_paths_that_cannot_be_looked_at_are_one_line(levels, finished, tmp_path, capsys):
    long = tmp_path / ("x" * 300)
    fit = ["fit", levels, "--controls", "c", "--outputs", "E0", *QUICK, "--out"]
    for command in (
        [*fit, long],
        ["predict", finished[0], "--at", "c=1", "--out", long],
        ["predict", long, "--at", "c=1", "--out", tmp_path / "x.csv"],
        ["report", finished[0], "--out", long],
    ):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "File name too long" in err
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_made_are_refused_before_the_work(finished, tmp_path, capsys, monkeypatch):
    folder, _ = finished
    other = shutil.copytree(folder, tmp_path / "other")
    monkeypatch.setattr(cli, "load", lambda _: pytest.fail("the work had begun"))
    nowhere, new = tmp_path / "no" / "x.csv", tmp_path / "new.csv"
    for options, words in (
        (["--csv", nowhere], "there is no folder"),
        (["--at", "c=1", "--out", nowhere], "there is no folder"),
        (["--at", "c=1", "--out", new, "--csv", new], "for --csv and for --out"),
    ):
        code, _, err = run(capsys, "compare", folder, other, *options)
        assert code == 2
        assert words in err
    code, _, err = run(capsys, "predict", folder, "--at", "c=1", "--out", nowhere)
    assert code == 2
    assert "there is no folder" in err
    assert not new.exists()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")],
)
def test_too_little_memory_is_one_line_and_leaves_nothing(error, levels, tmp_path, capsys, monkeypatch):
    def fails(*arguments, **options):  # noqa: ARG001
        raise error

    monkeypatch.setattr(runs, "fit", fails)
    code, _, err = run(
        capsys, "fit", levels, "--controls", "c", "--outputs", "E0", *QUICK, "--out", tmp_path / "run"
    )
    assert code == 1
    assert err.splitlines()[-1].startswith("bayes-pmm: out of memory; use a smaller --dim")
    assert not (tmp_path / "run").exists()


def test_help_and_version(capsys):
    assert run(capsys)[:2] == run(capsys, "--help")[:2]
    assert run(capsys, "--help")[0] == 0
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert "bayes-pmm" in out
    for command in ("demo", "fit", "predict", "report"):
        assert run(capsys, command, "--help")[0] == 0


def test_problem_tables_feed_the_command_line():
    """The exact problems' output expressions parse as --outputs."""
    for name in problems.names():
        outputs = problems.get(name).outputs
        names, expressions = cli.parse_outputs_option(",".join(f"{k}={v}" for k, v in outputs.items()))
        assert names == list(outputs)
        assert len(expressions) == len(outputs)


def test_names_with_commas_and_equals_signs():
    names, outputs = cli.parse_outputs_option('"E0 (a,b)=E0", nu=1=E1-E0, ground')
    assert names == ["E0 (a,b)", "nu=1", "ground"]
    assert [str(o) for o in outputs] == ["E0", "E1-E0", "E0"]
