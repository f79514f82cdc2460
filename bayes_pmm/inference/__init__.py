"""Inference methods: frozen objects with one protocol (:mod:`bayes_pmm.inference.protocol`)."""

from bayes_pmm.errors import InputError
from bayes_pmm.inference.auto import Auto
from bayes_pmm.inference.laplace import Laplace
from bayes_pmm.inference.manifold import Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Draws, Method
from bayes_pmm.inference.smc import TemperedSMC
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.inference.variational import Variational

__all__ = [
    "NUTS",
    "SAMPLERS",
    "AnnealedStarts",
    "Auto",
    "Draws",
    "Laplace",
    "Manifold",
    "Method",
    "TemperedSMC",
    "Variational",
    "method_by_name",
]

SAMPLERS = ("auto", "nuts", "manifold", "variational", "laplace", "smc")


def method_by_name(
    name: str,
    chains: int = 4,
    warmup: int | None = None,
    draws: int = 1000,
    guide: str | None = None,
    exact: Method | None = None,
) -> Method:
    """Method from its name; without ``warmup`` and ``guide`` the method's own default.

    Raises
    ------
    InputError
        If there is no such method, or ``guide`` or ``exact`` is given to one that has no use for it.
    """
    if guide is not None and name != "variational":
        raise InputError(f"guide '{guide}' is for the sampler variational, and {name} has none; leave it out")
    if exact is not None and name not in ("variational", "laplace"):
        raise InputError(
            f"exact: only the approximations variational and laplace are compared with exact draws, not {name};"
            " leave it out"
        )
    if name == "auto":
        return Auto(chains=chains, warmup=warmup, draws=draws)
    warm = {} if warmup is None else {"warmup": warmup}
    if name == "nuts":
        return NUTS(chains=chains, draws=draws, **warm)
    if name == "manifold":
        return Manifold(chains=chains, draws=draws, **warm)
    if name == "variational":
        return Variational(guide or Variational.guide, chains=chains, draws=draws, exact=exact)
    if name == "laplace":
        return Laplace(chains=chains, draws=draws, exact=exact)
    if name == "smc":
        return TemperedSMC(chains=chains, draws=draws)
    raise InputError(f"sampler '{name}' is unknown; use one of {', '.join(SAMPLERS)}")
