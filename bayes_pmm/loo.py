r"""Leave-one-out by importance sampling, with moment matching where that fails, and refits where this fails too.

The draws of p(θ | y) get the weights 1/p(y_i | θ), whose largest are smoothed by a generalised Pareto distribution;
its index k says whether they can stand for p(θ | y_{-i}). Where they cannot, the unconstrained draws are moved: shifted
to the mean, scaled to the variances, mapped to the covariance that the weights imply, as long as k falls.

**Leave-one-out scores interpolation.** Almost every left-out datum has neighbours on both sides. A model with the
better score may have the worse band outside the data; ask :func:`~bayes_pmm.validation.leave_future_out` about that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import logsumexp

from bayes_pmm import scores
from bayes_pmm.convergence import psis
from bayes_pmm.data import Dataset
from bayes_pmm.diagnostics import LIMITS
from bayes_pmm.errors import BayesPMMError, InputError, status_lines
from bayes_pmm.fit import Fit, as_fit
from bayes_pmm.inference import Method, as_method
from bayes_pmm.judging import mixture
from bayes_pmm.settings import as_key, stream
from bayes_pmm.validation import Refit, refit_without
from bayes_pmm.widening import Widening

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Loo", "loo"]

ROUNDS = 30

FAR_OUT = 6.0
"""From so many standard deviations on few draws of a refit decide about the density of what it left out."""
"""Transformations tried for one datum, at most."""


@dataclass(frozen=True, eq=False)
class Loo:
    """Log predictive density of each datum given all others. It scores interpolation and no band outside the data.

    Parameters
    ----------
    data : Dataset
    row, output : integer array (M,)
        Of the observed data.
    log_density : array (M,)
        In log of 1/unit of the output.
    in_sample : array (M,)
        The same with the datum among the data.
    pareto_k : array (M,)
        Of the last weights used, NaN after a refit, infinite where there is no tail to judge by, or the value lies so
        far out that few draws of the refit decide.
    how : tuple of {"psis", "moment matching", "refit"} (M,)
    limit : float
        Largest k that is trusted: 0.7, or less where there are few draws.
    refits : tuple of Refit
    status, reasons
        Of the fit.
    """

    data: Dataset
    row: np.ndarray
    output: np.ndarray
    log_density: np.ndarray
    in_sample: np.ndarray
    pareto_k: np.ndarray
    how: tuple[str, ...]
    limit: float
    refits: tuple[Refit, ...] = ()
    status: str = "ok"
    reasons: tuple[str, ...] = ()

    @property
    def elpd(self) -> float:
        """Sum of the log densities."""
        return float(self.log_density.sum())

    @property
    def se(self) -> float:
        """Standard error of :attr:`elpd`, as of independent data."""
        return float(np.sqrt(len(self.row)) * self.log_density.std(ddof=1)) if len(self.row) > 1 else np.nan

    @property
    def p_loo(self) -> float:
        """Effective number of parameters: what knowing each datum itself adds."""
        return float(np.sum(self.in_sample - self.log_density))

    @property
    def above(self) -> np.ndarray:
        """Which of the M data have densities that are not to be trusted: k above the limit, infinite far out."""
        return np.flatnonzero(
            [
                k > self.limit or (h != "refit" and np.isnan(k))
                for h, k in zip(self.how, self.pareto_k, strict=True)
            ]
        )

    @property
    def pointwise(self) -> np.ndarray:
        """Log densities (N, Q), NaN where there is no datum."""
        table = np.full(self.data.values.shape, np.nan)
        table[self.row, self.output] = self.log_density
        return table

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per datum, as a pandas DataFrame."""
        import pandas as pd

        columns = {"row": self.row}
        scores = {"output": np.array(self.data.output_names)[self.output], "log_density": self.log_density}
        scores |= {"pareto_k": self.pareto_k, "how": self.how}
        return pd.DataFrame(columns | self.data.control_columns(self.row, (*columns, *scores)) | scores)

    def __str__(self):
        counts = ", ".join(f"{self.how.count(h)} by {h}" for h in dict.fromkeys(self.how))
        lines = [
            *status_lines(self.status, self.reasons),
            f"elpd {self.elpd:.1f} ± {self.se:.1f}, p_loo {self.p_loo:.1f}, {len(self.row)} data: {counts}",
        ]
        names = [f"{self.data.output_names[self.output[i]]} in row {self.row[i]}" for i in self.above]
        if names:
            lines.append(
                f"Pareto k above {self.limit:.2f}, not to be trusted: {', '.join(names)}; pass refit="
            )
        lines += [f"  {r.name}: {r.status}: {'; '.join(r.reasons)}" for r in self.refits if r.reasons]
        return "\n".join([*lines, "scores interpolation, says nothing about bands outside the data"])

    __repr__ = __str__


