r"""Log evidence (marginal likelihood) of a fit, by bridge or importance sampling, and by nested sampling as a check.

.. math:: Z = \int p(y | θ)\, p(θ)\, dθ

is taken over *all* images of the matrices under the discrete gauge: 2^(n-1) sign patterns in the real field, 2 in the
complex one. A sampler may stay in one image; the proposal density q is therefore a mixture summed over the images
(:mod:`bayes_pmm.inference.mixture`). Posterior and q then have the same values at all images of a draw, so it does not
matter in which of them a chain sat.

That symmetry does *not* merge inequivalent matrices that share all outputs, 2^((n-1)(n-2)/2) of them for one affine
control and levels only. They are separate regions of the posterior, and only those count that the chains visited or the
proposal reaches: **an estimate from chains that missed some is too low**. Many starts, several chains and nested
sampling, which starts from the whole prior, are the remedy.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.diagnostics import effective_sample_size
from scipy.special import logsumexp

from bayes_pmm.convergence import PARETO_K
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import Fit, as_fit, as_posterior, rediagnosed
from bayes_pmm.inference.importance import FlatPosterior, pareto_k
from bayes_pmm.inference.mixture import SignedMixture, fit_mixture, image_signs
from bayes_pmm.inference.modes import Mode
from bayes_pmm.inference.nested import NestedSampling
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import as_key, as_whole, stream

__all__ = [
    "METHODS",
    "Evidence",
    "bridge",
    "importance",
    "log_evidence",
    "nested_log_evidence",
    "with_mode_masses",
]

METHODS = ("auto", "bridge", "importance")

LARGE_SE = 0.5
"""Standard error above which a log evidence is not to be used: factors of e^(2 × 0.5) are then by chance."""

FEW = 50.0
"""Effective number of bounded terms below which their variance, and so the standard error, is itself a guess."""

BLOCK = 512

DISAGREE = 3.0
"""Two estimates disagree beyond this many combined standard errors."""


@dataclass(frozen=True)
class Evidence:
    """Log evidence with its error.

    Parameters
    ----------
    log_z : float
        Natural logarithm of the density of the data, in the data's units: a change of units adds a constant, the same
        for all models of the same data.
    se : float
        Standard error.
    method : {"bridge", "importance", "nested"}
    pareto_k : float or None
        Tail index of what is averaged: the importance weights, or the larger one of the bridge's two kinds of terms;
        None for nested sampling. The bridge's terms are bounded, so that a large k harms it only where few of them
        count.
    effective : float or None
        Effective number of terms in the poorer of the averages; None for nested sampling.
    images : int
        Order of the discrete gauge group as it acts on the coordinates.
    parameters : int
        Number of unconstrained coordinates.
    reasons : tuple of str
        Why it is not to be trusted as it stands; empty if nothing was noticed.
    check : Evidence or None
        An independent estimate that this one was compared with.
    modes : tuple of Mode
        Where chains stay in separate modes, each with its share of the evidence, which is its posterior probability
        among those that chains found; heaviest first, and empty for nested sampling, which knows no chains.
    """

    log_z: float
    se: float
    method: str
    pareto_k: float | None
    effective: float | None
    images: int
    parameters: int
    reasons: tuple[str, ...] = ()
    check: "Evidence | None" = None
    modes: tuple[Mode, ...] = ()

    @property
    def status(self) -> str:
        """``ok`` or ``suspect``."""
        return "suspect" if self.reasons else "ok"

    def checked(self, other: "Evidence") -> "Evidence":
        """Compare with an independent estimate of the same evidence: a disagreement becomes a reason."""
        apart, error = abs(self.log_z - other.log_z), float(np.hypot(self.se, other.se))
        reasons = self.reasons
        if not apart <= DISAGREE * error:
            low = self.method if self.log_z < other.log_z else other.method
            reasons += (
                f"{self.method} {self.log_z:.2f} ± {self.se:.2f} and {other.method} {other.log_z:.2f} ±"
                f" {other.se:.2f} differ by more than {DISAGREE:.0f} combined standard errors; the lower one, {low},"
                " may have missed part of the posterior",
            )
        return replace(self, reasons=reasons, check=other)

    def __str__(self):
        lines = [f"log evidence {self.log_z:.2f} ± {self.se:.2f} ({self.method}), status: {self.status}"]
        if len(self.modes) > 1:
            each = ", ".join(f"{m.mass:.2g} in chains {', '.join(map(str, m.chains))}" for m in self.modes)
            lines.append(f"masses of modes: {each}")
        return "\n".join([*lines, *(f"  - {reason}" for reason in self.reasons)])

    __repr__ = __str__


def log_evidence(
    fit: Fit,
    *,
    key: jax.Array | int | np.integer,
    method: str = "auto",
    proposals: int = 20_000,
    check: bool | NestedSampling = False,
) -> Evidence:
    """Log evidence of a fit's posterior, from its draws.

    The proposal is fitted to the first half of each chain and bridged to the second, and the other way round; the mean
    of the two is returned. (Fitting and averaging over neighbouring draws is biased: the proposal then knows the draws
    that judge it.) Where the chains stay in separate modes, each mode is bridged on its own part of the space, the part
    in which its proposal is the largest, and the parts are added; nothing depends on how many chains a mode has.

    Parameters
    ----------
    fit : Fit
    key : PRNG key or int
    method : {"auto", "bridge", "importance"}
        ``auto`` bridges draws of a Markov chain, and weighs proposals alone where the fit is an approximation, whose
        draws are not of the posterior.
    proposals : int
        Draws of the proposal for each half.
    check : bool or NestedSampling
        Compare with nested sampling (minutes), by default settings or these.

    Returns
    -------
    Evidence
        A lower bound in tendency: what neither chains nor proposal reached is missing, and no error shows it; see the
        module's text on inequivalent matrices.

    Raises
    ------
    InputError
        For an unknown method, draws that are too few, or a posterior sampled without the reference gauge.
    BayesPMMError
        If the posterior is not finite at any proposal, or chains never moved.

    References
    ----------
    Meng, Wong, Statistica Sinica 6, 831 (1996); Frühwirth-Schnatter, Econometrics J. 7, 143 (2004) for the error;
    Gronau et al., J. Math. Psych. 81, 80 (2017).
    """
    posterior, draws = as_fit(fit).posterior, fit.draws
    key, proposals = as_key(key), as_whole("proposals", proposals)
    if not isinstance(check, bool | NestedSampling):
        raise InputError(f"check = {check!r}: use True, False or NestedSampling(...)")
    if method not in METHODS:
        raise InputError(f"method '{method}' is unknown; use one of {', '.join(METHODS)}")
    if posterior.prior.gauge == "none" and posterior.dim > 1:
        raise InputError(
            "without the reference gauge the posterior has flat directions; use Prior(gauge='reference')"
        )
    approximate = "pareto_k" in draws.info
    if approximate and method == "bridge":
        raise InputError(
            f"{draws.info['sampler']} draws from an approximation, which cannot be bridged; use method='importance'"
        )
    chains, count = draws.shape
    d = draws.n_unknowns
    if chains * (count // 2) < 2 * d + 10:
        raise InputError(f"{chains * count} draws are too few for {d} parameters; draw longer")
    if proposals < 100:
        raise InputError(f"proposals = {proposals} is too few; use at least 100")
    how = "importance" if approximate or method == "importance" else "bridge"
    x, density = _flat(posterior, draws.sites)
    signs = image_signs(posterior)
    groups = _chains_of_modes(draws)
    for group in groups:
        if np.any(np.ptp(x[list(group)], axis=(0, 1)) == 0):
            raise BayesPMMError(
                f"chains {', '.join(map(str, group))} never moved, so their draws say nothing of an evidence; fit again"
            )
    half = count // 2
    halves = (x[:, :half], x[:, half:])
    found = []
    for k, (fitted, judged) in zip(jax.random.split(key, 2), (halves, halves[::-1]), strict=True):
        rng = np.random.default_rng(np.asarray(jax.random.key_data(k)))
        mixtures = [fit_mixture(fitted[list(g)], signs, rng) for g in groups]
        if how == "importance":
            found.append(_weigh_all(mixtures, [len(g) / chains for g in groups], density, rng, proposals))
        else:
            found.append(_bridge_all(mixtures, [judged[list(g)] for g in groups], density, rng, proposals))
    z, se, tail, effective, masses = (np.array(v) for v in zip(*found, strict=True))
    # The halves' difference sees what the formula cannot: a chain that was elsewhere in its first half.
    error = max(float(np.hypot(*se)) / 2, abs(z[0] - z[1]) / 2)
    modes = [Mode(g, float(m)) for g, m in zip(groups, masses.mean(0), strict=True)]
    evidence = Evidence(
        float(z.mean()),
        float(error),
        how,
        float(tail.max()),
        float(effective.min()),
        len(signs),
        d,
        modes=tuple(sorted(modes, key=lambda m: -m.mass)),
    )
    evidence = replace(evidence, reasons=_reasons(evidence, fit))
    if check:
        settings = NestedSampling() if check is True else check
        nested = nested_log_evidence(posterior, settings, key=stream(key, "nested sampling"))
        evidence = evidence.checked(nested)
    return evidence


def with_mode_masses(fit: Fit, evidence: Evidence) -> Fit:
    """The same fit with its modes weighed by their shares of the evidence instead of by left-out data.

    The shares are posterior probabilities among the modes that chains found; what :func:`~bayes_pmm.fit.fit` gives them
    asks how well each predicts. Bands, status and all else follow; chains in one mode weigh alike as before.

    Parameters
    ----------
    fit : Fit
    evidence : Evidence
        Of this fit, by :func:`log_evidence`.

    Raises
    ------
    InputError
        If the evidence is of another fit, or of nested sampling.
    """
    if not isinstance(evidence, Evidence):
        raise InputError(f"evidence = {evidence!r} is none; give log_evidence(fit, key=0)")
    draws = as_fit(fit).draws
    theirs, own = sorted(m.chains for m in evidence.modes), sorted(_chains_of_modes(draws))
    if theirs != own:
        raise InputError(
            f"the evidence has chains {theirs or 'none'} in its modes and the fit {own}; give log_evidence(fit,"
            " key=0) of this very fit"
        )
    info = {"modes": [vars(m) for m in evidence.modes], "masses_by": f"{evidence.method} sampling"}
    info["masses_doubted"] = "; ".join(evidence.reasons)
    return rediagnosed(replace(fit, draws=replace(draws, info=draws.info | info)))


def nested_log_evidence(
    posterior: Posterior | Fit, settings: NestedSampling | None = None, *, key: jax.Array | int | np.integer
) -> Evidence:
    """Log evidence by nested sampling from the prior, for checking; minutes, and more for small noise.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior.
    settings : NestedSampling, optional
    key : PRNG key or int

    Returns
    -------
    Evidence
        Its error is that of the random shrinkage alone. Where images under the discrete gauge were lost on the way, a
        reason says so: the value is then too low by about the logarithm of what was lost.

    Raises
    ------
    BayesPMMError
        If the run does not end.
    """
    posterior, key = as_posterior(posterior), as_key(key)
    run = (settings or NestedSampling()).run(posterior, key)
    signs = image_signs(posterior)
    reasons: tuple[str, ...] = ()
    if run.images < run.order:
        reasons = (
            f"nested sampling kept {run.images} of {run.order} images of the matrices and is too low by about"
            f" {np.log(run.order / run.images):.1f}; use more live points",
        )
    return Evidence(run.log_z, run.se, "nested", None, None, len(signs), signs.shape[1], reasons)


def bridge(
    log_ratio_draws: np.ndarray, log_ratio_proposals: np.ndarray
) -> tuple[float, float, float, tuple[np.ndarray, np.ndarray]]:
    r"""Bridge sampling with the optimal bridge function.

    Parameters
    ----------
    log_ratio_draws : array (chain, draw)
        log p(x, y) − log q(x) at draws of the posterior; NaN for a draw to be left out.
    log_ratio_proposals : array (S,)
        The same at draws of q; −∞ where the posterior has no density.

    Returns
    -------
    log_z, se : float
        The fixed point of Meng and Wong's iteration, and its standard error with the draws' autocorrelation, from the
        effective sample size of their terms over all chains.
    effective : float
        Effective number of terms in the poorer of the two averages: the inverse of its relative variance.
    terms : tuple of arrays
        Logarithms of the terms at the proposals and at the draws, both averages bounded.

    Raises
    ------
    BayesPMMError
        If the iteration does not settle.

    References
    ----------
    Meng, Wong (1996), eq. 4.1; Frühwirth-Schnatter (2004), eq. 16.
    """
    keep = ~np.isnan(log_ratio_draws)
    a, b = log_ratio_draws[keep], log_ratio_proposals
    n_draws, n_proposals = len(a), len(b)
    # Correlated draws count as their effective number, which depends on the terms and those on it: two passes.
    effective, r = float(n_draws), float(np.median(a))
    for _ in range(2):
        share = np.log([effective, n_proposals]) - np.log(effective + n_proposals)
        for _ in range(1000):
            at_proposals = b - np.logaddexp(share[0] + b, share[1] + r)
            at_draws = -np.logaddexp(share[0] + a, share[1] + r)
            before, r = r, _log_mean(at_proposals) - _log_mean(at_draws)
            if abs(r - before) < 1e-10:
                break
        else:
            raise BayesPMMError("bridge sampling: the iteration does not settle; draw longer")
        effective = _effective(np.exp(at_draws - at_draws.max()), keep)
    parts = np.array(
        [_relative_variance(at_proposals) / n_proposals, _relative_variance(at_draws) / effective]
    )
    return (
        r,
        float(np.sqrt(parts.sum())),
        float(1 / np.maximum(parts.max(), 1e-300)),
        (at_proposals, at_draws),
    )


def importance(log_ratio: np.ndarray) -> tuple[float, float]:
    """Log mean of weights and its standard error from their logarithms (S,), log p(x, y) − log q(x)."""
    return _log_mean(log_ratio), float(np.sqrt(_relative_variance(log_ratio) / len(log_ratio)))


def _chains_of_modes(draws: Draws) -> list[tuple[int, ...]]:
    """Chains of each mode; all of them where they agree, or were not looked at."""
    found = [tuple(m["chains"]) for m in draws.info.get("modes") or []]
    return found or [tuple(range(draws.shape[0]))]


def _flat(posterior: Posterior, sites: dict):
    """Unconstrained draws (chain, draw, d), and the log posterior density (S,) of such vectors (S, d)."""
    sites = {k: jnp.asarray(v) for k, v in sites.items()}
    flat = FlatPosterior.at(posterior, {k: v[0, 0] for k, v in sites.items()})
    ravel = jax.jit(jax.vmap(jax.vmap(lambda s: ravel_pytree(posterior.unconstrain(s))[0])))
    compiled = jax.jit(jax.vmap(flat.log_density))

    def density(x: np.ndarray) -> np.ndarray:
        # Blocks of one size, the last one filled up: one compilation serves all counts.
        filled = np.concatenate([x, np.repeat(x[-1:], -len(x) % BLOCK, axis=0)])
        blocks = np.split(filled, len(filled) // BLOCK)
        values = np.concatenate([np.asarray(compiled(jnp.asarray(b))) for b in blocks])[: len(x)]
        return np.where(np.isnan(values), -np.inf, values)

    x = np.asarray(ravel(sites))
    if not np.isfinite(x).all():
        raise BayesPMMError("log evidence: some draws lie at the edge of the prior's support; draw again")
    return x, density


def _bridge_all(
    mixtures: list[SignedMixture], judged: list[np.ndarray], density, rng: np.random.Generator, proposals: int
) -> tuple[float, float, float, float, np.ndarray]:
    """Log evidence, its error, Pareto k, effective number of terms, masses: the modes' parts of the space added up."""
    parts, errors, ks, counts = [], [], [], []
    for mode, (own, draws) in enumerate(zip(mixtures, judged, strict=True)):
        chains, count, d = draws.shape
        new = own.sample(rng, proposals)
        ratios = []
        for x in (draws.reshape(-1, d), new):
            log_q = np.stack([m.log_density(x) for m in mixtures])
            mine = log_q.argmax(0) == mode
            ratios.append((density(x) - log_q[mode], mine))
        (at_draws, kept), (at_new, reached) = ratios
        at_new = np.where(reached, at_new, -np.inf)
        if not np.isfinite(at_new).any() or not np.isfinite(at_draws[kept]).any():
            raise BayesPMMError("log evidence: the proposal misses the posterior altogether; draw longer")
        value, error, effective, terms = bridge(
            np.where(kept, at_draws, np.nan).reshape(chains, count), at_new
        )
        parts.append(value)
        errors.append(error)
        ks.append(max(pareto_k(t) for t in terms))
        counts.append(effective)
    total = logsumexp(parts)
    shares = np.exp(np.array(parts) - total)
    # A mode without mass does not matter, however badly it is known.
    heavy = np.flatnonzero(shares > 1e-3)
    return (
        float(total),
        float(np.sqrt(np.sum((shares * errors) ** 2))),
        max(ks[i] for i in heavy),
        min(counts[i] for i in heavy),
        shares,
    )


