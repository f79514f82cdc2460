"""The methods by name: each takes a task and a generator of random numbers and gives a forecast."""

from functools import partial

from studies.extrapolation import gaussian_processes, matrix_models, networks, polynomial

GENERAL = {
    "gp_rbf": partial(gaussian_processes.by_marginal_likelihood, smooth=True),
    "gp_matern": partial(gaussian_processes.by_marginal_likelihood, smooth=False),
    "gp_hmc": partial(gaussian_processes.by_hmc, smooth=True),
    "gp_matern_hmc": partial(gaussian_processes.by_hmc, smooth=False),
    "polynomial": polynomial.by_evidence,
    "bnn": networks.bayesian,
    "deep_ensemble": networks.deep_ensemble,
}
"""Methods that are no matrix models."""

MATRIX_MODELS = {
    "pmm_point": matrix_models.point,
    "pmm_held_out": matrix_models.held_out_dim,
    "pmm_restarts": matrix_models.restarts,
    "pmm_conformal": matrix_models.conformal,
}
"""Deterministic parametric matrix models on the same data."""

INFORMED = {"continuation": matrix_models.continuation}
"""Methods that know the Hamiltonian itself."""

PEERS = GENERAL | MATRIX_MODELS | INFORMED
