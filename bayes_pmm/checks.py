"""Prior and posterior predictive checks: statistics of the data among those of replicated data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bayes_pmm.errors import InputError, status_lines
from bayes_pmm.fit import Fit, as_fit, as_posterior
from bayes_pmm.inference.protocol import prior_draws
from bayes_pmm.judging import mixture
from bayes_pmm.posterior import Posterior
from bayes_pmm.predict import outputs_at, with_noise
from bayes_pmm.scores import against
from bayes_pmm.settings import as_key, as_whole, stream

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STATISTICS", "PredictiveCheck", "Statistic", "predictive_check", "prior_predictive"]


def prior_predictive(
    posterior: Posterior | Fit, controls: Any = None, *, key: jax.Array | int | np.integer, draws: int = 500
) -> dict[str, np.ndarray]:
    """Outputs that the prior expects before it sees the data.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior. Its units are those of its data, as always.
    controls : array (N, p), optional
        The training controls if not given.
    key : PRNG key or int
    draws : int

    Returns
    -------
    dict
        ``model`` (the PMM alone), ``latent`` and ``predictive``: array (draws, N, Q), independent draws.
    """
    key = as_key(key)
    key_sites, key_noise = jax.random.split(key)
    posterior = as_posterior(posterior)
    drawn = prior_draws(posterior, key_sites, _enough(draws))
    outputs = outputs_at(posterior, drawn, posterior.data.controls if controls is None else controls)
    kinds = {"model": outputs} | with_noise(posterior, drawn, outputs, key_noise)
    return {kind: values[0] for kind, values in kinds.items()}


def _enough(draws: int) -> int:
    if as_whole("draws", draws) < 2:
        raise InputError(f"draws = {draws} is too few; use at least 2")
    return int(draws)


Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From one output's values (S, n) and their controls (n, p) to a number each (S,)."""


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Where statistics of the data lie among those of replicated data.

    Parameters
    ----------
    kind : {"posterior", "prior"}
    statistics, output_names : tuple of str
    observed : array (K, Q)
        Statistics of the data; of ``residuals`` their mean over draws.
    replicated : array (K, Q, S)
    pit : array (K, Q)
        Probability of a replicated statistic below the observed one, ties counted half.
    p_value : array (K, Q)
        Two-sided: twice the smaller tail.
    status, reasons
        Of the fit; ``ok`` for the prior, which needs none.
    """

    kind: str
    statistics: tuple[str, ...]
    output_names: tuple[str, ...]
    observed: np.ndarray
    replicated: np.ndarray
    pit: np.ndarray
    p_value: np.ndarray
    status: str = "ok"
    reasons: tuple[str, ...] = ()

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per statistic and output, as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(
            [
                (s, o, self.observed[k, q], self.pit[k, q], self.p_value[k, q])
                for k, s in enumerate(self.statistics)
                for q, o in enumerate(self.output_names)
            ],
            columns=["statistic", "output", "observed", "pit", "p_value"],
        )

    def __str__(self):
        table = self.to_dataframe()
        # Two digits of the spread of the replicated ones: three of the value would hide it behind a large offset.
        spread = self.replicated.std(axis=-1).ravel()
        table["observed"] = [against(x, s) for x, s in zip(table["observed"], spread, strict=True)]
        text = table.to_string(index=False, float_format="{:.3g}".format)
        return "\n".join([*status_lines(self.status, self.reasons), text])

    __repr__ = __str__


def predictive_check(
    fit: Fit,
    statistics: Mapping[str, Statistic] | None = None,
    *,
    kind: str = "posterior",
    key: jax.Array | int | np.integer | None = None,
    draws: int = 500,
) -> PredictiveCheck:
    """Compare statistics of the data with those of data replicated at the same controls with the same errors.

    Built in are ``min``, ``max``, ``sd``, ``step`` (largest difference between a row and its nearest neighbour in
    the scaled controls), ``curvature`` (largest difference between a row and the mean of its two nearest neighbours)
    and, for the posterior, ``residuals``: the mean product of neighbouring residuals in units of the noise, where
    each draw is compared with a replication of its own. A pattern that the model cannot follow makes neighbours'
    residuals alike, and that one sees it.

    The data were used for the fit, so the p-values of the posterior lie nearer to ½ than uniform ones: a small one is
    alarming, a large one no praise.

    Parameters
    ----------
    fit : Fit
    statistics : mapping from name to callable, optional
        More of them: from one output's values (S, n) and their controls (n, p) to (S,).
    kind : {"posterior", "prior"}
    key : PRNG key or int, optional
        The fit's own if not given.
    draws : int
        Of the prior.

    Returns
    -------
    PredictiveCheck
        NaN where an output has too few rows for a statistic.

    Raises
    ------
    InputError
        If the kind is unknown, or a statistic does not give one number for each row of values.

    References
    ----------
    Gelman, Meng, Stern, Statistica Sinica 6, 733 (1996).
    """
    if kind not in ("posterior", "prior"):
        raise InputError(f"kind '{kind}' is unknown; use posterior or prior")
    if not isinstance(statistics, Mapping | None):
        raise InputError(
            f"statistics = {statistics!r}: give a mapping from names to functions"
            + ("; of the prior it is kind='prior'" if isinstance(statistics, str) else "")
        )
    if "residuals" in (statistics or {}):
        raise InputError("statistics: 'residuals' is built in; give yours another name")
    posterior, data = as_fit(fit).posterior, fit.posterior.data
    key = stream(fit.key, "predictive check") if key is None else as_key(key)
    key_sites, key_noise = jax.random.split(key)
    if kind == "prior":
        fit = replace(fit, draws=prior_draws(posterior, key_sites, _enough(draws)))
    mean, sd, w = mixture(fit, data.controls, data.errors)
    replicas = mean + sd * np.asarray(jax.random.normal(key_noise, mean.shape))
    functions = {**STATISTICS, **(statistics or {})}
    names = (*functions, "residuals") if kind == "posterior" else tuple(functions)
    shape = (len(names), data.n_outputs)
    observed, below = np.full(shape, np.nan), np.full(shape, np.nan)
    replicated = np.full((*shape, len(mean)), np.nan)
    scaled = (data.controls - data.controls.mean(0)) / data.controls.std(0)
    for q in range(data.n_outputs):
        seen = data.mask[:, q]
        c, y, rep = scaled[seen], data.values[seen, q][None], replicas[:, seen, q]
        for k, name in enumerate(names):
            if name == "residuals":
                of = lambda v: _neighbour_product((v - mean[:, seen, q]) / sd[:, seen, q], c)  # noqa: B023
            else:
                of = lambda v: _one_number_each(name, functions[name](v, c), len(v))  # noqa: B023
            replicated[k, q], real = of(rep), of(y)
            observed[k, q] = np.average(np.broadcast_to(real, w.shape), weights=w)
            if np.isfinite(replicated[k, q]).all() and np.isfinite(real).all():
                ties = (replicated[k, q] < real) + 0.5 * (replicated[k, q] == real)
                below[k, q] = np.average(ties, weights=w)
    p_value = np.minimum(1.0, 2 * np.minimum(below, 1 - below))
    judged = (fit.status, fit.reasons) if kind == "posterior" else ("ok", ())
    return PredictiveCheck(kind, names, data.output_names, observed, replicated, below, p_value, *judged)


def _one_number_each(name: str, found: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(found, float)
    if found.shape != (count,):
        raise InputError(
            f"statistic {name}: gives shape {found.shape} for {count} rows of values; give one number for each row, as"
            " y.mean(axis=1) does"
        )
    return found


def _nearest(c: np.ndarray, count: int) -> np.ndarray | None:
    """Rows (n, count) nearest to each row; None if there are too few."""
    if len(c) <= count:
        return None
    distance = np.linalg.norm(c[:, None] - c[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


def _against_neighbours(y: np.ndarray, c: np.ndarray, count: int) -> np.ndarray:
    near = _nearest(c, count)
    if near is None:
        return np.full(len(y), np.nan)
    return np.abs(y - y[:, near].mean(axis=2)).max(axis=1)


def _neighbour_product(r: np.ndarray, c: np.ndarray) -> np.ndarray:
    near = _nearest(c, 1)
    return np.full(len(r), np.nan) if near is None else np.mean(r * r[:, near[:, 0]], axis=1)


STATISTICS: dict[str, Statistic] = {
    "min": lambda y, c: y.min(axis=1),  # noqa: ARG005
    "max": lambda y, c: y.max(axis=1),  # noqa: ARG005
    "sd": lambda y, c: y.std(axis=1),  # noqa: ARG005
    "step": lambda y, c: _against_neighbours(y, c, 1),
    "curvature": lambda y, c: _against_neighbours(y, c, 2),
}
