"""What type checkers are told of constructors that take more than they store is what the constructors take."""

import ast
import inspect
from pathlib import Path

import pytest

import bayes_pmm

PACKAGE = Path(bayes_pmm.__file__).parent


def declared_constructors():
    """Class's name and the ``__init__`` that stands under ``if TYPE_CHECKING`` in its body."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for cls in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(cls, ast.ClassDef):
                for block in cls.body:
                    if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
                        yield from ((cls.name, f) for f in block.body if isinstance(f, ast.FunctionDef))


DECLARED = dict(declared_constructors())


def test_they_were_found():
    assert set(DECLARED) == {"Dataset", "PMM", "Posterior"}


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_constructor_is_the_one_that_runs(name):
    declared, taken = DECLARED[name].args, inspect.signature(getattr(bayes_pmm, name)).parameters
    assert DECLARED[name].name == "__init__"
    names = [a.arg for a in declared.args]
    assert names == ["self", *taken]
    given = dict(zip(names[::-1], map(ast.unparse, declared.defaults[::-1]), strict=False))
    for parameter in taken.values():
        if parameter.default is inspect.Parameter.empty:
            assert parameter.name not in given
        else:
            # Those that a factory makes are but "..." there.
            assert given[parameter.name] in ("...", repr(parameter.default))
