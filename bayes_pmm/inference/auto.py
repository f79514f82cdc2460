"""Auto: NUTS where the noise is large, else the manifold sampler; goes on, or falls back, if draws do not suffice."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bayes_pmm.convergence import DIVERGENT_SHARE, ESS, RHAT, divergent_share, judged, rhat_and_ess
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.manifold import Manifold, step_seconds
from bayes_pmm.inference.nuts import NUTS, PILOT
from bayes_pmm.inference.protocol import Draws, Method, Progress, at_least, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts, check_starts
from bayes_pmm.posterior import Posterior

__all__ = ["Auto"]

logger = logging.getLogger(__name__)

MANY_DATA = 150
"""Projections cost the cube of the number of data. Where the limit lies is a judgement, not yet a measurement."""

PILOT_FAILED, PILOT_ACCEPTED = 0.5, 0.3
"""Share of failed steps above which, and acceptance below which, the warm-up is in trouble."""

PILOT_STEPS = 600
"""Steps a draw in NUTS's pilot above which the manifold sampler is cheaper: 160 to 350 where NUTS was, and 930 to 1023
where it was not (docs/studies/sampling.md, "Which sampler")."""

GOAL_RHAT, GOAL_ESS, GOAL_DRAWS = RHAT, ESS, 4000
"""R-hat and ESS that so many draws should reach; fewer draws are held to as much less."""

TROUBLE_RHAT, TROUBLE_ESS = 1.05, 100.0
"""Beyond these after the longer run the other sampler is tried on the same starting points."""

LARGE_NOISE = 0.03
"""Noise, by :func:`_noise`, from which on NUTS comes first (docs/studies/sampling.md, "Which sampler")."""

NUTS_NOISE = 3e-4
"""Noise, in units of the spread, below which NUTS is no help: its cost grows like 1/noise. A judgement: between 1e-3,
where it is slow, and 1e-4."""

MOST_ATTEMPTS = 5
"""Attempts of a plan at most: NUTS twice and the manifold sampler three times; or NUTS that gives way, the manifold
sampler three times, and NUTS after all."""

CHEAP = 180.0
"""Seconds of one core, by estimate, that a chain's third run may take. It follows from the data, the dimension and the
number of steps, not from a clock, so that the same data and key give the same draws. How long is a judgement."""

MARGIN = 1.5
"""How many times the ESS that is wanted a longer run aims at, as the estimate that it starts from is a rough one."""

MEMORY = 64
"""Draws of the first run that a longer one takes its first metric from."""


@dataclass(frozen=True, kw_only=True)
class Auto:
    """NUTS at noises of :data:`LARGE_NOISE` and above, the manifold sampler below; ``info["choice"]`` says why.

    The first windows of the manifold sampler's warm-up are its pilot, and the first of NUTS's where that comes first:
    where it needs very many steps, the manifold sampler takes its place (a warm-up of at most 100 draws has no pilot).
    Where draws do not suffice (R-hat and ESS of the outputs at the training controls, as far again from their centre
    and ``at``, or divergent transitions), a sampler goes on from where its chains are, with as many transitions for
    each draw as its first run lets expect to suffice, ``longer`` at most. NUTS does so only where that many should
    suffice; after it comes the manifold sampler. That goes on once more, by more than ``longer``, where its chains mix
    and so many should suffice and are cheap (:data:`CHEAP`): a mode that is rarely visited shows itself only in a long
    run. Where that does not help either and the noise is not small, NUTS is tried if it was not.

    Parameters
    ----------
    chains, draws : int
    warmup : int, optional
        Warm-up draws of each chain; by default 500, and 1000 for NUTS where the manifold sampler is no choice or was in
        trouble.
    longer : int
        Transitions for each draw of the second run at most; 1 for no second run, and no third.
    starts : AnnealedStarts or Starts
        Found once, for every attempt.
    at : tuple of tuples of float
        Controls at which outputs must suffice too, of shape (P, p). :func:`~bayes_pmm.fit` puts its prediction controls
        in their place, and a refit the data that were left out.

    Raises
    ------
    InputError
        If a number is too small, or not whole.
    """

    chains: int = 4
    draws: int = 1000
    warmup: int | None = None
    longer: int = 4
    starts: AnnealedStarts | Starts = field(default_factory=AnnealedStarts)
    at: tuple[tuple[float, ...], ...] = field(default=(), repr=False)

    def __post_init__(self):
        at_least(self, chains=1, draws=4, longer=1)
        check_starts(self.starts)
        if self.warmup is not None:
            at_least(self, warmup=10)
        object.__setattr__(self, "at", tuple(tuple(map(float, np.atleast_1d(point))) for point in self.at))

    def run(
        self,
        posterior: Posterior,
        key: jax.Array,
        *,
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Draws:
        """Choose and draw; see :class:`~bayes_pmm.inference.protocol.Method`.

        ``info`` has ``choice``, the reasons in words, and ``sampler``, the one whose draws these are.
        """
        key_start, *keys = jax.random.split(key, 1 + MOST_ATTEMPTS)
        progress("starts", 0, 1)
        found = self.starts.find(posterior, key_start, self.chains)
        progress("starts", 1, 1)
        attempts: list[_Attempt] = []
        choice: list[str] = []
        lost = 0.0
        for (name, method, reason), k in zip(self._plan(posterior, found, attempts), keys, strict=False):
            logger.info("auto: %s, because %s", name, reason)
            choice.append(reason)
            folder = None if checkpoint is None else checkpoint / name
            began = time.perf_counter()
            try:
                draws = method.run(posterior, k, progress=_of_attempt(progress, name), checkpoint=folder)
            except BayesPMMError as error:
                # A full disk or a foreign checkpoint is no sampler's fault.
                if isinstance(error, InputError) or isinstance(error.__cause__, OSError):
                    raise
                attempts.append(_Attempt(error=error))
                lost += time.perf_counter() - began
            else:
                attempts.append(_Attempt(draws, *_convergence(posterior, draws, self.at)))
        drawn = [(a, a.draws) for a in attempts if a.draws is not None]
        if not drawn:
            raise [a.error for a in attempts if a.error is not None][-1]
        # A sampler's longer run replaces its first one, even where the R-hat of that was better because it had not
        # seen a mode that is rarely visited.
        last = {draws.info["sampler"]: (a, draws) for a, draws in drawn}
        total = self.chains * self.draws
        _, best = min(last.values(), key=lambda found: (not found[0].reached(total), found[0].rhat))
        seconds = lost + sum(draws.info["seconds"] for _, draws in drawn)
        text = f"{best.info['sampler']}: {'; '.join(choice)}"
        if not attempts[-1].reached(total):
            text += f"; {attempts[-1].trouble}"
        return dataclasses.replace(best, info=best.info | {"choice": text, "seconds": seconds})

    def _plan(
        self, posterior: Posterior, found: Starts, attempts: list["_Attempt"]
    ) -> Iterator[tuple[str, Method, str]]:
        """Name of the attempt's folder, method and reason of each attempt, given what those before it came to."""
        total = self.chains * self.draws
        warm = lambda default: default if self.warmup is None else self.warmup
        nuts = NUTS(chains=self.chains, warmup=warm(1000), draws=self.draws, starts=found)
        if unfit := _unfit_for_manifold(posterior):
            # What the manifold sampler is not made for it does not get as a fallback either.
            yield "nuts", nuts, unfit
            return
        noise = _noise(posterior, found)
        large = noise >= LARGE_NOISE
        if large:
            first = dataclasses.replace(nuts, warmup=warm(500), pilot=_few_steps)
            yield "nuts", first, f"noise about {noise:.1g} of the spread, where NUTS comes first"
            if attempts[-1].reached(total):
                return
            if attempts[-1].near(total, self.longer):
                yield "nuts_longer", *self._longer(first, found, attempts[-1])
                if attempts[-1].reached(total):
                    return
        manifold = Manifold(
            chains=self.chains, warmup=warm(500), draws=self.draws, starts=found, pilot=_pilot
        )
        reason = f"noise about {noise:.1g} of the spread, {posterior.data.n_observed} data"
        yield "manifold", manifold, attempts[-1].trouble if large else reason
        if attempts[-1].reached(total):
            return
        if attempts[-1].draws is not None and self.longer > 1:
            yield "manifold_longer", *self._longer(manifold, found, attempts[-1])
            if attempts[-1].reached(total):
                return
            # Chains that stay apart say nothing of how long a run would be that mixes them.
            mixing = attempts[-1].draws is not None and attempts[-1].rhat <= TROUBLE_RHAT
            affordable = _affordable(posterior, attempts[-1].draws) if mixing else 0
            if affordable > self.longer and attempts[-1].near(total, affordable):
                yield "manifold_longest", *self._longer(manifold, found, attempts[-1], affordable)
                if attempts[-1].reached(total):
                    return
        tried = large and attempts[0].draws is not None
        if not tried and (attempts[-1].draws is None or (attempts[-1].in_trouble and noise >= NUTS_NOISE)):
            yield "nuts_after", nuts, attempts[-1].trouble

    def _longer(
        self, method: Manifold | NUTS, found: Starts, before: "_Attempt", most: int | None = None
    ) -> tuple[Method, str]:
        """The method from where its chains are now, with more transitions for each draw, and the reason."""
        times = min(before.lacking(self.chains * self.draws), self.longer if most is None else most)
        assert before.draws is not None  # what did not draw has nowhere to go on from
        rest = _going_on(found, before.draws)
        reason = f"{before.trouble}, went on {times} times as long"
        return dataclasses.replace(method, thin=times, starts=rest, pilot=None), reason


