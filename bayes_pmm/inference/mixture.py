r"""A Student-t mixture fitted to draws and made symmetric under the discrete gauge: a density near the posterior.

In the unconstrained coordinates x the discrete gauge acts by signs, x → s_g ∘ x: the real field flips off-diagonal
elements, the complex one imaginary parts. The posterior has the same density at all images, :math:`|G|` of them. So has

.. math:: q(x) = \frac{1}{|G|} \sum_{g} \sum_k w_k \, t_ν(s_g ∘ x;\, m_k, C_k),

whose components are fitted to the draws after each was brought to the image nearest to a component. A sum over images
knows no boundary between them: what a component sends into the region of another image is counted there.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from bayes_pmm import gauge
from bayes_pmm.posterior import Posterior

__all__ = ["SignedMixture", "fit_mixture", "image_signs"]

NU = 8.0
"""Degrees of freedom: tails heavier than the posterior's, at little cost in its body."""

SIZES = (1, 2, 4, 8)
"""Numbers of components that are tried."""

MOST_TERMS = 512
"""Components times images, at most: the cost of the density."""

ROUNDS = 20
"""Rounds of nearest-image clustering, and of expectation maximisation."""


def image_signs(posterior: Posterior) -> np.ndarray:
    """Signs (G, d) by which the discrete gauge acts on the flat unconstrained vector, the identity among them."""
    sites = jax.eval_shape(posterior.prior_sites, jax.random.key(0))
    ones = {k: np.ones(v.shape) for k, v in sites.items()}
    n = posterior.dim
    m = n * (n - 1) // 2
    images = [ones]
    if posterior.prior.gauge != "none":
        if posterior.pmm.field == "real":
            i, j = np.triu_indices(n, 1)
            flips = [(s[i] * s[j])[None, :] for s in gauge.sign_patterns(n)]
            images = [ones | {k: ones[k] * f for k in ("offdiagonal",) if k in ones and n > 1} for f in flips]
        else:
            halves = {"first_offdiagonal": m - n + 1, "offdiagonal": m}
            conjugate = {
                k: np.where(np.arange(ones[k].shape[1]) < half, 1.0, -1.0) * ones[k]
                for k, half in halves.items()
                if k in ones
            }
            images = [ones, ones | conjugate]
    return np.unique(np.stack([np.asarray(ravel_pytree(image)[0]) for image in images]), axis=0)


