"""Settings of the documentation. ``DOCS_OFFLINE=1`` builds it without any network."""

import os
from importlib.metadata import version as version_of

project = "bayes_pmm"
author = "the bayes_pmm developers"
release = version_of("bayes_pmm")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx.ext.intersphinx",
]
# The build's own output lies below this folder and would otherwise be read as a source the second time.
exclude_patterns = ["_build", "jupyter_execute", ".jupyter_cache", "**.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
# A bar that moves has no place on a page.
os.environ["TQDM_DISABLE"] = "1"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# A single word in backquotes is a parameter or a neighbouring function, as numpydoc has it.
default_role = "py:obj"

intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "jax": ("https://docs.jax.dev/en/latest", None),
    "numpyro": ("https://num.pyro.ai/en/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
}
# An inventory that cannot be fetched is a warning, and warnings are errors here.
if os.environ.get("DOCS_OFFLINE"):
    intersphinx_mapping = {}

html_theme = "furo"
html_title = "bayes_pmm"