def _of_attempt(progress: Progress, name: str) -> Progress:
    """Progress whose stages say which attempt they are of: where one ends and another begins the count starts anew."""
    return lambda stage, done, total: progress(f"{stage}, {name.replace('_', ' ')}", done, total)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """What a sampler came to: draws with the largest R-hat and the smallest ESS of outputs, or its error."""

    draws: Draws | None = None
    rhat: float = np.inf
    ess: float = 0.0
    error: BayesPMMError | None = None

    def reached(self, total: int) -> bool:
        """Whether R-hat, ESS and divergent transitions are as they should be after so many draws of all chains."""
        share = min(total / GOAL_DRAWS, 1.0)
        converged = self.rhat <= 1 + (GOAL_RHAT - 1) / share and self.ess >= GOAL_ESS * share
        return converged and self.divergent <= DIVERGENT_SHARE

    def lacking(self, total: int) -> int:
        """How many transitions for each draw should suffice, at least twice those that there were.

        ESS grows like them, R-hat − 1 falls like them.
        """
        share = min(total / GOAL_DRAWS, 1.0)
        lack = max(GOAL_ESS * share / max(self.ess, 1.0), (self.rhat - 1) * share / (GOAL_RHAT - 1))
        return int(np.ceil(np.clip(MARGIN * lack, 2, 1e6))) * self.thin

    def near(self, total: int, most: int) -> bool:
        """Whether so many transitions for each draw should suffice."""
        return self.draws is not None and self.divergent <= DIVERGENT_SHARE and self.lacking(total) <= most

    @property
    def thin(self) -> int:
        """Transitions for each draw."""
        return 1 if self.draws is None else self.draws.info.get("thin", 1)

    @property
    def divergent(self) -> float:
        """Share of divergent transitions."""
        return 0.0 if self.draws is None else divergent_share(self.draws.stats, self.draws.info)

    @property
    def in_trouble(self) -> bool:
        return not (self.rhat <= TROUBLE_RHAT and self.ess >= TROUBLE_ESS)

    @property
    def trouble(self) -> str:
        if self.draws is None:
            return str(self.error)
        diverged = "" if self.divergent <= DIVERGENT_SHARE else f", with {self.divergent:.1%} divergent"
        return f"{self.draws.info['sampler']} came to R-hat {self.rhat:.3f} and ESS {self.ess:.0f}{diverged}"