@dataclass(frozen=True, eq=False)
class SignedMixture:
    """Symmetric mixture of multivariate Student-t densities.

    Parameters
    ----------
    weights : array (K,)
    means : array (K, d)
    factors : array (K, d, d)
        Lower Cholesky factors of the scale matrices C_k.
    signs : array (G, d)
        From :func:`image_signs`; one row of ones leaves the symmetry out.
    nu : float
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    signs: np.ndarray
    nu: float = NU

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws (count, d), in random images."""
        d = self.means.shape[1]
        which = rng.choice(len(self.weights), size=count, p=self.weights)
        z = rng.normal(size=(count, d)) * np.sqrt(self.nu / rng.chisquare(self.nu, size=(count, 1)))
        x = self.means[which] + np.einsum("sij,sj->si", self.factors[which], z)
        return x * self.signs[rng.integers(len(self.signs), size=count)]

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density (S,) at points (S, d)."""
        d = self.means.shape[1]
        constant = gammaln((self.nu + d) / 2) - gammaln(self.nu / 2) - d / 2 * np.log(self.nu * np.pi)
        total = np.full(len(x), -np.inf)
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            inverse = solve_triangular(factor, np.eye(d), lower=True)
            offset = constant + np.log(weight) - np.log(np.diag(factor)).sum() - np.log(len(self.signs))
            for s in self.signs:
                # The image of x is taken by changing signs in the factor, which is smaller.
                z = x @ (inverse * s).T - inverse @ mean
                square = np.einsum("si,si->s", z, z)
                total = np.logaddexp(total, offset - (self.nu + d) / 2 * np.log1p(square / self.nu))
        return total


def fit_mixture(x: np.ndarray, signs: np.ndarray, rng: np.random.Generator) -> SignedMixture:
    """Mixture whose number of components predicts the later third of the draws best.

    Parameters
    ----------
    x : array (chain, draw, d)
        The components' weights follow the chains' shares of the draws.
    signs : array (G, d)
    rng : numpy.random.Generator
        For the first centres.

    Returns
    -------
    SignedMixture
    """
    d = x.shape[-1]
    cut = 2 * x.shape[1] // 3
    early, late = x[:, :cut].reshape(-1, d), x[:, cut:].reshape(-1, d)
    # A component on fewer draws than dimensions knows nothing of its own.
    sizes = [k for k in SIZES if k == 1 or (k * d <= len(early) and k * len(signs) <= MOST_TERMS)]
    scores = [np.mean(_fit(early, signs, k, rng).log_density(late)) for k in sizes]
    return _fit(x.reshape(-1, d), signs, sizes[int(np.argmax(scores))], rng)


def _fit(x: np.ndarray, signs: np.ndarray, size: int, rng: np.random.Generator) -> SignedMixture:
    """Mixture of at most a number of components, by clustering over images and expectation maximisation."""
    y, cluster = _cluster(x, signs, size, rng)
    count, d = y.shape
    share = np.eye(size)[cluster]
    for _ in range(ROUNDS):
        share = share[:, share.sum(0) > 1]
        n = share.sum(0)
        means = (share.T @ y) / n[:, None]
        deviations = y[None] - means[:, None]
        scatter = np.einsum("ks,ksi,ksj->kij", share.T, deviations, deviations, optimize=True)
        # Shrunk towards the pooled scatter, as if d more draws had been seen.
        pooled = scatter.sum(0) / count
        C = (scatter + d * pooled) / (n + d)[:, None, None]
        factors = np.linalg.cholesky(C + 1e-12 * np.diag(np.diag(pooled)))
        z = np.stack([solve_triangular(L, e.T, lower=True) for L, e in zip(factors, deviations, strict=True)])
        log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_p = (np.log(n / count) - log_det)[:, None] - 0.5 * (z**2).sum(1)
        share = np.exp(log_p - logsumexp(log_p, axis=0)).T
    return SignedMixture(n / n.sum(), means, factors, signs)


def _cluster(
    x: np.ndarray, signs: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images (S, d) of draws (S, d) nearest to one of a number of centres, and which centre: two arrays."""
    centres, unit = x[:1], np.maximum(np.sqrt(np.mean(x**2, axis=0)), np.finfo(float).tiny)
    for _ in range(5):
        y, _, _ = _nearest(x, centres, unit, signs)
        centres = y.mean(0, keepdims=True)
        unit = np.maximum(y.std(0), 1e-12 * unit)
    for _ in range(size - 1):
        distance = np.maximum(_nearest(x, centres, unit, signs)[2], 0) + np.finfo(float).tiny
        new = y[rng.choice(len(y), p=distance / distance.sum())]
        centres = np.concatenate([centres, new[None]])
    for _ in range(ROUNDS):
        y, cluster, _ = _nearest(x, centres, unit, signs)
        members = [y[cluster == k] for k in range(size)]
        centres = np.stack([m.mean(0) if len(m) else c for m, c in zip(members, centres, strict=True)])
    return y, cluster


def _nearest(x: np.ndarray, centres: np.ndarray, unit: np.ndarray, signs: np.ndarray) -> tuple:
    """Nearest image (S, d) of each draw to any centre, that centre's index (S,), and the squared distance (S,)."""
    a, c = x / unit, centres / unit
    images = (c[:, None, :] * signs[None]).reshape(-1, x.shape[1])
    distance = (a**2).sum(1)[:, None] + (images**2).sum(1)[None] - 2 * a @ images.T
    best = distance.argmin(1)
    cluster, image = np.divmod(best, len(signs))
    return x * signs[image], cluster, distance[np.arange(len(x)), best]
