"""Bayesian parametric matrix models: emulators of spectra and observables with posterior bands.

A :class:`PMM` gives its outputs as eigenvalues and eigenvector bilinears of M(c) = Σ_l φ_l(c) M_l; a
:class:`Posterior` puts priors on the matrices and a likelihood on the data; :func:`fit` draws from it; the
:class:`Fit` predicts bands at new controls.
"""

from bayes_pmm import problems
from bayes_pmm.bands import Bands
from bayes_pmm.basis import Affine, Basis, Custom, Fourier, InversePowers, Polynomial
from bayes_pmm.checks import PredictiveCheck, predictive_check, prior_predictive
from bayes_pmm.compare import Comparison, compare
from bayes_pmm.conformal import Conformal, conformal
from bayes_pmm.data import Dataset
from bayes_pmm.defect import Defect, Growth
from bayes_pmm.defect_learning import learn_defect, with_defect
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.evidence import Evidence, log_evidence, nested_log_evidence, with_mode_masses
from bayes_pmm.fit import Fit, fit, load
from bayes_pmm.inference import NUTS, AnnealedStarts, Auto, Draws, Laplace, Manifold, TemperedSMC, Variational
from bayes_pmm.inference.nested import NestedSampling
from bayes_pmm.judging import judge_fit
from bayes_pmm.loo import Loo, loo
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.outputs import Difference, Expectation, Level, Transition
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.scores import Scores
from bayes_pmm.tables import read_dataset
from bayes_pmm.validation import LeftOut, k_fold, leave_future_out
from bayes_pmm.widening import Widening

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
    "Comparison",
    "Conformal",
    "Custom",
    "Dataset",
    "Defect",
    "Difference",
    "Draws",
    "Evidence",
    "Expectation",
    "Fit",
    "Fourier",
    "Growth",
    "InputError",
    "InversePowers",
    "Laplace",
    "LeftOut",
    "Level",
    "Loo",
    "Manifold",
    "NestedSampling",
    "Noise",
    "Polynomial",
    "Posterior",
    "PredictiveCheck",
    "Prior",
    "Scores",
    "TemperedSMC",
    "Transition",
    "Variational",
    "Widening",
    "compare",
    "conformal",
    "fit",
    "judge_fit",
    "k_fold",
    "learn_defect",
    "leave_future_out",
    "load",
    "log_evidence",
    "loo",
    "nested_log_evidence",
    "predictive_check",
    "prior_predictive",
    "problems",
    "read_dataset",
    "with_defect",
    "with_mode_masses",
]
