"""What every inference method takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from bayes_pmm.posterior import Posterior

__all__ = ["Draws", "Method", "Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the total; from several threads."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws from a posterior.

    Parameters
    ----------
    sites : dict of arrays (chain, draw, ...)
        Values of the latent sites, constrained.
    stats : dict of arrays (chain, draw)
        Sampler statistics under ArviZ's names.
    info : dict
        Plain values about the run: ``sampler``, ``chains``, ``warmup``, ``draws``, ``seconds`` (without
        compilation), ``basins``, and whatever else the method reports (``pareto_k``).
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Method(Protocol):
    """A frozen object that holds an inference method's settings."""

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Draw from the posterior; resume from the folder ``checkpoint`` if it holds an interrupted run."""
        ...
