r"""Bands at new controls.

*latent* is what an exact solver would return: the PMM's output, stretched outside the data
(:mod:`~bayes_pmm.widening`), plus the learned floor, which stands for what the
model cannot represent, plus a learned defect where there is one. *predictive* adds a measurement error of the size
of the output's training errors (rms).
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from bayes_pmm.doubts import DOUBTS, bend
from bayes_pmm.errors import InputError
from bayes_pmm.inference.protocol import Draws, outputs_of
from bayes_pmm.posterior import Posterior
from bayes_pmm.widening import stretch

__all__ = ["KINDS", "QUANTILES", "Bands", "bands", "outputs_at", "widened", "with_noise"]

KINDS = ("latent", "predictive")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_BLOCK = 256


def outputs_at(posterior: Posterior, draws: Draws, controls: np.ndarray) -> np.ndarray:
    """Outputs of the PMM alone, without floor and noise.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
    controls : array (N, p)
        In the user's units.

    Returns
    -------
    array (chain, draw, N, Q)

    Raises
    ------
    InputError
        If the controls are not finite or not of shape (N, p).
    """
    c = check_controls(posterior, controls)
    size = min(len(c), _BLOCK)
    evaluate = outputs_of(posterior)
    blocks = []
    for i in range(0, len(c), size):
        block = c[i : i + size]
        # The last block is filled up, so that one compilation serves them all.
        filled = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])
        blocks.append(evaluate(draws, filled)[:, :, : len(block)])
    return np.concatenate(blocks, axis=2)


def check_controls(posterior: Posterior, controls: np.ndarray) -> np.ndarray:
    """Controls as a finite float array (N, p)."""
    c = np.asarray(controls, dtype=float)
    p = posterior.data.n_controls
    if c.ndim == 1 and p == 1:
        c = c[:, None]
    if c.ndim != 2 or c.shape[1] != p or len(c) == 0:
        raise InputError(
            f"controls of shape {np.shape(controls)}: give at least one row with {p} columns"
            f" ({', '.join(posterior.data.control_names)})"
        )
    if not np.isfinite(c).all():
        row, column = np.argwhere(~np.isfinite(c))[0]
        raise InputError(f"controls: row {row}, {posterior.data.control_names[column]} is not finite")
    return c


def widened(
    posterior: Posterior,
    outputs: np.ndarray,
    controls: np.ndarray,
    training: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Outputs of the PMM, stretched outside the data by the posterior's :class:`~bayes_pmm.widening.Widening`.

    Parameters
    ----------
    outputs : array (chain, draw, N, Q)
        At ``controls`` (N, p).
    training : array (chain, draw, N0, Q)
        The same at the training controls, which tell how much the data bend.
    weights : array (chain,), optional
        Of the chains; equal if not given.
    """
    most_bent = float(np.max(bend(posterior, training, weights)))
    factors = posterior.widening.factors(posterior.data, posterior.pmm.outputs, controls, most_bent)
    return stretch(outputs, factors, weights)