def _weigh_all(
    mixtures: list[SignedMixture], shares: list[float], density, rng: np.random.Generator, proposals: int
) -> tuple[float, float, float, float, np.ndarray]:
    """The same by importance sampling: proposals from each mode's mixture, weighed against all of them."""
    counts = np.maximum(1, np.round(np.array(shares) * proposals).astype(int))
    x = np.concatenate([m.sample(rng, n) for m, n in zip(mixtures, counts, strict=True)])
    each = np.stack([m.log_density(x) for m in mixtures])
    weights = density(x) - logsumexp(each + np.log(counts / len(x))[:, None], axis=0)
    if not np.isfinite(weights).any():
        raise BayesPMMError("log evidence: the proposal misses the posterior altogether; draw longer")
    value, error = importance(weights)
    # A mode is the part of the space in which its mixture is the largest, as for the bridge.
    mass = np.bincount(each.argmax(0), np.exp(weights - weights.max()), len(mixtures))
    return value, error, pareto_k(weights), 1 / max(error**2, 1e-300), mass / mass.sum()


def _instead(evidence: Evidence, fit: Fit) -> str:
    if "pareto_k" in fit.draws.info:
        return "sample instead of approximating"
    return "draw longer" if evidence.method == "bridge" else "bridge instead of weighing, or draw longer"


