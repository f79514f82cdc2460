r"""Convergence: R-hat and effective sample size of outputs, and the status of a fit.

Matrix elements are never judged: many inequivalent matrices share all outputs, so chains may well disagree on the
elements and agree on everything that can be observed. Outputs are judged without the floor's independent noise,
which would hide a disagreement.
"""

from dataclasses import dataclass

import numpy as np

from bayes_pmm.convergence import (
    DIVERGENT_SHARE,
    ESS,
    FEWEST,
    PARETO_K,
    RHAT,
    divergent_share,
    judged,
    rhat_and_ess,
)
from bayes_pmm.inference.modes import median_floor, weights_of
from bayes_pmm.inference.protocol import Draws
from bayes_pmm.posterior import Posterior
from bayes_pmm.scatter import residuals, scatter

__all__ = ["LIMITS", "Diagnosis", "diagnose", "misfits"]


@dataclass(frozen=True)
class _Limits:
    rhat: float = RHAT
    ess: float = ESS
    failed_rhat: float = 1.1
    failed_ess: float = 50.0
    divergent_share: float = DIVERGENT_SHARE
    pareto_k: float = PARETO_K
    failed_pareto_k: float = 1.0
    exact_shift: float = 0.5
    exact_width: float = 1.4
    basin_evidence: float = 3.0
    failed_steps: float = 0.5
    floor_of_scatter: float = 1.5
    floor_of_spread: float = 0.02
    floor_of_errors: float = 3.0
    residual: float = 1.5
    residual_tail: float = 1e-6


LIMITS = _Limits()
"""Where a fit stops being ok, and where it has failed. Those against exact draws are judgements, not measurements."""


@dataclass(frozen=True)
class Diagnosis:
    """Status of a fit.

    Parameters
    ----------
    status : {"ok", "suspect", "failed"}
    reasons : tuple of str
        Why it is not ok; empty if it is.
    max_rhat, min_ess : float or None
        Largest R-hat (rank-normalised, split) and smallest effective sample size (bulk and tail) over the outputs
        at all training and prediction controls and the learned floors; None for methods without chains.
    divergences : int or None
        Divergent transitions after warm-up.
    """

    status: str
    reasons: tuple[str, ...]
    max_rhat: float | None
    min_ess: float | None
    divergences: int | None


def diagnose(
    draws: Draws,
    outputs: np.ndarray,
    posterior: Posterior | None = None,
    training: np.ndarray | None = None,
) -> Diagnosis:
    """Status from the draws and their outputs (chain, draw, N, Q), mostly at training and then prediction controls.

    With the posterior, its learned floors are judged as well: whether they have converged, and whether one is so large
    that the model does not fit. For this the outputs begin with those at the training controls, unless ``training`` has
    them.
    """
    failed, suspect = [], []
    max_rhat = min_ess = divergences = None
    info = draws.info
    modes = info.get("modes", [])
    if len(modes) > 1:
        masses = (
            ", ".join(f"{m['mass']:.2f}" for m in modes) + f" by {info.get('masses_by', 'left-out data')}"
        )
        k = max((m.get("pareto_k") or 0.0 for m in modes), default=0.0)
        if k > LIMITS.pareto_k:
            masses += f", which are a guess (Pareto k {k:.2g}); better ones are those of bp.with_mode_masses"
        if info.get("masses_doubted"):
            masses += f", which are a guess ({info['masses_doubted']})"
        suspect.append(
            f"the chains are in {len(modes)} modes that they do not leave (masses {masses}): the band weighs them so;"
            " use more chains" + (", or compare with TemperedSMC" if "floor" not in draws.sites else "")
        )
    if not np.isfinite(outputs).all():
        failed.append(
            "some outputs are not finite: there is no band where that is so; fit again with another key, and predict"
            " nearer to the data"
        )
    elif "pareto_k" in info:
        k = info["pareto_k"]
        bad = not k <= LIMITS.failed_pareto_k
        limit = LIMITS.failed_pareto_k if bad else LIMITS.pareto_k
        text = (
            f"Pareto k {k:.2f} of the approximation against the posterior is above {limit}: use auto or nuts"
        )
        if bad or k > limit:
            (failed if bad else suspect).append(text)
        if "against_exact" in info:
            suspect += _against_exact(info["against_exact"])
    else:
        floor = None if posterior is None else draws.sites.get("floor")
        spread = () if posterior is None else posterior.scaling.spread
        rhat, ess = rhat_and_ess(judged(outputs, floor, spread))
        # NaN if nothing moved at all, which no limit accepts.
        max_rhat = float(np.max(rhat[~np.isnan(rhat)], initial=np.nan if np.isnan(rhat).all() else -np.inf))
        min_ess = float(np.min(ess[~np.isnan(ess)], initial=np.nan if np.isnan(ess).all() else np.inf))
        # Chains that stay where they are would stay there longer.
        cure = "" if len(modes) > 1 else "; fit again with more draws"
        if np.isnan(max_rhat):
            few = outputs.shape[1] < FEWEST * (2 if outputs.shape[0] == 1 else 1)
            failed.append(
                f"{outputs.shape[1]} draws are too few to judge; fit again with more"
                if few
                else "no output moved in any chain: nothing was sampled; try another sampler"
            )
            max_rhat = min_ess = None
        elif not max_rhat <= LIMITS.rhat:
            bad = not max_rhat <= LIMITS.failed_rhat
            limit = LIMITS.failed_rhat if bad else LIMITS.rhat
            size = f"{max_rhat:.4f}" if max_rhat < 100 else "of more than 100"
            text = f"R-hat {size} of an output or floor is above {limit}: the chains disagree{cure}"
            (failed if bad else suspect).append(text)
        if outputs.shape[0] == 1 and max_rhat is not None:
            suspect.append(
                "a single chain cannot show whether there is another mode; use two chains at least"
            )
        if min_ess is not None and not min_ess >= LIMITS.ess:
            bad = not min_ess >= LIMITS.failed_ess
            limit = LIMITS.failed_ess if bad else LIMITS.ess
            text = f"effective sample size {min_ess:.0f} of an output or floor is below {limit:.0f}{cure}"
            (failed if bad else suspect).append(text)
    if "diverging" in draws.stats:
        divergences = int(draws.stats["diverging"].sum())
        share = divergent_share(draws.stats, info)
        if share > LIMITS.divergent_share:
            suspect.append(
                f"{100 * share:.1f} % of the transitions diverged; raise --warmup, or in Python"
                " target_accept, as in bp.NUTS(target_accept=0.99)"
            )
    basins = info.get("basins", [])
    limit = basins[0]["log_evidence"] - LIMITS.basin_evidence if basins else 0.0
    missed = [b for b in basins[1:] if b["log_evidence"] > limit and not b.get("chains")]
    if missed:
        suspect.append(
            f"{len(missed)} more basins fit about as well as the best and no chain started there: the band may miss"
            " them; use more chains"
        )
    if info.get("sampler") == "smc" and posterior is not None and posterior.noise.floor:
        suspect.append(
            "tempered SMC is not known to reach the posterior where floors are learned, and its runs do not show it"
            " (docs/studies/sampling.md); use auto, or give known errors and no floor"
        )
    if posterior is not None:
        training = outputs[:, :, : posterior.data.n_rows] if training is None else training
        suspect += misfits(posterior, draws, training)
    if info.get("failed_steps_share", 0.0) > LIMITS.failed_steps:
        suspect.append(
            f"{100 * info['failed_steps_share']:.0f} % of a chain's steps failed: part of the posterior may be"
            " out of reach; raise target_accept"
        )
    status = "failed" if failed else "suspect" if suspect else "ok"
    return Diagnosis(status, tuple(failed + suspect), max_rhat, min_ess, divergences)


