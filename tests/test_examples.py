"""Every example runs, with few draws, and every public docstring example is right."""

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import bayes_pmm

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


MODULES = [
    m.name for m in pkgutil.walk_packages(bayes_pmm.__path__, "bayes_pmm.") if not m.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