def loo(
    fit: Fit,
    *,
    moment_matching: bool = True,
    refit: Method | str | None = None,
    key: jax.Array | int | np.integer | None = None,
) -> Loo:
    """PSIS-LOO of a fit, datum by datum.

    It scores interpolation and is no guide to the band outside the data.

    Parameters
    ----------
    fit : Fit
        Its chains' weights are obeyed, and so are the importance weights of an approximation.
    moment_matching : bool
        Move the draws for data with k above the limit.
    refit : Method or str, optional
        Refit without each datum whose k stays above the limit, in the units of all data. What is left out is one
        output of one row.
    key : PRNG key or int, optional
        For refits; the fit's own if not given.

    Returns
    -------
    Loo

    Raises
    ------
    InputError
        If the fit has too few draws.

    References
    ----------
    Vehtari, Gelman, Gabry, Stat. Comput. 27, 1413 (2017); Paananen, Piironen, Bürkner, Vehtari, Stat. Comput. 31, 16
    (2021), arXiv:1906.08850.
    """
    fit = as_fit(fit)
    data, refit = fit.posterior.data, None if refit is None else as_method(refit)
    rows, cols = np.nonzero(data.mask)
    x, base, evaluate = _flat(fit)
    S = len(x)
    if S < 25:
        raise InputError(f"{S} draws are too few for leave-one-out by importance sampling; draw at least 25")
    limit = min(LIMITS.pareto_k, 1 - 1 / np.log10(S))
    # Of all draws, as the diagnosis counts: S is of those that have weight.
    ess, total = fit.diagnosis.min_ess, int(np.prod(fit.draws.shape))
    r_eff = min(1.0, ess / total) if ess is not None and ess > 0 else 1.0
    lp, ll = evaluate(x)
    weights, k = psis((base[:, None] - ll).T, r_eff)
    density = logsumexp(weights + ll.T, axis=1)
    in_sample = logsumexp(base[:, None] + ll, axis=0) - logsumexp(base)
    how = ["psis"] * len(rows)
    if moment_matching:
        for i in np.flatnonzero(~(k <= limit)):
            matched = _match(i, x, lp, ll[:, i], base, evaluate, limit, r_eff)
            if matched is not None:
                density[i], k[i] = matched
                how[i] = "moment matching"
    refits = []
    if refit is not None:
        key = stream(fit.key, "loo") if key is None else as_key(key)
        # The outermost rows count as outside once they are left out, but what is scored is the model's own density.
        bare = replace(fit.posterior, widening=Widening(0.0))
        for i in np.flatnonzero(~(k <= limit)):
            left = np.zeros(data.values.shape, bool)
            left[rows[i], cols[i]] = True
            title = f"{data.output_names[cols[i]]} in row {rows[i]}"
            try:
                found = refit_without(bare, left, refit, jax.random.fold_in(key, int(i)), keep_units=True)
            except BayesPMMError as error:
                # Its density stays that of the importance weights, and its k says so.
                refits.append(Refit(title, "failed", (str(error),), (int(rows[i]),)))
                continue
            mean, sd, w = mixture(found, data.controls[rows[i], None], data.errors[rows[i], None])
            m, s, y = mean[:, 0, cols[i]], sd[:, 0, cols[i]], data.values[rows[i], cols[i]]
            density[i] = scores.log_score(m, y, sd=s, weights=w)
            centre = np.average(m, weights=w)
            z = abs(y - centre) / np.sqrt(np.average(s**2 + (m - centre) ** 2, weights=w))
            k[i], how[i], reasons = np.nan, "refit", found.reasons
            if z > FAR_OUT:
                k[i] = np.inf
                reasons += (f"the value lies {z:.0f} standard deviations out, where few draws decide",)
            refits.append(Refit(title, found.status, reasons, (int(rows[i]),)))
    judged = (fit.status, fit.reasons)
    return Loo(data, rows, cols, density, in_sample, k, tuple(how), float(limit), tuple(refits), *judged)