def _against_exact(exact: dict) -> list[str]:
    """What speaks against an approximation, or against the draws that it was compared with."""
    found = []
    # Fits that were saved before these were known do not have them.
    if "rhat" in exact and not (exact["rhat"] <= LIMITS.rhat and exact["ess"] >= LIMITS.ess):
        found.append(
            f"the exact draws that it was compared with have R-hat {exact['rhat']:.4f} and an effective sample size of"
            f" {exact['ess']:.0f}: the comparison is rough; give exact= with more draws"
        )
    narrow, wide = 1 / LIMITS.exact_width, LIMITS.exact_width
    if exact["shift"] > LIMITS.exact_shift or not narrow <= exact["narrowest"] <= exact["widest"] <= wide:
        found.append(
            f"its means are off by up to {exact['shift']:.2g} of the exact standard deviations, and its own are"
            f" {exact['narrowest']:.2g} to {exact['widest']:.2g} times these: use the exact sampler"
        )
    return found


def noticeable_floor(posterior: Posterior) -> np.ndarray:
    """The least floor (Q,) that says anything of a model: a share of its spread, well above where floors begin."""
    spread = np.nanstd(posterior.data.values, axis=0)
    return np.maximum(LIMITS.floor_of_spread * spread, 100 * np.asarray(posterior.scaling.least_floor))


def misfits(posterior: Posterior, draws: Draws, training: np.ndarray) -> list[str]:
    """Outputs that the model does not follow.

    With learned floors: a polynomial leaves less of the data than the floor is. With known errors alone: the residuals
    of the mean curve are larger than these. ``training`` are the outputs (chain, draw, N, Q) at the training controls.
    """
    data, found, weights = posterior.data, [], weights_of(draws)
    if not posterior.noise.floor:
        z, probability = residuals(data, training, weights)
        for q in map(int, np.flatnonzero((z > LIMITS.residual) & (probability < LIMITS.residual_tail))):
            found.append(
                f"the residuals of {data.output_names[q]} are {z[q]:.2g} times their known errors (root mean square),"
                " and no floor was to be learned: the model does not follow the data; learn a floor, check columns,"
                " outputs and errors, or try a larger dim or another basis"
            )
        return found
    floors, left = median_floor(posterior, draws, weights), scatter(data)
    noticeable = noticeable_floor(posterior)
    for q, name in enumerate(data.output_names):
        floor, error = floors[q], data.rms_errors[q]
        # Too few rows for a polynomial say nothing; known errors do.
        by_scatter = LIMITS.floor_of_scatter * left[q] if np.isfinite(left[q]) or error == 0 else 0.0
        if floor > max(by_scatter, LIMITS.floor_of_errors * error, noticeable[q]):
            known = f" and {floor / error:.0f} times its known errors" if error > 0 else ""
            beside = "in too few rows to compare it with a polynomial"
            if np.isfinite(left[q]):
                beside = "and its data lie on a polynomial"
            if 0 < left[q] < np.inf:
                beside = f"{floor / left[q]:.2g} times what its data scatter at most about a polynomial"
            found.append(
                f"the learned floor of {name} is {floor:.2g}, {beside}{known}: the model does not follow them; check"
                " the columns and outputs, then try a larger dim, another basis, or fewer levels in one model"
            )
    return found
