r"""The likelihood: variance of a datum = s² + f², with s its known error and f a learned floor per output."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import AffineTransform

from bayes_pmm.errors import InputError
from bayes_pmm.settings import in_range, plain_numbers

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise with known errors, a learned floor, or both.

    Parameters
    ----------
    floor : bool
        Learn a floor f per output: whatever the known errors and the model do not explain.
    floor_scale : float
        Scale of f's half-Cauchy prior, in units of the output's own spread. Its tail lets a misfit be seen. It begins
        at 1e-9 of the levels' spread: a model that interpolates exact data says nothing about floors below.

    Raises
    ------
    InputError
        If the scale is not positive and finite.
    """

    floor: bool = True
    floor_scale: float = 0.05

    def __post_init__(self):
        plain_numbers(self)
        if not isinstance(self.floor, bool):
            raise InputError(
                f"noise: floor = {self.floor!r} is neither True nor False; for its scale write"
                " Noise(floor_scale=0.2)"
            )
        if not in_range(self.floor_scale):
            raise InputError(f"noise: floor_scale = {self.floor_scale} must be positive and finite")

    def sample_floor(self, unit, least=0.0) -> jnp.ndarray:
        """NumPyro site ``floor`` (Q,) in the user's units; zeros if there is none.

        Parameters
        ----------
        unit : array (Q,)
            The outputs' spreads.
        least : array (Q,), optional
            Where it begins, :attr:`~bayes_pmm.scaling.Scaling.least_floor`.
        """
        unit = jnp.asarray(unit)
        if not self.floor:
            return jnp.zeros_like(unit)
        above = AffineTransform(jnp.broadcast_to(jnp.asarray(least), unit.shape), 1.0, constraints.positive)
        floor = dist.TransformedDistribution(dist.HalfCauchy(self.floor_scale * unit), above)
        return numpyro.sample("floor", floor.to_event(1))

    def sample_data(self, mean, floor, y=None, error=None) -> jnp.ndarray:
        """NumPyro site ``y`` (N, Q) given the PMM's outputs; NaN in ``y`` is a missing datum.

        Parameters
        ----------
        mean : array (N, Q)
        floor : array (Q,)
        y, error : array (N, Q), optional
            Data and their known errors (0 where unknown).
        """
        variance = jnp.broadcast_to(floor[None, :] ** 2, mean.shape)
        if error is not None:
            variance = variance + jnp.asarray(error) ** 2
        if y is None:
            return numpyro.sample("y", dist.Normal(mean, jnp.sqrt(variance)))
        observed = ~jnp.isnan(y)
        # A missing datum has no error: without a floor its variance 0 would make the gradient NaN.
        normal = dist.Normal(mean, jnp.sqrt(jnp.where(observed, variance, 1.0)))
        return numpyro.sample("y", normal.mask(observed), obs=jnp.where(observed, y, 0.0))
