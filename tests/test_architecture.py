"""The order of the rooms: imports point only upwards in one list, and some libraries stay in their rooms."""

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import bayes_pmm

PACKAGE = Path(__file__).parent.parent / "bayes_pmm"

# A module may import only modules of earlier entries. A package's own name stands for its __init__.py.
ROOMS = (
    "errors",
    "settings",
    "locks",
    "files",
    "memory",
    "scores",
    "convergence",
    "hermitian",
    "spectrum",
    "basis",
    "gauge",
    "outputs",
    "model",
    "hull",
    "columns",
    "data",
    "scatter",
    "slips",
    "problems.base",
    "problems.*",
    "problems.draws",
    "problems.registry",
    "problems.zoo",
    "problems.listing",
    "problems",
    "scaling",
    "priors",
    "noise",
    "defect",
    "widening",
    "posterior",
    "inference.protocol",
    "inference.checkpoint",
    "inference.threads",
    "inference.compiled",
    "inference.chains",
    "inference.least_squares",
    "inference.sensitivity",
    "inference.start",
    "inference.importance",
    "inference.mixture",
    "inference.nested",
    "inference.nuts",
    "inference.constrained",
    "inference.lifted",
    "inference.manifold",
    "inference.auto",
    "inference.smc",
    "inference.modes",
    "inference.variational",
    "inference.laplace",
    "inference",
    "progress",
    "diagnostics",
    "doubts",
    "bands",
    "predict",
    "arviz_io",
    "fit",
    # the outside world
    "simulation",
    "calibration",
    "judging",
    "validation",
    "conformal",
    "defect_learning",
    "loo",
    "evidence",
    "compare",
    "checks",
    "plotting",
    "judging_plots",
    "report",
    "runs",
    "conditions",
    "tables",
    "grids",
    "cli",
    "__main__",
    "",  # the package's root, which no module inside it imports
)

ARVIZ_ROOMS = {
    "arviz_io",
    "convergence",
    "calibration",
    "judging_plots",
    "bands",
}
FLAG_ROOMS = {"cli"}
GLOBAL_FLAGS = ("config.update", "numpyro.enable_x64", "numpyro.set_platform", "set_host_device_count")


def name_of(path):
    """Dotted name inside the package: "data", "inference.nuts", "inference" for its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def rank(module):
    """Place in the list; an exact entry counts before a pattern."""
    if module in ROOMS:
        return ROOMS.index(module)
    return next((i for i, room in enumerate(ROOMS) if fnmatchcase(module, room)), None)


def imported(tree):
    """Line and full dotted name of everything that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def room_of(dotted, modules):
    """Module inside the package that an imported name belongs to: the longest one that exists."""
    parts = dotted.split(".")[1:]
    while parts and ".".join(parts) not in modules:
        parts.pop()
    return ".".join(parts)


def violations(module, source, modules):
    """What a module's source does against the rules, one line each."""
    tree = ast.parse(source)
    own = rank(module)
    if own is None:
        return [f"{module}: the module has no place in ROOMS; give it one"]
    found = []
    for line, dotted in imported(tree):
        library = dotted.split(".")[0]
        if library == "":
            found.append(f"line {line}: relative import; write bayes_pmm.…")
        elif library == "bayes_pmm":
            target = room_of(dotted, modules)
            place = rank(target)
            if place is None or place >= own:
                found.append(f"line {line}: {module} imports {target or 'the root'}, which is not above it")
        elif library in ("studies", "examples", "tests"):
            found.append(f"line {line}: the package imports {library}")
        elif library == "blackjax" and module.split(".")[0] != "inference":
            found.append(f"line {line}: BlackJAX outside inference/")
        elif (library.startswith("arviz") or library == "xarray") and module not in ARVIZ_ROOMS:
            found.append(f"line {line}: {library} outside {', '.join(sorted(ARVIZ_ROOMS))}")
        elif library in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"):
            found.append(f"line {line}: {library}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"line {node.lineno}: bare except")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"line {node.value.lineno}: allow_pickle")
        elif module not in FLAG_ROOMS:
            call = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(GLOBAL_FLAGS)
            store = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if call or (store and ast.unparse(node.value) in ("jax.config", "config")):
                found.append(f"line {node.lineno}: a global flag is set")
    return found


def test_the_package_was_found():
    assert {"errors", "data", "posterior", "inference.nuts", ""} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "root")
def test_module_keeps_the_rules(module):
    assert violations(module, MODULES[module].read_text(encoding="utf-8"), MODULES) == []


