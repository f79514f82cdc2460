r"""Bands at new controls.

*latent* is what an exact solver would return: the PMM's output, stretched outside the data
(:mod:`~bayes_pmm.widening`), plus the learned floor, which stands for what the
model cannot represent, plus a learned defect where there is one. *predictive* adds a measurement error of the size
of the output's training errors (rms).
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bayes_pmm import scores
from bayes_pmm.bands import LEVELS, Bands, probabilities_of
from bayes_pmm.columns import columns_by_name
from bayes_pmm.doubts import bend
from bayes_pmm.errors import InputError
from bayes_pmm.inference.protocol import Draws, floors_of, outputs_of
from bayes_pmm.memory import fits_into_memory
from bayes_pmm.outputs import Output, Transition, output_named, parse_output
from bayes_pmm.posterior import Posterior
from bayes_pmm.widening import in_order, stretch

__all__ = [
    "any_part",
    "bands_of",
    "check_controls",
    "check_exact",
    "check_memory",
    "combinations",
    "outputs_at",
    "summarised",
    "widened",
    "with_noise",
]

COPIES = 6
"""Arrays of all draws that bands are made from at once, about."""

_BLOCK = 256


def outputs_at(posterior: Posterior, draws: Draws, controls: np.ndarray) -> np.ndarray:
    """Outputs of the PMM alone, without floor and noise.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
    controls : array (N, p)
        In the user's units; columns with names are found by these.

    Returns
    -------
    array (chain, draw, N, Q)

    Raises
    ------
    InputError
        If the controls are not finite or not of shape (N, p).
    """
    c = check_controls(posterior, controls)
    check_memory(len(c), posterior.data.n_outputs, math.prod(draws.shape))
    size = _block_size(len(c))
    blocks = []
    for i in range(0, len(c), size):
        block = c[i : i + size]
        # The last block is filled up, so that one compilation serves them all, and most numbers of controls.
        filled = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])
        blocks.append(outputs_of(posterior, draws, filled)[:, :, : len(block)])
    return np.concatenate(blocks, axis=2)


def _block_size(count: int) -> int:
    """Controls that are evaluated together: 1, 2, 4, ... 64, then multiples of 64, ``_BLOCK`` at most."""
    power = 1 << (count - 1).bit_length()
    return min(power if power <= 64 else -(-count // 64) * 64, _BLOCK)


def check_memory(controls: int, outputs: int, draws: int) -> None:
    """Refuse more predictions at once than fit into the machine's memory, rather than be killed for them.

    Raises
    ------
    InputError
        With how much is needed and how much there is.
    """
    fits_into_memory(
        8 * COPIES * controls * outputs * draws,
        f"{controls} controls with {outputs} outputs and {draws} draws",
        "predict at fewer controls at a time",
    )


def combinations(
    posterior: Posterior, wanted: str | Output | Iterable[str | Output]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Outputs and lines between fitted ones, as sums and differences of what is fitted.

    Parameters
    ----------
    posterior : Posterior
    wanted : str, Output, or sequence of them
        Names of columns, levels and differences such as ``E1-E0``, or differences of columns of levels or lines by
        their names.

    Returns
    -------
    names : tuple of str (W)
    coefficients : array (W, Q)
        Of the fitted outputs: 1, -1 or 0.

    Raises
    ------
    InputError
        For what is neither fitted nor the sum or difference of two that are.
    """
    wanted = (wanted,) if isinstance(wanted, str | Output) else tuple(wanted)
    if not wanted:
        raise InputError("outputs: name at least one")
    return tuple(map(str, wanted)), np.stack([_coefficients(posterior, name) for name in wanted])


def _coefficients(posterior: Posterior, name: str | Output) -> np.ndarray:
    columns, outputs = posterior.data.output_names, posterior.pmm.outputs
    unit = np.eye(len(outputs))
    if isinstance(name, str) and name in columns:
        return unit[columns.index(name)]
    if isinstance(name, str) and (line := _of_columns(name, columns, outputs)) is not None:
        return line
    output = parse_output(name) if isinstance(name, str) else name
    # Of a Hermitian matrix a strength is the same both ways.
    for same in (
        (output, replace(output, bra=output.ket, ket=output.bra))
        if isinstance(output, Transition)
        else (output,)
    ):
        if same in outputs:
            return unit[outputs.index(same)]
    target = _of_levels(output, posterior.dim)
    rows = [(q, _of_levels(o, posterior.dim)) for q, o in enumerate(outputs)]
    spectral = [(q, row) for q, row in rows if row is not None]
    if target is not None:
        for (q, row), (p, other) in itertools.permutations(spectral, 2):
            for sign in (-1.0, 1.0):
                if np.array_equal(row + sign * other, target):
                    return unit[q] + sign * unit[p]
        # The same line downwards, or the same level counted from the other end.
        for q, row in spectral:
            for sign in (-1.0, 1.0):
                if np.array_equal(sign * row, target):
                    return sign * unit[q]
    raise InputError(
        f"output {name!r} is neither fitted nor the sum or difference of two fitted levels or lines; there are"
        f" {', '.join(map(str, outputs))}"
    )


