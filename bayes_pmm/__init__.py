"""Bayesian parametric matrix models: emulators of spectra and observables with posterior bands.

A :class:`PMM` gives its outputs as eigenvalues and eigenvector bilinears of M(c) = Σ_l φ_l(c) M_l; a
:class:`Posterior` puts priors on the matrices and a likelihood on the data; :func:`fit` draws from it; the
:class:`Fit` predicts bands at new controls.
"""

from bayes_pmm import problems
from bayes_pmm.basis import Affine, Basis, Custom, Fourier, InversePowers, Polynomial
from bayes_pmm.data import Dataset
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import Fit, fit, load
from bayes_pmm.inference import NUTS, AnnealedStarts, Auto, Laplace, Manifold, TemperedSMC, Variational
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.outputs import Difference, Expectation, Level, Transition
from bayes_pmm.posterior import Posterior
from bayes_pmm.predict import Bands
from bayes_pmm.priors import Prior
from bayes_pmm.tables import read_dataset

__version__ = "0.1.0"

__all__ = [
    "NUTS",
    "PMM",
    "Affine",
    "AnnealedStarts",
    "Auto",
    "Bands",
    "Basis",
    "BayesPMMError",
    "Custom",
    "Dataset",
    "Difference",
    "Expectation",
    "Fit",
    "Fourier",
    "InputError",
    "InversePowers",
    "Laplace",
    "Level",
    "Manifold",
    "Noise",
    "Polynomial",
    "Posterior",
    "Prior",
    "TemperedSMC",
    "Transition",
    "Variational",
    "fit",
    "load",
    "problems",
    "read_dataset",
]