BAD = [
    ("model", "from bayes_pmm.priors import Prior", "imports priors"),
    ("model", "from bayes_pmm import priors", "imports priors"),
    ("model", "import bayes_pmm.priors as p", "imports priors"),
    ("model", "def f():\n    from bayes_pmm.posterior import Posterior", "imports posterior"),
    ("model", "from bayes_pmm.model import PMM", "imports model"),
    ("posterior", "from bayes_pmm.inference import NUTS", "imports inference,"),
    ("posterior", "from bayes_pmm.inference import protocol", "imports inference.protocol"),
    ("inference.protocol", "from bayes_pmm.inference.nuts import NUTS", "imports inference.nuts"),
    ("inference.nuts", "from bayes_pmm.inference import Draws", "imports inference,"),
    ("problems.spins", "from bayes_pmm.problems.ising import ising", "imports problems.ising"),
    ("problems.base", "from bayes_pmm.posterior import Posterior", "imports posterior"),
    ("tables", "from bayes_pmm.grids import read_grid", "imports grids"),
    ("cli", "from bayes_pmm import __version__", "imports the root"),
    ("model", "from .errors import InputError", "relative import"),
    ("no_such_room", "x = 1", "no place in ROOMS"),
    ("predict", "import studies.coverage", "imports studies"),
    ("predict", "from examples import oscillator", "imports examples"),
    ("predict", "import blackjax.mcmc", "BlackJAX"),
    ("posterior", "import arviz as az", "arviz outside"),
    ("report", "from arviz_stats import ess", "arviz_stats outside"),
    ("doubts", "import xarray as xr", "xarray outside"),
    ("data", "import jax\njax.config.update('jax_enable_x64', True)", "global flag"),
    ("data", "from jax import config\nconfig.update('jax_enable_x64', True)", "global flag"),
    ("data", "import jax\njax.config.jax_enable_x64 = True", "global flag"),
    ("data", "import numpyro\nnumpyro.enable_x64()", "global flag"),
    ("data", "import pickle", "pickle"),
    ("data", "import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
    ("data", "try:\n    pass\nexcept:\n    pass", "bare except"),
]


@pytest.mark.parametrize(("module", "source", "words"), BAD)
def test_the_check_can_fail(module, source, words):
    (message,) = violations(module, source, MODULES)
    assert words in message


GOOD = [
    ("model", "from bayes_pmm import spectrum\nfrom bayes_pmm.errors import InputError"),
    ("inference.nuts", "import blackjax\nfrom bayes_pmm.inference.start import AnnealedStarts"),
    ("predict", "from bayes_pmm.inference.protocol import Draws\nfrom bayes_pmm.inference import NUTS"),
    ("convergence", "import arviz\nimport xarray as xr"),
    ("cli", "import jax\njax.config.update('jax_enable_x64', True)"),
    ("data", "import numpy as np\nnp.load('x', allow_pickle=False)\n{}.update(a=1)"),
]


@pytest.mark.parametrize(("module", "source"), GOOD)
def test_the_check_lets_pass_what_is_allowed(module, source):
    assert violations(module, source, MODULES) == []


def test_the_page_on_architecture_has_every_room():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    table = page.split("## Modules, in the order of imports")[1].split("##")[0]
    cells = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)/?`", cells))
    rooms = {name.split(".")[0] for name in MODULES} - {"", "__main__"}
    assert rooms - named == set()
    assert named - rooms == set()


def test_every_allowance_is_used():
    """A room that may import ArviZ or xarray does so."""
    uses = {
        module
        for module, path in MODULES.items()
        for _, dotted in imported(ast.parse(path.read_text(encoding="utf-8")))
        if dotted.split(".")[0].startswith("arviz") or dotted.split(".")[0] == "xarray"
    }
    assert uses == ARVIZ_ROOMS


def test_the_reference_lists_every_name_of_the_package():
    page = (PACKAGE.parent / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| \{py:\w+\}`(\w+) <", page, re.MULTILINE)) | {"problems"}
    assert listed == set(bayes_pmm.__all__)


def test_every_room_is_on_a_page_of_the_reference():
    pages = "".join(
        (PACKAGE.parent / "docs" / f"{page}.md").read_text("utf-8") for page in ("api", "internals")
    )
    shown = set(re.findall(r"automodule:: bayes_pmm\.([\w.]+)", pages))
    hidden = {"", "__main__", "cli", "progress", "settings"}
    missing = {m for m in MODULES if not m.startswith("problems.")} - shown - hidden
    assert not missing
