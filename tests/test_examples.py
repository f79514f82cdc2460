"""Every example runs, with few draws, and every public docstring example is right."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from canned import FromPrior

import bayes_pmm
from bayes_pmm import cli, runs

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fit, bands = module.main(warmup=100, draws=50)
    assert np.isfinite(bands.mean["latent"]).all()
    assert fit.status in ("ok", "suspect", "failed")
    assert "status" in capsys.readouterr().out


def test_there_are_three_examples():
    assert len(EXAMPLES) == 3


def test_the_readme_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    """From the table that the first command writes to the saved fit, and the same without Python; draws are canned."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Ten lines") : text.index("## Reading the status")]
    blocks = re.findall(r"```(sh|python)\n(.*?)```", section, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "python", "sh"]
    monkeypatch.chdir(tmp_path)
    quick = partial(bayes_pmm.fit, method=FromPrior())
    monkeypatch.setattr(bayes_pmm, "fit", quick)
    monkeypatch.setattr(runs, "fit", lambda posterior, _, **options: quick(posterior, **options))
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {})
            assert "status" in capsys.readouterr().out
            continue
        program, *arguments = shlex.split(block)
        assert program == "bayes-pmm"
        with pytest.raises(SystemExit) as done:
            cli.main(arguments)
        assert done.value.code == 0
    assert {p.name for p in tmp_path.iterdir()} == {"levels.csv", "posterior.nc", "run"}
    assert bayes_pmm.load("run").posterior.data.n_rows == 10


MODULES = [
    m.name for m in pkgutil.walk_packages(bayes_pmm.__path__, "bayes_pmm.") if not m.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
