"""Modes: chains that agree on all outputs, and how much mass each group of them has.

Chains that sit in different modes are not draws of one distribution, and pooling them gives each the weight of its
starting points, however badly it fits. Their masses come from how well each predicts every datum from the others,
averaged over Bayesian bootstraps of the data (pseudo-BMA+: Yao, Vehtari, Simpson, Gelman, Bayesian Analysis 13, 917,
2018). That is not the posterior probability of a mode, but it does not need the chains to cross. Modes that the data
hardly tell apart share the mass by their numbers of chains; plain stacking would give one of them all of it, and the
band would be narrowest where the chains disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from numpyro.diagnostics import split_gelman_rubin
from scipy import optimize
from scipy.special import logsumexp, softmax

from bayes_pmm.convergence import FEWEST, psis
from bayes_pmm.inference.protocol import Draws, floors_of
from bayes_pmm.posterior import Posterior

__all__ = [
    "Mode",
    "chain_weights",
    "find_modes",
    "median_floor",
    "pseudo_bma_weights",
    "stacking_weights",
    "weights_of",
]

BOOTSTRAPS = 1000
AGREE = 1.2
"""Two chains are in one mode where the split R-hat of every output over the two of them is below this: well above
what chains of a hundred effective draws show by chance, well below that of separate modes."""


@dataclass(frozen=True)
class Mode:
    """Chains that agree on all outputs.

    Parameters
    ----------
    chains : tuple of int
    mass : float
        Its weight; all masses add up to 1.
    pareto_k : float, optional
        Largest tail index of the importance weights that the mass comes from; None where none were used.
    """

    chains: tuple[int, ...]
    mass: float
    pareto_k: float | None = None


def find_modes(posterior: Posterior, draws: Draws, outputs: np.ndarray, key: jax.Array) -> tuple[Mode, ...]:
    """Modes, heaviest first; all chains are one where they are too short to tell.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
    outputs : array (chain, draw, N, Q)
        At all controls of interest.
    key : PRNG key
        For the bootstraps.
    """
    groups = _groups(outputs.reshape(*outputs.shape[:2], -1))
    if len(groups) == 1:
        return (Mode(groups[0], 1.0),)
    pointwise = jax.jit(lambda s: jax.lax.map(posterior.pointwise, s, batch_size=64))
    rows, cols = np.nonzero(posterior.data.mask)
    left_out, tails = [], []
    for chains in groups:
        density, k = _leave_one_out(np.asarray(pointwise(draws.flat(chains)))[:, rows, cols])
        left_out.append(density)
        tails.append(k)
    masses = pseudo_bma_weights(np.stack(left_out, axis=1), key, [len(chains) for chains in groups])
    found = [Mode(chains, float(mass), k) for chains, mass, k in zip(groups, masses, tails, strict=True)]
    return tuple(sorted(found, key=lambda m: -m.mass))


def chain_weights(modes: Sequence[Mode]) -> np.ndarray:
    """Weight (chain,) of a draw of each chain, 1 in the mean."""
    weights = np.zeros(sum(len(m.chains) for m in modes))
    for mode in modes:
        weights[list(mode.chains)] = mode.mass / len(mode.chains)
    return weights * len(weights)


def weights_of(draws: Draws) -> np.ndarray:
    """Weight (chain,) of the draws of each chain: 1 unless the chains are in different modes."""
    modes = draws.info.get("modes")
    if not modes:
        return np.ones(draws.shape[0])
    return chain_weights([Mode(tuple(m["chains"]), m["mass"]) for m in modes])


def median_floor(posterior: Posterior, draws: Draws, weights: np.ndarray) -> np.ndarray:
    """Learned floor (Q,) of each output: the median of every chain's draws, averaged with the chains' weights.

    Zeros where none is learned.
    """
    return np.average(np.median(floors_of(posterior, draws), axis=1), axis=0, weights=weights)


def stacking_weights(log_density: np.ndarray) -> np.ndarray:
    """Weights (K,) on the simplex that maximise Σ_i log Σ_k w_k exp(log_density_ik).

    Parameters
    ----------
    log_density : array (M, K)
        Log predictive density of each left-out datum under each model or mode.

    References
    ----------
    Yao, Vehtari, Simpson, Gelman, Bayesian Analysis 13, 917 (2018), section 3.1.
    """
    p = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    K = p.shape[1]
    mixed = lambda w: np.maximum(p @ w, 1e-300)
    # A concave problem; where models are nearly alike, expectation maximisation would need millions of steps.
    found = optimize.minimize(
        lambda w: -np.mean(np.log(mixed(w))),
        np.full(K, 1 / K),
        jac=lambda w: -np.mean(p / mixed(w)[:, None], axis=0),
        bounds=[(0.0, 1.0)] * K,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    ).x
    w = np.maximum(found, 0.0)
    return w / w.sum()


def pseudo_bma_weights(
    log_density: np.ndarray, key: jax.Array, prior: Sequence[float] | None = None
) -> np.ndarray:
    """Pseudo-BMA+ weights (K,): exp of the summed log densities, averaged over Bayesian bootstraps of the data.

    Parameters
    ----------
    log_density : array (M, K)
        Log predictive density of each left-out datum under each of K models or modes.
    key : PRNG key
    prior : sequence (K,), optional
        Weights before the data; equal if not given.
    """
    M, K = log_density.shape
    shares = np.asarray(jax.random.dirichlet(key, np.ones(M), (BOOTSTRAPS,)))
    z = M * shares @ log_density + np.log(np.ones(K) if prior is None else prior)
    return softmax(z, axis=1).mean(0)


def _groups(outputs: np.ndarray) -> list[tuple[int, ...]]:
    """Connected components of chains that agree pairwise: outputs (chain, draw, R)."""
    chains = len(outputs)
    found: list[set[int]] = []
    for i in range(chains):
        near = {i} | {j for j in range(chains) if j != i and _agree(outputs[[i, j]])}
        for group in [g for g in found if g & near]:
            near |= group
            found.remove(group)
        found.append(near)
    return [tuple(sorted(g)) for g in sorted(found, key=lambda g: (-len(g), min(g)))]


def _agree(pair: np.ndarray) -> bool:
    moving = np.ptp(pair, axis=(0, 1)) > 0
    if not moving.any() or pair.shape[1] < FEWEST:
        return True
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = split_gelman_rubin(pair[..., moving])
    return bool(np.max(rhat) < AGREE)


def _leave_one_out(log_likelihood: np.ndarray) -> tuple[np.ndarray, float]:
    """Log predictive density (M,) of each datum given the others, by PSIS, from draws (S, M), and the largest k."""
    weights, k = psis(-log_likelihood.T)
    return logsumexp(weights + log_likelihood.T, axis=1), float(np.max(k))
