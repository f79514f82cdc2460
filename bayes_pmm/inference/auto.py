"""Auto: looks at the noise and the size, tries the manifold sampler briefly, picks, and falls back if need be."""

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference.manifold import Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import Draws, Progress, at_least, outputs_of, silent
from bayes_pmm.inference.start import AnnealedStarts, Starts
from bayes_pmm.posterior import Posterior

__all__ = ["Auto"]

logger = logging.getLogger(__name__)

MANY_DATA = 150
"""Projections cost the cube of the number of data. Where the limit lies is a judgement, not yet a measurement."""

PILOT = (60, 40)
"""Warm-up and draws of the pilot run."""

PILOT_FAILED, PILOT_ACCEPTED = 0.5, 0.3
"""Share of failed steps above which, and acceptance below which, the pilot is in trouble."""

TROUBLE_RHAT, TROUBLE_ESS = 1.05, 100.0
"""Beyond these the other sampler is tried on the same starting points."""


@dataclass(frozen=True)
class Auto:
    """The manifold sampler where it works, NUTS otherwise; ``info["choice"]`` says why.

    Parameters
    ----------
    chains, draws : int
    warmup : int, optional
        Warm-up draws of each chain; by default 500 for the manifold sampler and 1000 for NUTS.
    starts : AnnealedStarts
        Found once, for the pilot and for every attempt.
    """

    chains: int = 4
    draws: int = 1000
    warmup: int | None = None
    starts: AnnealedStarts = field(default_factory=AnnealedStarts)

    def __post_init__(self):
        at_least(self, chains=1, draws=4)
        if self.warmup is not None and self.warmup < 10:
            raise InputError(f"warmup = {self.warmup} is too few; use at least 10")

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
        key_start, key_pilot, *keys = jax.random.split(key, 4)
        progress("starts", 0, 1)
        found = _Found(self.starts.find(posterior, key_start, self.chains))
        progress("starts", 1, 1)
        warm = lambda default: default if self.warmup is None else self.warmup  # noqa: E731
        manifold = Manifold(self.chains, warm(500), self.draws, starts=found)
        nuts = NUTS(self.chains, warm(1000), self.draws, starts=found)
        unfit = self._unfit_for_manifold(posterior)
        reason = unfit or self._pilot(posterior, found, key_pilot)
        # What the manifold sampler is not made for it does not get as a fallback either.
        order = [nuts] if unfit else [nuts, manifold] if reason else [manifold, nuts]
        choice = [reason or _for_manifold(posterior, found)]
        attempts: list[tuple[float, Draws]] = []
        for method, k in zip(order, keys, strict=False):
            name = type(method).__name__.lower()
            logger.info("auto: %s, because %s", name, choice[-1])
            folder = None if checkpoint is None else checkpoint / name
            try:
                draws = method.run(posterior, k, progress=progress, checkpoint=folder)
            except BayesPMMError as error:
                if checkpoint is not None and isinstance(error.__cause__, OSError):
                    raise  # a full disk is no sampler's fault
                if method is order[-1] and not attempts:
                    raise
                choice.append(f"{name} gave up: {error}")
                continue
            rhat, ess = _convergence(posterior, draws)
            attempts.append((rhat if np.isfinite(rhat) else np.inf, draws))
            if rhat <= TROUBLE_RHAT and ess >= TROUBLE_ESS:
                break
            choice.append(f"{name} reported trouble (R-hat {rhat:.2f}, ESS {ess:.0f})")
        best = min(attempts, key=lambda a: a[0])[1]
        seconds = sum(d.info["seconds"] for _, d in attempts)
        text = "; ".join([f"{best.info['sampler']}: {choice[0]}", *choice[1:]])
        return dataclasses.replace(best, info=best.info | {"choice": text, "seconds": seconds})

    def _unfit_for_manifold(self, posterior: Posterior) -> str | None:
        """Why the manifold sampler is not made for the posterior, or None."""
        data = posterior.data.n_observed
        if data > MANY_DATA:
            return f"{data} data are many for projections (limit {MANY_DATA})"
        if posterior.matrix_prior.prior.gauge == "none":
            return "without the gauge fixed the manifold has flat directions"
        return None

    def _pilot(self, posterior: Posterior, found: "_Found", key: jax.Array) -> str | None:
        """What speaks against the manifold sampler in a few draws of it, or None."""
        pilot = Manifold(self.chains, *PILOT, starts=found)
        try:
            stats = pilot.run(posterior, key).stats
        except BayesPMMError as error:
            return f"the pilot of the manifold sampler failed ({error})"
        failed, accepted = stats["failed_steps"].mean(), stats["acceptance_rate"].mean()
        if not failed <= PILOT_FAILED:
            return f"{100 * failed:.0f} % of the steps failed in the manifold sampler's pilot"
        if not accepted >= PILOT_ACCEPTED:
            return f"the manifold sampler's pilot accepted only {100 * accepted:.0f} %"
        return None


@dataclass(frozen=True, eq=False)
class _Found:
    """Starts that were found before."""

    starts: Starts

    def find(self, posterior: Posterior, key: jax.Array, chains: int) -> Starts:  # noqa: ARG002
        return self.starts


def _for_manifold(posterior: Posterior, found: _Found) -> str:
    errors, sites = posterior.data.rms_errors, found.starts.sites[0]
    floor = np.asarray(sites["floor"]) if posterior.noise.floor else 0.0
    noise = np.min(np.sqrt(errors**2 + floor**2) / np.asarray(posterior.scaling.spread))
    return f"noise about {noise:.1g} of the spread, {posterior.data.n_observed} data, pilot without trouble"


def _convergence(posterior: Posterior, draws: Draws) -> tuple[float, float]:
    """Largest split R-hat and smallest ESS of the outputs at the training controls."""
    outputs = outputs_of(posterior)(draws, posterior.data.controls)
    outputs = outputs.reshape(*outputs.shape[:2], -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat, ess = split_gelman_rubin(outputs), effective_sample_size(outputs)
    moving = np.ptp(outputs, axis=(0, 1)) > 0
    if not moving.any():
        return np.inf, 0.0
    return float(np.max(rhat[moving])), float(np.min(ess[moving]))