def _reasons(evidence: Evidence, fit: Fit) -> tuple[str, ...]:
    reasons = []
    if not evidence.se <= LARGE_SE:
        reasons.append(f"standard error {evidence.se:.2f} is above {LARGE_SE}; draw longer")
    k, terms = evidence.pareto_k, evidence.effective
    # Nested sampling has neither.
    heavy = k is not None and not k <= PARETO_K
    if heavy and terms is not None and (evidence.method == "importance" or not terms >= FEW):
        reasons.append(
            f"Pareto k {k:.2f} is above {PARETO_K} and {terms:.0f} terms decide: the"
            f" proposal hardly covers the posterior; {_instead(evidence, fit)}"
        )
    if fit.status != "ok":
        reasons.append(f"the fit itself is {fit.status}, and its evidence is no better")
    return tuple(reasons)


def _effective(terms: np.ndarray, keep: np.ndarray) -> float:
    """Effective number of terms (M,) that fill the kept places of (chain, draw)."""
    series = np.full(keep.shape, terms.mean())
    series[keep] = terms
    if np.ptp(series) == 0:
        return float(len(terms))
    return float(np.clip(effective_sample_size(series), 1.0, len(terms)))


def _log_mean(log_terms: np.ndarray) -> float:
    return float(logsumexp(log_terms) - np.log(len(log_terms)))


def _relative_variance(log_terms: np.ndarray) -> float:
    terms = np.exp(log_terms - log_terms.max())
    return float(terms.var() / terms.mean() ** 2)