def _flat(fit: Fit) -> tuple[np.ndarray, np.ndarray, Callable]:
    """Unconstrained draws (S, d), their log weights (S,), and x -> log posterior (S,), log likelihoods (S, M)."""
    posterior, draws = fit.posterior, fit.draws
    rows, cols = np.nonzero(posterior.data.mask)
    training = tuple(jnp.asarray(a) for a in posterior.training)
    z = jax.jit(jax.vmap(posterior.unconstrain))(draws.flat())
    _, unravel = ravel_pytree(jax.tree.map(lambda v: v[0], z))
    x = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(z))
    with np.errstate(divide="ignore"):
        base = np.repeat(np.log(fit.weights), draws.shape[1])
    base = base + draws.stats["log_weight"].ravel() if "log_weight" in draws.stats else base

    def one(x):
        z = unravel(x)
        return -posterior.potential(z, *training), posterior.pointwise(posterior.constrain(z))[rows, cols]

    compiled = jax.jit(lambda x: jax.lax.map(one, x, batch_size=64))

    def evaluate(x):
        return tuple(np.asarray(v) for v in compiled(jnp.asarray(x)))

    used = np.isfinite(base)
    return x[used], base[used], evaluate


def _match(i, x, lp, ll, base, evaluate, limit, r_eff) -> tuple[float, float] | None:
    """Log density and k of datum i from moved draws; None if no move lowered k."""
    d = x.shape[1]
    A, b = np.eye(d), np.zeros(d)
    moved = x
    weights, k = psis(base - ll, r_eff)
    started = k
    plain = np.exp(base - logsumexp(base))
    for _ in range(ROUNDS):
        if k <= limit:
            break
        for kind in ("shift", "scale", "map"):
            step = _step(kind, moved, plain, np.exp(weights))
            if step is None:
                continue
            B, shift = step
            trial = moved @ B.T + shift
            lp_trial, ll_trial = evaluate(trial)
            # The moved draws' own density is that of the draws they came from, up to the constant determinant.
            ratios = base + lp_trial - ll_trial[:, i] - lp
            ratios = np.where(np.isfinite(ratios), ratios, -np.inf)
            if not np.isfinite(ratios).any():
                continue
            weights_trial, k_trial = psis(ratios, r_eff)
            if k_trial < k:
                A, b, moved, weights, k = B @ A, B @ b + shift, trial, weights_trial, k_trial
                break
        else:
            break
    if not k < started:
        return None
    # The density of y_i needs draws of both posteriors, with and without it: half of them are moved, and all are
    # weighed against the mixture of the two.
    first = (np.arange(len(x)) % 2 == 0)[:, None]
    half = np.where(first, x @ A.T + b, x)
    back = np.where(first, x, np.linalg.solve(A, (x - b).T).T)
    lp_half, ll_half = evaluate(half)
    ll_half = ll_half[:, i]
    lp_back, _ = evaluate(back)
    lp_back = np.where(np.isnan(lp_back), -np.inf, lp_back) - np.linalg.slogdet(A)[1]
    ratios = base + lp_half - ll_half - np.logaddexp(lp_half, lp_back)
    weights, k_half = psis(np.where(np.isfinite(ratios), ratios, -np.inf), r_eff)
    return float(logsumexp(weights + np.where(np.isfinite(ll_half), ll_half, -np.inf))), float(max(k, k_half))


def _step(kind: str, x: np.ndarray, plain: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Affine map that gives draws of weights ``plain`` the moments of weights ``w``; None if there is none."""
    mean, target = plain @ x, w @ x
    old, new = x - mean, x - target
    if kind == "shift":
        B = np.eye(x.shape[1])
    elif kind == "scale":
        B = np.diag(np.sqrt((w @ new**2) / (plain @ old**2)))
    else:
        try:
            L_old = np.linalg.cholesky((plain * old.T) @ old)
            L_new = np.linalg.cholesky((w * new.T) @ new)
        except np.linalg.LinAlgError:
            # Too few draws have weight for a covariance of all coordinates.
            return None
        B = L_new @ np.linalg.inv(L_old)
    return (B, target - B @ mean) if np.isfinite(B).all() and np.linalg.det(B) != 0 else None
