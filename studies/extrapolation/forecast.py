"""What a method gives, and the standardised data that the general regression methods see."""

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from bayes_pmm.basis import Basis
from bayes_pmm.data import Dataset

LEAST_SD = 1e-12


class NotApplicableError(Exception):
    """The method needs something that the task does not have."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Draws of the latent outputs at a task's controls.

    Parameters
    ----------
    draws : array (S, K, Q)
        In the user's units, S >= 2. A point forecast is one value repeated: its CRPS is the absolute error.
    about : dict
        Plain facts about the fit.
    weights : array (S,), optional
        Of the draws; equal if not given.
    flags : array (K, Q) of bool, optional
        Points that the method itself calls doubtful.
    doubts : dict of name to array (K, Q) of bool, optional
        The same by reason.
    strengths : dict of name to array (K, Q), optional
        How strong each reason is, in units of the limit that it had.
    """

    draws: np.ndarray
    about: dict = field(default_factory=dict)
    weights: np.ndarray | None = None
    flags: np.ndarray | None = None
    doubts: dict[str, np.ndarray] = field(default_factory=dict)
    strengths: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Standardised:
    """Inputs and outputs with mean 0 and standard deviation 1 over the training data.

    Parameters
    ----------
    x, at : arrays (N, F), (K, F)
        Inputs for training and for the forecast.
    y, error : arrays (N, Q)
        Outputs, NaN where missing, and their known errors, 0 where unknown.
    shift, scale : arrays (Q,)
        user = shift + scale · standardised.
    """

    x: np.ndarray
    at: np.ndarray
    y: np.ndarray
    error: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """True where a value was observed, (N, Q)."""
        return ~np.isnan(self.y)

    def to_user(self, values: np.ndarray) -> np.ndarray:
        """Values (..., Q) in the user's units."""
        return self.shift + self.scale * values


def standardise(data: Dataset, basis: Basis, controls: np.ndarray) -> Standardised:
    """Standardised data: the same knowledge of the controls for every method.

    Affine and polynomial bases say nothing about the control that a general method would not find out; the inputs
    are the controls. Any other basis is knowledge (a period, a singularity), and its terms are the inputs: a kernel
    on cos and sin is a periodic kernel.
    """
    if basis.maps_controls:
        x, at = data.controls, np.asarray(controls, float)
    else:
        first = int(basis.has_constant)
        x, at = (
            np.asarray(basis(jnp.asarray(c, float)), float)[:, first:] for c in (data.controls, controls)
        )
    centre, width = x.mean(0), x.std(0)
    shift, scale = np.nanmean(data.values, axis=0), np.nanstd(data.values, axis=0)
    scale = np.where(scale > LEAST_SD, scale, 1.0)
    return Standardised(
        (x - centre) / width,
        (at - centre) / width,
        (data.values - shift) / scale,
        data.errors / scale,
        shift,
        scale,
    )
