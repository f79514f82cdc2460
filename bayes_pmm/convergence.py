"""R-hat and effective sample size of draws, by ArviZ of either generation."""

import warnings

import numpy as np
import xarray as xr

__all__ = ["import_arviz", "rhat_and_ess"]


def import_arviz():
    """ArviZ, without the notice that 0.x prints on import."""
    with warnings.catch_warnings():
        # ArviZ 0.x announces its successor on every import.
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def rhat_and_ess(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-normalised split R-hat, and the smaller of bulk and tail ESS, of draws (chain, draw, ...): two (...).

    A quantity that never moves has R-hat NaN and ESS NaN.
    """
    az = import_arviz()
    shape = draws.shape[2:]
    flat = xr.Dataset({"x": (("chain", "draw", "k"), draws.reshape(*draws.shape[:2], -1))})
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = az.rhat(flat)["x"].values
        bulk, tail = (az.ess(flat, method=m)["x"].values for m in ("bulk", "tail"))
    constant = np.ptp(flat["x"].values, axis=(0, 1)) == 0
    rhat, ess = np.where(constant, np.nan, rhat), np.where(constant, np.nan, np.fmin(bulk, tail))
    return rhat.reshape(shape), ess.reshape(shape)
