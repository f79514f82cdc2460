"""The page of the study of sampling is what its script prints."""

import importlib
import json
import sys
from pathlib import Path

import pytest

import bayes_pmm as bp

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies" / "sampling"))
    import run

    yield run
    sys.modules.pop("run")


def test_page_of_tables_is_what_the_script_prints(run, capsys):
    run.main(["--out", str(ROOT / "studies" / "sampling" / "results.jsonl"), "--table"])
    printed = capsys.readouterr().out
    assert printed == (ROOT / "docs" / "studies" / "sampling_tables.md").read_text("utf-8")
    assert "nan" not in printed
    assert "min ESS/s of auto over textbook at 0.01" in printed


@pytest.mark.parametrize("name", ["dynamic", "trajectory", "polar", "mixture", "dilation"])
def test_page_has_all_that_the_smaller_studies_print(name, capsys, monkeypatch):
    folder = ROOT / "studies" / "sampling"
    monkeypatch.syspath_prepend(str(folder))
    # The last compares two files of lines and runs nothing itself.
    arguments = [] if name == "dilation" else [["--out", str(folder / f"{name}.jsonl"), "--table"]]
    importlib.import_module(name).main(*arguments)
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    page = (ROOT / "docs" / "studies" / "sampling.md").read_text("utf-8").splitlines()
    assert len(printed) > 4
    assert not [line for line in printed if line not in page]


def test_cells_that_have_a_line_are_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "studies" / "sampling"))
    resumable = importlib.import_module("resumable")
    cells, ran = [{"x": 1, "y": 2}, {"x": 1, "y": 3}], []

    def run(x, y):
        ran.append((x, y))
        return {"sum": x + y}

    out = ["--out", str(tmp_path / "rows.jsonl")]
    for several in (cells[:1], cells, cells):
        resumable.main("", several, run, print, out)
    assert ran == [(1, 2), (1, 3)]
    capsys.readouterr()
    resumable.main("", cells, run, lambda rows: print([r["sum"] for r in rows]), [*out, "--table"])
    assert capsys.readouterr().out == "[3, 4]\n"


def test_a_cell_is_good_by_both_limits(run):
    assert run.good({"rhat": 1.009, "ess_min": 401})
    assert not run.good({"rhat": 1.011, "ess_min": 401})
    assert not run.good({"rhat": 1.009, "ess_min": 399})
    assert not run.good({"status": "raised"})


def test_a_case_of_the_time_between_checkpoints_reports_its_chunks(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "studies" / "sampling"))
    gaps = importlib.import_module("checkpoint_gaps")
    method = bp.Manifold(chains=2, warmup=10, draws=10, thin=2, starts=bp.AnnealedStarts(candidates=4))
    monkeypatch.setattr(gaps, "CASES", {"small": ("", lambda: gaps.pencil(2, points=4), 2, 1e-2, method)})
    # What it replaces, to be put back.
    monkeypatch.setattr(gaps.chains, "compiled", gaps.chains.compiled)
    monkeypatch.setattr(gaps.checkpoint.ChainFile, "save", gaps.checkpoint.ChainFile.save)
    gaps.child("small")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    chunks = [e for e in events if e["kind"] == "chunk"]
    assert sum(c["count"] for c in chunks) == 2 * 20
    assert all(c["seconds"] > 0 and c["steps"] >= 4 for c in chunks)
    assert {e["kind"] for e in events} == {"chunk", "starts", "sampling"}
    assert gaps.most_steps(method, "sampling") == 2 * gaps.most_steps(method, "warm-up")
