"""Fit a posterior: draws, diagnostics, bands, saving and loading."""

import contextlib
import hashlib
import logging
import re
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayes_pmm import arviz_io
from bayes_pmm.bands import LEVELS, Bands, probabilities_of
from bayes_pmm.basis import Basis
from bayes_pmm.defect import Defect
from bayes_pmm.diagnostics import Diagnosis, diagnose
from bayes_pmm.doubts import bend, find_doubts, strengths
from bayes_pmm.errors import InputError
from bayes_pmm.inference import Auto, Draws, Method, as_method, settings_of
from bayes_pmm.inference.checkpoint import claimed
from bayes_pmm.inference.modes import find_modes, weights_of
from bayes_pmm.inference.protocol import Progress
from bayes_pmm.outputs import Output
from bayes_pmm.posterior import Posterior
from bayes_pmm.predict import (
    bands_of,
    check_controls,
    check_memory,
    combinations,
    outputs_at,
    widened,
    with_noise,
)
from bayes_pmm.progress import on_terminal
from bayes_pmm.settings import as_key, double_precision, stream

__all__ = [
    "Fit",
    "approximation_lines",
    "as_fit",
    "as_posterior",
    "fit",
    "load",
    "rediagnosed",
    "sampler_of",
    "time_taken",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fit:
    """Draws from a posterior with their diagnosis.

    Parameters
    ----------
    posterior : Posterior
    draws : Draws
    diagnosis : Diagnosis
        Of the outputs at the training controls and those given to :func:`fit`.
    key : PRNG key
        From which noise and predictive draws follow.
    controls : array (P, p) or None
        Prediction controls given to :func:`fit`.
    defect : Defect, optional
        Learned from left-out rows (:func:`~bayes_pmm.defect_learning.learn_defect`); it widens the bands outside the
        data.
    """

    posterior: Posterior
    draws: Draws
    diagnosis: Diagnosis
    key: jax.Array
    controls: np.ndarray | None = None
    defect: Defect | None = None

    @property
    def status(self) -> str:
        """``ok``, ``suspect`` or ``failed``."""
        return self.diagnosis.status

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the status is not ok."""
        return self.diagnosis.reasons

    def predict(
        self,
        controls: Any,
        *,
        outputs: str | Output | Iterable[str | Output] | None = None,
        key: jax.Array | int | np.integer | None = None,
        levels: float | Sequence[float] | np.ndarray = LEVELS,
    ) -> Bands:
        """Bands at new controls, in the user's units.

        Their status counts convergence at these controls too, and their doubts say where outside the data the band
        should not be believed however well it converged.

        Parameters
        ----------
        controls : array (N, p), DataFrame or mapping of names to columns
            Where the columns have names, these decide, and others are not looked at. For one control also (N,) or a
            number.
        outputs : str, Output, or sequence of them, optional
            Some of the outputs, and lines between fitted ones: with ``E0`` and ``E1`` fitted, ``"E1-E0"``. All outputs
            if not given.
        key : PRNG key or int, optional
            The fit's own if not given.
        levels : float or sequence of float
            Probabilities of the central intervals that the bands are to hold, such as ``(0.68, 0.95)``.

        Raises
        ------
        InputError
            For bad controls, levels that are no probabilities, or outputs that do not follow from the fitted ones.
        """
        # Before the work, which may take a while.
        probabilities_of(levels)
        wanted = None if outputs is None else combinations(self.posterior, outputs)
        c = check_controls(self.posterior, controls)
        model = outputs_at(self.posterior, self.draws, c)
        defect = self._defect_draws(c, self._key(key))
        samples = self._samples(c, model, self._key(key), defect, joint=False)
        # The fit was judged at its training controls, and one that did not converge there is no better here.
        there = diagnose(self.draws, model, self.posterior, self.training_outputs)
        status = max(self.status, there.status, key=("ok", "suspect", "failed").index)
        new = [r for r in there.reasons if r not in self.reasons]
        more = tuple(f"at these controls: {r}" if self.reasons else r for r in new)
        # The first reason is the one that pictures and tables show: that of the worse status.
        reasons = self.reasons + more if status == self.status else more + self.reasons
        doubts = find_doubts(self._strengths(c, model, defect))
        return bands_of(self.posterior, c, samples, status, reasons, self.weights, doubts, levels, wanted)

    def doubt_strengths(self, controls: Any) -> dict[str, np.ndarray]:
        """Strength of each doubt of :meth:`predict` at new controls (N, p): name to (N, Q), above 1 there is doubt."""
        c = check_controls(self.posterior, controls)
        outputs = outputs_at(self.posterior, self.draws, c)
        return self._strengths(c, outputs, self._defect_draws(c, self._key(None)))

    def _strengths(self, c, outputs, defect) -> dict[str, np.ndarray]:
        return strengths(self.posterior, self.draws, c, outputs, self.training_outputs, self.weights, defect)

    @property
    def weights(self) -> np.ndarray:
        """Weight (chain,) of the draws of each chain: 1 unless the chains are in different modes."""
        return weights_of(self.draws)

    def sample(
        self,
        controls: Any,
        kind: str = "latent",
        *,
        key: jax.Array | int | np.integer | None = None,
        joint: bool = True,
    ) -> np.ndarray:
        """Joint draws (chain, draw, N, Q) at new controls, to be weighted by :attr:`weights`.

        Parameters
        ----------
        controls : array (N, p)
        kind : {"latent", "predictive", "model"}
            "model" is the PMM alone, without widening, floor, defect and noise.
        key : PRNG key or int, optional
            The fit's own if not given.
        joint : bool
            Floor and error independent from control to control. Without it each draw has the same at all of them, as
            the bands of :meth:`predict` do: right for each control by itself, and smooth along a curve.

        Raises
        ------
        InputError
            For an unknown kind or bad controls.
        """
        outputs = outputs_at(self.posterior, self.draws, controls)
        if kind == "model":
            return outputs
        c, key = check_controls(self.posterior, controls), self._key(key)
        samples = self._samples(c, outputs, key, self._defect_draws(c, key), joint)
        if kind not in samples:
            raise InputError(f"kind '{kind}' is unknown; use latent, predictive or model")
        return samples[kind]

    def covariance(self, controls: Any, kind: str = "latent") -> np.ndarray:
        """Covariance (N·Q, N·Q) of the outputs at new controls, outputs of one control side by side.

        Without floor and errors its rank is at most the number of the model's unknowns, so with many controls it has no
        inverse: for a χ² take ``kind="predictive"``, add the covariance of the measurement, or use a pseudo-inverse.
        """
        samples = self.sample(controls, kind)
        weights = np.repeat(self.weights, samples.shape[1])
        return np.atleast_2d(np.cov(samples.reshape(len(weights), -1), rowvar=False, aweights=weights))

    @cached_property
    def tree(self):
        """The fit as an :class:`xarray.DataTree` with ArviZ's groups."""
        predictions = None
        if self.controls is not None:
            outputs = outputs_at(self.posterior, self.draws, self.controls)
            defect = self._defect_draws(self.controls, self._key(None))
            samples = self._samples(self.controls, outputs, self._key(None), defect)
            predictions = (self.controls, samples)
        return arviz_io.build_tree(
            self.posterior,
            self.draws,
            self.diagnosis,
            self.training_outputs,
            self.key,
            predictions,
            self.defect,
        )

    @property
    def idata(self):
        """What the installed ArviZ works on: InferenceData (0.x) or DataTree (1.x).

        Warns
        -----
        UserWarning
            If chains are in modes of different weight, which ArviZ does not know of.
        """
        if np.ptp(self.weights) > 0:
            warnings.warn(
                "the chains are in modes of different weight, and ArviZ pools them as if they were alike; weigh draws"
                " by sample_stats['weight'], or use fit.predict",
                stacklevel=2,
            )
        return arviz_io.to_arviz(self.tree)

    def save(self, path: str | Path) -> None:
        """Store as netCDF; an existing file is never overwritten."""
        arviz_io.write_tree(self.tree, path)

    def __repr__(self):
        # Nothing is computed for it: notebooks and debuggers ask often.
        data = self.posterior.data
        return "\n".join(
            [
                f"Fit of {', '.join(data.output_names)} against {', '.join(data.control_names)}",
                *self._status_lines,
                "print(fit) says more",
            ]
        )

    @property
    def _status_lines(self) -> list[str]:
        info, pmm = self.draws.info, self.posterior.pmm
        return [
            f"status: {self.status}",
            *(f"  - {reason}" for reason in self.reasons),
            f"{sampler_of(info)}, {info['chains']} chains x {info['draws']} draws, dim {pmm.dim} {pmm.field},"
            f" {time_taken(info)}",
        ]

    def __str__(self):
        d, info = self.diagnosis, self.draws.info
        lines = self._status_lines
        if d.max_rhat is not None:
            steps = "" if d.divergences is None else f", {d.divergences} divergences"
            if "failed_steps_share" in info:
                steps = f", at most {100 * info['failed_steps_share']:.1f} % of a chain's steps failed"
            lines.append(f"R-hat <= {d.max_rhat:.4f}, ESS >= {d.min_ess:.0f}{steps}")
        if "choice" in info:
            lines.append(f"auto chose {info['choice']}")
        most_bent = float(np.max(bend(self.posterior, self.training_outputs, self.weights)))
        widening = self.posterior.widening
        if widening.widens(self.posterior.pmm.outputs).any() and (slope := widening.slope(most_bent)) > 0:
            lines.append(
                f"bands outside the data stretched by 1 + {slope:.2g} √(distance in ranges of the data)"
            )
        if self.defect is not None:
            lines.append(
                f"defect outside the data {self.defect.scale:.2g} of the spread at one range's distance"
            )
        return "\n".join([*lines, *approximation_lines(info)])

    @cached_property
    def training_outputs(self) -> np.ndarray:
        """Outputs of the PMM alone at the training controls, (chain, draw, N, Q)."""
        return outputs_at(self.posterior, self.draws, self.posterior.data.controls)

    def _samples(self, controls, outputs, key, defect, joint=True) -> dict[str, np.ndarray]:
        stretched = widened(self.posterior, outputs, controls, self.training_outputs, self.weights)
        return with_noise(self.posterior, self.draws, stretched, key, defect, joint)

    def _defect_draws(self, controls: np.ndarray, key: jax.Array) -> np.ndarray | None:
        if self.defect is None:
            return None
        spread, growth = np.asarray(self.posterior.scaling.spread), self.defect.growth
        kernels = [self.posterior.covariance_of_defect(growth, controls, q) for q in range(len(spread))]
        return self.defect.sample(kernels, spread, self.draws.shape, stream(key, "defect"))

    def _key(self, key: jax.Array | int | np.integer | None) -> jax.Array:
        return stream(self.key, "noise") if key is None else as_key(key)


def fit(
    posterior: Posterior | Fit,
    method: Method | str = "auto",
    *,
    key: jax.Array | int | np.integer,
    controls: Any = None,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    **settings: Any,
) -> Fit:
    """Draw from a posterior and judge the draws.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior.
    method : Method or {"auto", "nuts", "manifold", "variational", "laplace", "smc"}
        Default settings for a name. ``auto`` chooses, goes on where draws do not suffice, and says why.
    key : PRNG key or int
        All randomness follows from it.
    controls : array (P, p), optional
        Prediction controls, whose outputs count for the status and go into the group ``predictions``.
    progress : callable, optional
        A bar on a terminal if not given.
    checkpoint : path, optional
        Folder that an interrupted run resumes from, by the same data, model, method, key and versions only, and the
        same prediction controls where the method is ``auto``.
    **settings
        Of the method, such as ``chains=2, warmup=300, draws=500``: instead of its own.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        If the method or a setting is unknown, the controls are bad, or ``checkpoint`` has draws of another run or of
        other versions, or another fit is at work in it.
    BayesPMMError
        If no start fits the data.

    Warns
    -----
    UserWarning
        If JAX works in float32, or ``checkpoint`` does not say of which versions its draws are.
    """
    if not double_precision():
        warnings.warn(
            "JAX works in float32: eigenvalues and their gradients lose the digits that small noise needs;"
            " call jax.config.update('jax_enable_x64', True) before anything else",
            stacklevel=2,
        )
    posterior, key = as_posterior(posterior), as_key(key)
    method = as_method(method, **settings)
    if controls is not None:
        controls = check_controls(posterior, controls)
        check_memory(len(controls), posterior.data.n_outputs, _draws_of(method))
    if isinstance(method, Auto) and (controls is not None or method.at):
        # It goes on until the outputs there suffice, as the status of these controls counts them.
        at = check_controls(posterior, method.at) if controls is None else controls
        method = replace(method, at=at.tolist())
    kept: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        kept = claimed(checkpoint, _fingerprints(posterior, method, key))
    key_run, key_fit = jax.random.split(key)
    began = time.perf_counter()
    with kept, on_terminal(progress) as report:
        logger.info("drawing with %r from %r", method, posterior.pmm)
        draws = method.run(posterior, key_run, progress=report, checkpoint=checkpoint)
    outputs = _judged_outputs(posterior, draws, controls)
    if "pareto_k" not in draws.info and outputs.shape[0] > 1 and np.isfinite(outputs).all():
        modes = find_modes(posterior, draws, outputs, stream(key_fit, "modes"))
        draws = replace(draws, info=draws.info | {"modes": [vars(m) for m in modes]})
    diagnosis = diagnose(draws, outputs, posterior)
    about = {"total_seconds": time.perf_counter() - began, "method": settings_of(method)}
    draws = replace(draws, info=draws.info | about)
    logger.info("%d basins, %.1f s", len(draws.info.get("basins", ())), draws.info["seconds"])
    if diagnosis.status != "ok":
        logger.info("status %s: %s", diagnosis.status, "; ".join(diagnosis.reasons))
    return Fit(posterior, draws, diagnosis, key_fit, controls)


def _draws_of(method: Method) -> int:
    """Number of draws of a method, all chains together; 0 where it does not say."""
    return getattr(method, "chains", 0) * getattr(method, "draws", 0)


def rediagnosed(fit: Fit) -> Fit:
    """The same fit with its diagnosis made again, after something in its draws changed."""
    outputs = _judged_outputs(fit.posterior, fit.draws, fit.controls)
    return replace(fit, diagnosis=diagnose(fit.draws, outputs, fit.posterior))


def _judged_outputs(posterior: Posterior, draws: Draws, controls: np.ndarray | None) -> np.ndarray:
    """Outputs that the status is about: at the training controls and those of prediction, if any."""
    at = posterior.data.controls if controls is None else np.concatenate([posterior.data.controls, controls])
    return outputs_at(posterior, draws, at)


def _fingerprints(posterior: Posterior, method: Method, key: jax.Array) -> dict[str, str]:
    """Everything that the draws depend on, by what it is of."""
    data, pmm, basis = posterior.data, posterior.pmm, posterior.pmm.basis
    terms = posterior.scaling.coefficients(basis, data.controls)
    # Computed numbers may differ in their last digits on another machine.
    rounded = lambda x: [f"{v:.9g}" for v in np.ravel(x)]
    whole = {
        "data": (data.control_names, data.output_names, *(a.tolist() for a in posterior.training)),
        "units": {k: rounded(v) for k, v in posterior.scaling.to_dict().items()},
        "outputs": [str(o) for o in pmm.outputs],
        "dim": pmm.dim,
        "field": pmm.field,
        # A user's own basis may have the same name and other terms.
        "basis": (str(basis), rounded(terms)),
        "prior": posterior.prior,
        "noise": posterior.noise,
        "method": method,
        "prediction controls": getattr(method, "at", ()),
        "key": (str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()),
        "precision": double_precision(),
    }
    # Of objects without a representation of their own Python shows the address, which says nothing.
    text = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(value)) for name, value in whole.items()}
    return {name: hashlib.sha256(value.encode()).hexdigest() for name, value in text.items()}