def with_noise(
    posterior: Posterior,
    draws: Draws,
    outputs: np.ndarray,
    key: jax.Array,
    defect: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Draws of both kinds from the outputs of the PMM.

    Parameters
    ----------
    outputs : array (chain, draw, N, Q)
        From :func:`outputs_at` and :func:`widened`.
    key : PRNG key
    defect : array (chain, draw, N, Q), optional
        Draws of a learned defect at the same controls.

    Returns
    -------
    dict of kind to array (chain, draw, N, Q)
    """
    k1, k2 = jax.random.split(key)
    latent = outputs if defect is None else outputs + defect
    if posterior.noise.floor:
        latent = latent + draws.sites["floor"][:, :, None, :] * np.asarray(
            jax.random.normal(k1, outputs.shape)
        )
    rms = posterior.data.rms_errors
    predictive = latent
    if np.any(rms > 0):
        predictive = latent + rms * np.asarray(jax.random.normal(k2, outputs.shape))
    return {"latent": latent, "predictive": predictive}


@dataclass(frozen=True, eq=False)
class Bands:
    """Posterior bands at new controls, in the user's units.

    Parameters
    ----------
    controls : array (N, p)
    control_names, output_names : tuple of str
    mean, sd : dict of kind to array (N, Q)
    quantiles : dict of kind to array (5, N, Q)
        At 0.05, 0.25, 0.5, 0.75 and 0.95.
    extrapolated : array (N, Q) of bool
        Outside the convex hull of the rows where the output was observed.
    status : {"ok", "suspect", "failed"}
        Of the fit, including convergence at these controls.
    reasons : tuple of str
    doubts : dict of name to array (N, Q) of bool
        Where the band should not be believed, and why: :data:`~bayes_pmm.doubts.DOUBTS`. Only extrapolated points have
        any.
    """

    controls: np.ndarray
    control_names: tuple[str, ...]
    output_names: tuple[str, ...]
    mean: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    quantiles: dict[str, np.ndarray]
    extrapolated: np.ndarray
    status: str = "ok"
    reasons: tuple[str, ...] = ()
    doubts: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def doubtful(self) -> np.ndarray:
        """Where there is any doubt, (N, Q) of bool."""
        return np.any([np.zeros(self.extrapolated.shape, bool), *self.doubts.values()], axis=0)

    def quantile(self, q: float, kind: str = "latent") -> np.ndarray:
        """One of the stored quantiles, (N, Q)."""
        if q not in QUANTILES:
            raise InputError(f"quantile {q} is not stored; use one of {QUANTILES}, or Fit.sample for others")
        return self.quantiles[kind][QUANTILES.index(q)]

    @property
    def doubt_lines(self) -> tuple[str, ...]:
        """One line for each kind of doubt that occurs: how many predictions, and what it means."""
        total = int(self.extrapolated.sum())
        return tuple(
            f"{int(where.sum())} of {total} extrapolated predictions are doubtful ({name}): {DOUBTS[name]}"
            for name, where in self.doubts.items()
            if where.any()
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names of the long table."""
        names = tuple(f"q{round(100 * q):02d}" for q in QUANTILES)
        rest = ("output", "kind", "mean", "sd", *names, "extrapolated", "doubts")
        return (*(f"control {n}" if n in rest else n for n in self.control_names), *rest)

    def rows(self):
        """Rows of the long table, in the order of :attr:`columns`."""
        for i, c in enumerate(self.controls):
            for j, output in enumerate(self.output_names):
                doubts = " ".join(name for name, where in self.doubts.items() if where[i, j])
                for kind in KINDS:
                    numbers = [self.mean[kind][i, j], self.sd[kind][i, j], *self.quantiles[kind][:, i, j]]
                    yield [
                        *map(float, c),
                        output,
                        kind,
                        *map(float, numbers),
                        bool(self.extrapolated[i, j]),
                        doubts,
                    ]

    def to_csv(self, path: str | Path) -> None:
        """Write the long table; floats by repr.

        Raises
        ------
        InputError
            If the file exists or cannot be written.
        """
        plain = lambda x: str(x).lower() if isinstance(x, bool) else repr(x) if isinstance(x, float) else x  # noqa: E731
        try:
            with open(path, "x", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self.columns)
                writer.writerows([plain(x) for x in row] for row in self.rows())
        except FileExistsError:
            raise InputError(f"{path}: exists already; choose another name or move it away") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None

    def to_dataframe(self):
        """The long table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(self.columns))


def bands(
    posterior: Posterior,
    controls: np.ndarray,
    samples: dict[str, np.ndarray],
    status: str,
    reasons: tuple[str, ...],
    weights: np.ndarray | None = None,
    doubts: dict[str, np.ndarray] | None = None,
) -> Bands:
    """Bands from draws of both kinds (chain, draw, N, Q) at controls (N, p), chains weighted by weights (chain,)."""
    mean, sd, quantiles = {}, {}, {}
    for kind, values in samples.items():
        flat = values.reshape(-1, *values.shape[2:])
        if weights is None or np.allclose(weights, 1.0):
            mean[kind], sd[kind] = flat.mean(0), flat.std(0, ddof=1)
            quantiles[kind] = np.quantile(flat, QUANTILES, axis=0)
        else:
            w = np.repeat(weights, values.shape[1])
            mean[kind] = np.average(flat, axis=0, weights=w)
            sd[kind] = np.sqrt(np.average((flat - mean[kind]) ** 2, axis=0, weights=w))
            quantiles[kind] = np.quantile(flat, QUANTILES, axis=0, weights=w, method="inverted_cdf")
    return Bands(
        controls=controls,
        control_names=posterior.data.control_names,
        output_names=posterior.data.output_names,
        mean=mean,
        sd=sd,
        quantiles=quantiles,
        extrapolated=posterior.data.extrapolated(controls),
        status=status,
        reasons=reasons,
        doubts={} if doubts is None else doubts,
    )