def _going_on(found: Starts, draws: Draws) -> Starts:
    """Starts where the chains are now; a choice of the draws stands for the posterior's widths."""
    at = lambda chain, draw: {k: jnp.asarray(v[chain, draw]) for k, v in draws.sites.items()}
    chains, length = draws.shape
    apart = max(1, chains * length // MEMORY)
    ensemble = tuple(at(c, d) for c in range(chains) for d in range(length - 1, -1, -apart))
    return Starts([at(c, -1) for c in range(chains)], found.basins, ensemble)


def _affordable(posterior: Posterior, draws: Draws) -> int:
    """How many transitions for each draw of the manifold sampler :data:`CHEAP` allows, by the steps of these draws."""
    steps = float(draws.stats["n_steps"].mean()) / draws.info.get("thin", 1)
    once = step_seconds(posterior.data.n_observed, draws.n_unknowns) * steps
    return int(CHEAP / (once * draws.stats["n_steps"].shape[1]))


def _unfit_for_manifold(posterior: Posterior) -> str | None:
    """Why the manifold sampler is not made for the posterior, or None."""
    data = posterior.data.n_observed
    if data > MANY_DATA:
        return f"{data} data are many for projections (limit {MANY_DATA})"
    if posterior.matrix_prior.prior.gauge == "none":
        return "without the gauge fixed the manifold has flat directions"
    return None


def _few_steps(stats: dict[str, np.ndarray]) -> None:
    """End NUTS's run where its draws need so many steps that the manifold sampler is cheaper."""
    steps = stats["n_steps"][:, PILOT // 2 :].mean()
    if not steps <= PILOT_STEPS:
        raise BayesPMMError(f"NUTS needs {steps:.0f} steps for a draw, more than it is worth")


def _pilot(stats: dict[str, np.ndarray]) -> None:
    """End the manifold sampler's run where its warm-up speaks against it."""
    failed, accepted = stats["failed_steps"].mean(), stats["acceptance_rate"].mean()
    if not failed <= PILOT_FAILED:
        raise BayesPMMError(f"{100 * failed:.0f} % of the steps failed in the manifold sampler's warm-up")
    if not accepted >= PILOT_ACCEPTED:
        raise BayesPMMError(f"the manifold sampler's warm-up accepted only {100 * accepted:.0f} %")


def _noise(posterior: Posterior, found: Starts) -> float:
    """Least noise of an output in units of its spread: known errors, or what the first start leaves of its data."""
    data, noise = posterior.data, posterior.data.rms_errors
    if posterior.noise.floor:
        # The floor of a start is one level for all outputs, and says little of each.
        left = np.asarray(jax.jit(posterior.outputs)(found.sites[0], data.controls)) - data.values
        noise = np.maximum(noise, np.sqrt(np.nanmean(left**2, axis=0)))
    return float(np.min(noise / np.asarray(posterior.scaling.spread)))


def _convergence(
    posterior: Posterior, draws: Draws, at: tuple[tuple[float, ...], ...]
) -> tuple[float, float]:
    """Largest R-hat and smallest ESS of floors and of outputs at the data, as far again from their centre, and ``at``.

    Controls beyond the data need not be in the domain of the basis; its terms can be continued always.
    """
    phi = np.asarray(posterior.terms(posterior.data.controls))
    parts = [phi, 2 * phi - phi.mean(0)] + ([np.asarray(posterior.terms(np.asarray(at)))] if at else [])
    everywhere = jnp.asarray(np.concatenate(parts))
    one = lambda sites: posterior.evaluate_at(posterior.matrix_prior.assemble(sites), everywhere)
    outputs = np.asarray(jax.jit(lambda s: jax.lax.map(one, s, batch_size=64))(draws.flat()))
    outputs = outputs.reshape(*draws.shape, -1)
    if not np.isfinite(outputs).all():
        return np.inf, 0.0
    rhat, ess = rhat_and_ess(judged(outputs, draws.sites.get("floor"), posterior.scaling.spread))
    moving = ~np.isnan(rhat)
    if not moving.any():
        return np.inf, 0.0
    return float(np.max(rhat[moving])), float(np.min(ess[moving]))
