"""The page of the study of sampling is what its script prints."""

import sys
from pathlib import Path

import pytest

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


def test_a_cell_is_good_by_both_limits(run):
    assert run.good({"rhat": 1.009, "ess_min": 401})
    assert not run.good({"rhat": 1.011, "ess_min": 401})
    assert not run.good({"rhat": 1.009, "ess_min": 399})
    assert not run.good({"status": "raised"})
