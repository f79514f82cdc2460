"""The problems by name."""

import inspect
from collections.abc import Callable

from bayes_pmm.errors import InputError
from bayes_pmm.problems.almg import almg
from bayes_pmm.problems.anticrossing import anticrossing
from bayes_pmm.problems.base import Problem
from bayes_pmm.problems.bose_hubbard import bose_hubbard
from bayes_pmm.problems.crossings import crossings
from bayes_pmm.problems.deuteron import deuteron
from bayes_pmm.problems.double_well import double_well
from bayes_pmm.problems.exceptional_point import exceptional_point
from bayes_pmm.problems.fluxonium import fluxonium
from bayes_pmm.problems.h2plus import h2plus
from bayes_pmm.problems.hubbard import hubbard
from bayes_pmm.problems.ising import ising
from bayes_pmm.problems.nilsson import nilsson
from bayes_pmm.problems.nv import nv
from bayes_pmm.problems.oscillator import oscillator
from bayes_pmm.problems.pairing import pairing
from bayes_pmm.problems.rabi import rabi
from bayes_pmm.problems.random_matrices import random_strong, random_weak
from bayes_pmm.problems.spins import spins
from bayes_pmm.problems.transmon import transmon
from bayes_pmm.problems.trotter import trotter
from bayes_pmm.problems.two_couplings import two_couplings
from bayes_pmm.problems.xxz import xxz

__all__ = ["get", "names"]

_FACTORIES: dict[str, Callable[..., Problem]] = {
    factory.__name__: factory
    for factory in (
        spins,
        ising,
        oscillator,
        almg,
        random_weak,
        random_strong,
        nv,
        exceptional_point,
        pairing,
        crossings,
        anticrossing,
        two_couplings,
        trotter,
        h2plus,
        hubbard,
        transmon,
        fluxonium,
        deuteron,
        rabi,
        xxz,
        bose_hubbard,
        nilsson,
        double_well,
    )
}


def names() -> tuple[str, ...]:
    """Return the names of all problems."""
    return tuple(_FACTORIES)


def get(name: str, **parameters) -> Problem:
    """Return a problem.

    Parameters
    ----------
    name
        One of `names`.
    **parameters
        Of the problem's factory, the function of that name: ``get("oscillator", levels=3)``.

    Raises
    ------
    InputError
        If there is no such problem or no such parameter.
    """
    if name not in _FACTORIES:
        raise InputError(f"no problem is called {name!r}; there are {', '.join(_FACTORIES)}")
    factory = _FACTORIES[name]
    allowed = tuple(inspect.signature(factory).parameters)
    unknown = sorted(set(parameters) - set(allowed))
    if unknown:
        raise InputError(f"problem {name} has no parameter {unknown[0]!r}; it has {', '.join(allowed)}")
    return factory(**parameters)
