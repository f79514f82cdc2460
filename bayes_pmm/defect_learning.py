"""The defect's scale, learned by leaving out the outermost rows and looking how wrong the band was there."""

import warnings
from dataclasses import replace

import jax
import numpy as np

from bayes_pmm.defect import Defect, Growth, scale_posterior
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.fit import Fit, as_fit, as_posterior
from bayes_pmm.inference import Method, as_method
from bayes_pmm.judging import mixture
from bayes_pmm.posterior import Posterior
from bayes_pmm.settings import as_key, in_range
from bayes_pmm.validation import outer_rows, refit_without

__all__ = ["learn_defect", "with_defect"]


def learn_defect(
    posterior: Posterior | Fit,
    method: Method | str = "auto",
    *,
    key: jax.Array | int | np.integer,
    share: float = 0.3,
    growth: Growth | None = None,
) -> Defect:
    """Learn the scale of the defect from refits without the outermost rows, at both ends of each control.

    Parameters
    ----------
    posterior : Posterior or Fit
        Of a fit its posterior.
    method : Method or str
        For the refits, two for each control.
    key : PRNG key or int
    share : float
        Share of the rows left out at each end.
    growth : Growth, optional
        How the defect grows outside, and the prior of its scale.

    Returns
    -------
    Defect
        Its scale is shared by all outputs, in units of their spreads: each end tells little more than one number.

    Raises
    ------
    InputError
        If the share or the method cannot be used.
    BayesPMMError
        If no end could be left out and refitted.

    Warns
    -----
    UserWarning
        If a refit did not converge; it is used all the same.
    """
    posterior = as_posterior(posterior)
    growth = Growth() if growth is None else growth
    if not isinstance(growth, Growth):
        raise InputError(f"growth = {growth!r} is no Growth; give for example bp.Growth(prior=0.1)")
    method = as_method(method)
    if not (in_range(share) and share < 1):
        raise InputError(f"share = {share!r}: use a share of the rows between 0 and 1")
    key = as_key(key)
    data, spread = posterior.data, np.asarray(posterior.scaling.spread)
    residuals, covariances, kernels, failures = [], [], [], []
    for i, (name, rows) in enumerate(outer_rows(data, share)):
        left = np.repeat(rows[:, None], data.n_outputs, axis=1)
        try:
            refit = refit_without(posterior, left, method, jax.random.fold_in(key, i))
        except BayesPMMError as error:
            failures.append(f"{name}: {error}")
            continue
        if refit.status != "ok":
            guess = "a guess" if refit.status == "failed" else "rough"
            warnings.warn(
                f"the refit without the {name} is {refit.status} ({refit.reasons[0]}): the defect's scale is {guess};"
                " draw longer",
                stacklevel=2,
            )
        mean, sd, weights = mixture(refit, data.controls[rows], data.errors[rows])
        w = weights / weights.sum()
        for q in range(data.n_outputs):
            seen = data.mask[rows, q]
            if not seen.any():
                continue
            f, s = mean[:, seen, q] / spread[q], sd[:, seen, q] / spread[q]
            centre = w @ f
            covariances.append((f - centre).T @ (w[:, None] * (f - centre)) + np.diag(w @ s**2))
            residuals.append(data.values[rows][seen, q] / spread[q] - centre)
            kernels.append(refit.posterior.covariance_of_defect(growth, data.controls[rows][seen], q))
    if not residuals:
        raise BayesPMMError(f"no outermost rows could be left out to learn the defect: {'; '.join(failures)}")
    for text in failures:
        warnings.warn(f"not left out to learn the defect: {text}", stacklevel=2)
    return scale_posterior(growth, residuals, covariances, kernels)


def with_defect(fit: Fit, defect: Defect) -> Fit:
    """The same fit with bands that a learned defect widens outside the data.

    Raises
    ------
    InputError
        If ``fit`` is no fit or ``defect`` is not what :func:`learn_defect` returns.
    """
    if not isinstance(defect, Defect):
        raise InputError(f"{type(defect).__name__} is no defect; give learn_defect(posterior, key=0)")
    return replace(as_fit(fit), defect=defect)
