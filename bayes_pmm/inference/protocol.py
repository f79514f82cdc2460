"""What every inference method takes and returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import as_whole, plain_numbers

__all__ = [
    "Draws",
    "Method",
    "Progress",
    "at_least",
    "check_exact",
    "floors_of",
    "outputs_of",
    "prior_draws",
    "silent",
]

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
        Plain values about the run.

        - Of every method: ``sampler``, ``chains``, ``draws``, ``seconds`` (of sampling, without compilation).
        - Of Markov chains: ``warmup``, ``thin``, ``basins`` (the starts'), ``failed_steps_share`` of the manifold
          sampler's worst chain.
        - Of approximations: ``pareto_k``, ``elbo``, ``guide``, ``log_evidence``, ``against_exact``.
        - Of ``auto``: ``choice``, the reasons in words.
        - From :func:`~bayes_pmm.fit`: ``modes`` (chains and mass of each), ``total_seconds``, ``method`` (name and
          settings). From :func:`~bayes_pmm.with_mode_masses`: ``masses_by``, ``masses_doubted``.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)

    def __repr__(self):
        chains, length = self.shape
        name = self.info.get("sampler", "a method of one's own")
        return f"Draws by {name}: {chains} chains x {length}, sites {', '.join(self.sites)}"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of chains, and of draws of each."""
        return np.shape(next(iter(self.sites.values())))[:2]

    @property
    def n_unknowns(self) -> int:
        """Numbers in a draw."""
        return sum(int(np.prod(np.shape(v)[2:])) for v in self.sites.values())

    def flat(self, chains: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Sites (S, ...) of all chains, or of some, one after the other."""
        some = slice(None) if chains is None else list(chains)
        return {k: np.asarray(v)[some].reshape(-1, *np.shape(v)[2:]) for k, v in self.sites.items()}


def outputs_of(posterior: Posterior, draws: Draws, c: np.ndarray) -> np.ndarray:
    """Outputs of the PMM (chain, draw, N, Q) at controls c (N, p)."""
    values = np.asarray(posterior.outputs_of_draws(draws.flat(), jnp.asarray(c)))
    return values.reshape(*draws.shape, *values.shape[1:])


def prior_draws(posterior: Posterior, key: jax.Array, count: int) -> Draws:
    """Independent draws of all sites from the prior, as one chain."""
    sites = jax.jit(jax.vmap(posterior.prior_sites))(jax.random.split(key, count))
    return Draws({k: np.asarray(v)[None] for k, v in sites.items()}, {}, {"sampler": "prior"})


def floors_of(posterior: Posterior, draws: Draws) -> np.ndarray:
    """Learned floors (chain, draw, Q) in the user's units; zeros where none is learned."""
    if posterior.noise.floor:
        return np.asarray(draws.sites["floor"])
    return np.zeros((*draws.shape, posterior.data.n_outputs))


def at_least(settings: Any, **least: int) -> None:
    """Check that numbers among a method's settings are whole and large enough; NumPy's become Python's.

    Raises
    ------
    InputError
        For the first that is not.
    """
    plain_numbers(settings)
    for name, smallest in least.items():
        if as_whole(name, getattr(settings, name)) < smallest:
            raise InputError(f"{name} = {getattr(settings, name)} is too few; use at least {smallest}")


def check_exact(exact: Any) -> None:
    """Check the exact sampler that an approximation is compared with, before anything is computed.

    Raises
    ------
    InputError
        If it is given and is no method.
    """
    if exact is not None and (isinstance(exact, type) or not isinstance(exact, Method)):
        raise InputError(
            f"exact = {exact!r} is no method; give settings such as bp.NUTS(draws=2000), or leave it out"
        )


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