def _of_columns(name: str, columns: tuple[str, ...], outputs: tuple[Output, ...]) -> np.ndarray | None:
    """A difference of two levels or lines by the names of their columns, "f2-f1", which is no expression; or None."""
    if output_named(name) is not None:
        return None
    unit = np.eye(len(outputs))
    for i in (i for i, letter in enumerate(name) if letter == "-"):
        pair = [name[:i].strip(), name[i + 1 :].strip()]
        if all(part in columns for part in pair):
            upper, lower = map(columns.index, pair)
            if {outputs[upper].kind, outputs[lower].kind} <= {"level", "difference"}:
                return unit[upper] - unit[lower]
    return None


def any_part(where: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Of what is true of fitted outputs (N, Q), what is so of any part of each combination (W, Q): (N, W)."""
    return where @ (coefficients.T != 0)


def _of_levels(output: Output, dim: int) -> np.ndarray | None:
    """A level or line as a combination (n,) of the levels; None for all else."""
    if output.kind not in ("level", "difference") or any(not -dim <= k < dim for k in output.levels):
        return None
    row = np.zeros(dim)
    for k, sign in zip(output.levels, (1.0, -1.0), strict=False):
        row[k % dim] += sign
    return row


def check_controls(posterior: Posterior, controls: Any) -> np.ndarray:
    """Controls as a finite float array (N, p); columns with names are found by these, a number is one point.

    Raises
    ------
    InputError
        If they are no numbers, not finite, or not of shape (N, p), or a term of the basis is not finite there.
    """
    c = columns_by_name(controls, posterior.data.control_names)
    p = posterior.data.n_controls
    if c.ndim < 2 and p == 1:
        c = c.reshape(-1, 1)
    if c.ndim != 2 or c.shape[1] != p or len(c) == 0:
        raise InputError(
            f"controls of shape {c.shape}: give at least one row with {p} columns"
            f" ({', '.join(posterior.data.control_names)})" + (", one point as [[...]]" if c.ndim < 2 else "")
        )
    # The limit 1/L → 0 is a place like any other, where the basis has it.
    usable = np.isfinite(c) | (np.isinf(c) & np.isfinite(posterior.places(c, 0)))
    if not usable.all():
        row, column = np.argwhere(~usable)[0]
        raise InputError(f"controls: row {row}, {posterior.data.control_names[column]} is not finite")
    # Before anything is drawn: one such row would spoil what is judged of all others.
    phi = np.asarray(posterior.terms(c))
    if not np.isfinite(phi).all():
        row = int(np.argwhere(~np.isfinite(phi))[0, 0])
        raise InputError(
            f"controls: row {row}, {c[row].tolist()}: basis {posterior.pmm.basis} is not finite there; leave it out"
        )
    return c


def check_exact(exact: Any, output_names: Sequence[str], rows: int, what: str = "exact values") -> np.ndarray:
    """Values at given controls as a float array (N, Q), NaN where unknown; columns with names are found by these.

    Raises
    ------
    InputError
        If they are no numbers, or not of shape (N, Q); for one output (N,) will do.
    """
    # The zoo's tables call them exact_E0.
    values = columns_by_name(exact, output_names, what, any_series=True)
    if values.ndim == 1 and len(output_names) == 1:
        values = values[:, None]
    if values.shape != (rows, len(output_names)):
        raise InputError(
            f"{what} of shape {values.shape} do not fit {rows} controls; give one row per control, with the"
            f" columns {', '.join(output_names)}"
        )
    return values


def widened(
    posterior: Posterior,
    outputs: np.ndarray,
    controls: np.ndarray,
    training: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Outputs of the PMM, stretched outside the data by the posterior's :class:`~bayes_pmm.widening.Widening`.

    What a stretch would bring out of order is in order again, see :func:`~bayes_pmm.widening.in_order`.

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
    pmm = posterior.pmm
    factors = posterior.widening.factors(pmm.outputs, posterior.distances(controls), most_bent)
    stretched = stretch(outputs, factors, weights)
    outside = np.any(factors != 1.0, axis=1)
    if outside.any():
        stretched[:, :, outside] = in_order(stretched[:, :, outside], pmm.outputs, posterior.dim, weights)
    return stretched


def with_noise(
    posterior: Posterior,
    draws: Draws,
    outputs: np.ndarray,
    key: jax.Array,
    defect: np.ndarray | None = None,
    joint: bool = True,
) -> dict[str, np.ndarray]:
    """Draws of both kinds from the outputs of the PMM.

    Parameters
    ----------
    outputs : array (chain, draw, N, Q)
        From :func:`outputs_at` and :func:`widened`.
    key : PRNG key
    defect : array (chain, draw, N, Q), optional
        Draws of a learned defect at the same controls.
    joint : bool
        Floor and error independent from control to control, as they are. Otherwise each draw has the same at all
        controls: the law at each of them is no other, and what is made of it, such as a band, does not scatter along
        a curve or depend on which other controls there are.

    Returns
    -------
    dict of kind to array (chain, draw, N, Q)
    """
    k1, k2 = jax.random.split(key)
    shape = outputs.shape if joint else (*outputs.shape[:2], 1, outputs.shape[3])
    latent = outputs if defect is None else outputs + defect
    if posterior.noise.floor:
        floors = floors_of(posterior, draws)[:, :, None, :]
        latent = latent + floors * np.asarray(jax.random.normal(k1, shape))
    # The floor is normal, but a strength is a square.
    strengths = [q for q, o in enumerate(posterior.pmm.outputs) if o.kind == "transition"]
    if strengths:
        latent = np.array(latent)
        latent[..., strengths] = np.maximum(latent[..., strengths], 0.0)
    rms = posterior.data.rms_errors
    predictive = latent
    if np.any(rms > 0):
        predictive = latent + rms * np.asarray(jax.random.normal(k2, shape))
    return {"latent": latent, "predictive": predictive}


def bands_of(
    posterior: Posterior,
    controls: np.ndarray,
    samples: dict[str, np.ndarray],
    status: str,
    reasons: tuple[str, ...],
    weights: np.ndarray | None = None,
    doubts: dict[str, np.ndarray] | None = None,
    levels: float | Sequence[float] | np.ndarray = LEVELS,
    outputs: tuple[tuple[str, ...], np.ndarray] | None = None,
) -> Bands:
    """Bands from draws of both kinds (chain, draw, N, Q) at controls (N, p), chains weighted by weights (chain,).

    With ``outputs`` from :func:`combinations` they are of these: outside the data, or doubtful, where one of their
    parts is.
    """
    names, extrapolated = posterior.data.output_names, posterior.extrapolated(controls)
    doubts = {} if doubts is None else doubts
    if outputs is not None:
        names, coefficients = outputs
        samples = {kind: values @ coefficients.T for kind, values in samples.items()}
        extrapolated = any_part(extrapolated, coefficients)
        doubts = {name: any_part(where, coefficients) for name, where in doubts.items()}
    weights = np.ones(len(next(iter(samples.values())))) if weights is None else weights
    return summarised(
        samples,
        weights,
        levels,
        controls=controls,
        control_names=posterior.data.control_names,
        output_names=names,
        extrapolated=extrapolated,
        status=status,
        reasons=reasons,
        doubts=doubts,
    )


def summarised(
    samples: dict[str, np.ndarray],
    weights: np.ndarray,
    levels: float | Sequence[float] | np.ndarray,
    **about: Any,
) -> Bands:
    """Bands from draws (chain, draw, N, W) of what they are of, chains weighted by weights (chain,).

    ``about`` is everything else that :class:`~bayes_pmm.bands.Bands` hold.
    """
    probabilities = probabilities_of(levels)
    mean, sd, quantiles = {}, {}, {}
    for kind, values in samples.items():
        flat = values.reshape(-1, *values.shape[2:])
        w = np.repeat(weights, values.shape[1])
        mean[kind] = np.average(flat, axis=0, weights=w)
        # As np.cov does it with aweights.
        degrees = w.sum() - np.sum(w**2) / w.sum()
        sd[kind] = np.sqrt(np.tensordot(w, (flat - mean[kind]) ** 2, axes=1) / degrees)
        quantiles[kind] = scores.quantiles(flat, probabilities, w)
    return Bands(mean=mean, sd=sd, quantiles=quantiles, probabilities=probabilities, **about)
