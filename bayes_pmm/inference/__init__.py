"""Inference methods: frozen objects with one protocol (:mod:`bayes_pmm.inference.protocol`)."""

from bayes_pmm.errors import InputError
from bayes_pmm.inference.laplace import Laplace
from bayes_pmm.inference.manifold import Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Draws, Method
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.inference.variational import Variational

__all__ = [
    "NUTS",
    "SAMPLERS",
    "AnnealedStarts",
    "Draws",
    "Laplace",
    "Manifold",
    "Method",
    "Variational",
    "method_by_name",
]

SAMPLERS = ("auto", "nuts", "manifold", "variational", "laplace")


def method_by_name(name: str, chains: int = 4, warmup: int = 1000, draws: int = 1000) -> Method:
    """Method from its name; ``auto`` is NUTS, the only exact sampler so far.

    Raises
    ------
    InputError
        If there is no such method, or it is not built yet.
    """
    if name in ("auto", "nuts"):
        return NUTS(chains=chains, warmup=warmup, draws=draws)
    if name == "variational":
        return Variational(chains=chains, draws=draws)
    if name == "laplace":
        return Laplace(chains=chains, draws=draws)
    if name == "manifold":
        return Manifold(chains=chains, warmup=warmup, draws=draws)
    raise InputError(f"sampler '{name}' is unknown; use one of {', '.join(SAMPLERS)}")
