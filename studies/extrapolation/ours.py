"""The package's own method on a task."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import bayes_pmm as bp
from bayes_pmm.basis import parse_basis
from bayes_pmm.doubts import bend, curvature
from bayes_pmm.predict import widened
from bayes_pmm.scaling import fit_scaling
from studies.extrapolation.forecast import Forecast
from studies.extrapolation.lines import rounded

SAMPLERS = {"auto": bp.Auto, "manifold": bp.Manifold, "nuts": bp.NUTS}


@dataclass(frozen=True)
class Options:
    """What differs from the package's defaults.

    Parameters
    ----------
    dim : int, optional
        Dimension of the matrices.
    sampler : {"auto", "manifold", "nuts"}
    lengths : dict
        Chains, warm-up and draws of the sampler, as far as given.
    prior, noise : dict
        Arguments of :class:`bayes_pmm.Prior` and :class:`bayes_pmm.Noise`.
    defect : bool
        Learn a defect from left-out rows, with the same sampler.
    reference : float, optional
        c_ref as a share of the training range of every control; the mean of the training controls if not given.
    widening : float
        Rate of :class:`bayes_pmm.Widening`.
    future : bool
        Leave the outermost rows out and keep the log predictive densities, as weights of an average need them.
    """

    dim: int | None = None
    sampler: str = "auto"
    lengths: dict = field(default_factory=dict)
    prior: dict = field(default_factory=dict)
    noise: dict = field(default_factory=dict)
    defect: bool = False
    reference: float | None = None
    widening: float = bp.Widening().rate
    future: bool = False


def pmm(task, rng: np.random.Generator, options: Options, keep: Path | None = None) -> Forecast:
    """Bayesian parametric matrix model: latent draws, status, convergence and doubtful points of the fit.

    With ``keep`` the draws go into a file of that folder, for ``studies/extrapolation/widening.py``.
    """
    model = bp.PMM(tuple(task.problem.outputs.values()), dim=options.dim, basis=parse_basis(task.basis))
    scaling = None
    if options.reference is not None:
        low, high = task.data.controls.min(axis=0), task.data.controls.max(axis=0)
        scaling = fit_scaling(task.data, model.outputs, model.basis, low + options.reference * (high - low))
    prior, noise = bp.Prior(**options.prior), bp.Noise(**options.noise)
    posterior = bp.Posterior(task.data, model, prior, noise, scaling, bp.Widening(options.widening))
    method = SAMPLERS[options.sampler](**options.lengths)
    fit = bp.fit(posterior, method, key=int(rng.integers(2**31)), controls=task.controls)
    if options.defect:
        fit = bp.with_defect(fit, bp.learn_defect(posterior, method, key=int(rng.integers(2**31))))
    bands = fit.predict(task.controls)
    draws = fit.sample(task.controls)
    if keep is not None:
        _keep(keep / f"{task.name.replace('/', '_')}.npz", task, fit, draws)
    info, diagnosis = fit.draws.info, fit.diagnosis
    floor = fit.draws.sites.get("floor")
    about = {
        "dim": posterior.pmm.dim,
        "status": bands.status,
        "reasons": list(bands.reasons),
        "rhat": diagnosis.max_rhat,
        "ess": diagnosis.min_ess,
        "sampler": info["sampler"],
        "sampling_seconds": info["seconds"],
    }
    training = fit.training_outputs
    about["curvature"] = curvature(posterior, fit.draws, training, fit.weights).tolist()
    about["bend"] = bend(posterior, training, fit.weights).tolist()
    if fit.defect is not None:
        about["defect"] = fit.defect.scale
    if options.future:
        left_out = bp.leave_future_out(posterior, method, key=int(rng.integers(2**31)))
        about["future"] = rounded(left_out.pointwise[np.isfinite(left_out.pointwise)])
    if floor is not None:
        unit = np.asarray(posterior.scaling.spread)
        about["floor"] = (np.median(floor.reshape(-1, len(unit)), axis=0) / unit).tolist()
    return Forecast(
        draws.reshape(-1, *draws.shape[2:]),
        about,
        np.repeat(fit.weights, draws.shape[1]),
        bands.doubtful,
        bands.doubts,
        fit.doubt_strengths(task.controls),
    )


def _keep(path: Path, task, fit: bp.Fit, latent: np.ndarray) -> None:
    """The PMM's draws, and what floor and defect add to them, in units of the task's spread."""
    posterior = fit.posterior
    model = fit.sample(task.controls, "model")
    stretched = widened(posterior, model, task.controls, fit.training_outputs, fit.weights)
    flat = lambda x: (x / task.spread).reshape(-1, *x.shape[2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        model=flat(model),
        added=flat(latent - stretched),
        weights=np.repeat(fit.weights, model.shape[1]),
        distances=posterior.distances(task.controls),
        bend=np.max(bend(posterior, fit.training_outputs, fit.weights)),
        truth=task.truth / task.spread,
    )
