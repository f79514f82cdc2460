"""Inference methods: frozen objects with one protocol (:mod:`bayes_pmm.inference.protocol`)."""

from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

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
    "as_method",
    "method_by_name",
    "method_of",
    "settings_of",
]

METHODS = {
    "auto": Auto,
    "nuts": NUTS,
    "manifold": Manifold,
    "variational": Variational,
    "laplace": Laplace,
    "smc": TemperedSMC,
}
SAMPLERS = tuple(METHODS)

ELSEWHERE = {
    "tune": "warmup",
    "num_warmup": "warmup",
    "num_samples": "draws",
    "samples": "draws",
    "num_chains": "chains",
    "random_seed": "key, an argument of fit",
    "seed": "key, an argument of fit",
}
"""What settings are called in other packages."""


def method_by_name(
    name: str,
    chains: int = 4,
    warmup: int | None = None,
    draws: int = 1000,
    guide: str | None = None,
    exact: Method | None = None,
) -> Method:
    """Method from its name; what is None has the method's own default.

    Raises
    ------
    InputError
        If there is no such method, or it has no such setting.
    """
    kind = METHODS.get(name)
    if kind is None:
        raise InputError(f"sampler '{name}' is unknown; use one of {', '.join(SAMPLERS)}")
    lengths = {"chains": chains, "warmup": warmup, "draws": draws}
    given = {k: v for k, v in (lengths | {"guide": guide, "exact": exact}).items() if v is not None}
    for setting in given:
        if setting not in _settings(kind):
            having = ", ".join(other for other, kind in METHODS.items() if setting in _settings(kind))
            raise InputError(
                f"{setting}: the sampler {name} has no such setting, only {having}; leave it out"
            )
    return kind(**given)


def _settings(kind: type) -> set[str]:
    return {f.name for f in fields(kind)}


def as_method(method: Any, **settings: Any) -> Method:
    """A method by its name with default settings, or the method itself; with some settings changed.

    Raises
    ------
    InputError
        If it is neither, or has no such setting.
    """
    if isinstance(method, str):
        method = method_by_name(method)
    if isinstance(method, type) or not isinstance(method, Method):
        raise InputError(
            f"method = {method!r} is no method; give a name such as 'auto' or settings such as bp.NUTS(draws=2000)"
        )
    if not settings:
        return method
    known: set[str] = _settings(type(method)) if is_dataclass(type(method)) else set()
    for name in sorted(settings.keys() - known):
        name_of_others = ELSEWHERE.get(name)
        advice = (
            f"it is called {name_of_others}"
            if name_of_others
            else f"it has {', '.join(sorted(known)) or 'none'}"
        )
        raise InputError(f"{type(method).__name__} has no setting '{name}'; {advice}")
    own: Any = method  # a dataclass, or it would have none of the settings
    return replace(own, **settings)


def settings_of(method: Method) -> dict[str, Any] | None:
    """A method's name and settings as plain values, or None for a method that is not of this package.

    What belongs to one posterior or one process is left out: starting points already found, controls to be judged at,
    a pilot's rule, and the method whose draws an approximation was compared with.
    """
    name = next((name for name, kind in METHODS.items() if type(method) is kind), None)
    if name is None:
        return None
    values = {f.name: getattr(method, f.name) for f in fields(METHODS[name])}
    plain: dict[str, Any] = {
        k: v for k, v in values.items() if v is None or isinstance(v, bool | int | float | str)
    }
    if isinstance(found := values.get("starts"), AnnealedStarts):
        plain["starts"] = asdict(found)
    return {"name": name} | {k: v for k, v in plain.items() if k not in ("exact", "pilot")}


def method_of(info: dict[str, Any]) -> Method:
    """The method that draws were made with, from their ``info``; of older fits only its name and lengths.

    Raises
    ------
    InputError
        If it is not one of this package.
    """
    if "method" not in info and info["sampler"] in METHODS:
        # Fits that were saved before settings were kept have these alone.
        kind = METHODS["auto" if "choice" in info else info["sampler"]]
        return kind(
            **{
                k: v
                for k in ("chains", "warmup", "draws", "guide")
                if k in _settings(kind) and (v := info.get(k))
            }
        )
    settings = dict(info.get("method") or {})
    if not settings:
        raise InputError(
            f"the fit is by a method of one's own ({info['sampler']}); say how to refit: give a method"
        )
    kind = METHODS[settings.pop("name")]
    if "starts" in settings:
        settings["starts"] = AnnealedStarts(**settings["starts"])
    return kind(**settings)