def load(path: str | Path, basis: Basis | None = None) -> Fit:
    """Fit stored by :meth:`Fit.save`.

    Parameters
    ----------
    path : path
        The netCDF file, or the folder of a run.
    basis : Basis, optional
        Needed where the fit had a user's own basis.

    Raises
    ------
    InputError
        If the file is missing, truncated, damaged or foreign, the basis is missing or another one, or JAX works in
        float32 and the draws are in double precision.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "posterior.nc"
    tree = arviz_io.read_tree(path)
    try:
        found = Fit(*arviz_io.restore(tree, basis))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not double_precision() and any(v.dtype == np.float64 for v in found.draws.sites.values()):
        raise InputError(
            f"{path}: was drawn in double precision, and JAX works in float32, in which its bands would be wrong; call"
            " jax.config.update('jax_enable_x64', True) before anything else"
        )
    return replace(found, controls=arviz_io.prediction_controls(tree), defect=arviz_io.restore_defect(tree))


def sampler_of(info: dict[str, Any]) -> str:
    """The sampler whose draws these are, with its guide if it has one."""
    return f"{info['sampler']} ({info['guide']})" if "guide" in info else info["sampler"]


def approximation_lines(info: dict[str, Any]) -> list[str]:
    """How far draws of an approximation can stand for the posterior's; empty for other draws."""
    lines = [f"Pareto k {info['pareto_k']:.2f}"] if "pareto_k" in info else []
    if exact := info.get("against_exact"):
        lines.append(
            f"against {exact['sampler']}, outputs at the data: means off by at most {exact['shift']:.2g} sd, sds"
            f" {exact['narrowest']:.2g} to {exact['widest']:.2g} times its"
        )
    return lines


def time_taken(info: dict[str, Any]) -> str:
    """Seconds of sampling, and of all where that is known: compiling and looking for starts may well take longer."""
    seconds, total = info["seconds"], info.get("total_seconds", 0.0)
    if not total:
        return f"{seconds:.1f} s"
    # The seconds before an interruption count for the sampling alone.
    return f"sampling {seconds:.1f} s" + ("" if total <= seconds else f" of {total:.1f} s")


def as_posterior(given: Any) -> Posterior:
    """The posterior itself, or that of a fit, for functions that draw again.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(given, Fit):
        return given.posterior
    if not isinstance(given, Posterior):
        raise InputError(
            f"{type(given).__name__} is neither a posterior nor a fit; give Posterior(data, PMM([...]))"
        )
    return given


def as_fit(given: Any) -> Fit:
    """The fit itself, for functions that need its draws.

    Raises
    ------
    InputError
        For a posterior, which has no draws yet, and anything else.
    """
    if isinstance(given, Posterior):
        raise InputError("this needs draws, and a posterior has none yet; give fit(posterior, key=0)")
    if not isinstance(given, Fit):
        raise InputError(f"{type(given).__name__} is no fit; give what fit or load returns")
    return given
