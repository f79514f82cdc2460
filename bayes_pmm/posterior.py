r"""Model + prior + noise + data: a NumPyro model, its log densities, and its outputs from draws."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn

from bayes_pmm import slips
from bayes_pmm.basis import Custom
from bayes_pmm.data import Dataset
from bayes_pmm.defect import Growth, distances
from bayes_pmm.errors import InputError
from bayes_pmm.memory import fits_into_memory
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.outputs import output_named
from bayes_pmm.priors import MatrixPrior, Prior
from bayes_pmm.scaling import Scaling, fit_scaling
from bayes_pmm.widening import Widening

__all__ = ["Posterior"]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of a PMM's matrices given a data set.

    Parameters
    ----------
    data : Dataset
    pmm : PMM
        One output per data column, in the same order. If it has no dimension yet, it gets the default one here.
    prior : Prior
    noise : Noise
    scaling : Scaling, optional
        Fitted to the data unless a stored one is given. ``dataclasses.replace`` keeps it, and data that come with one
        are not checked for slips: with other data, another basis or other outputs give ``scaling=None`` too.
    widening : Widening
        How much bands are stretched outside the data. It is no part of the density.

    Raises
    ------
    InputError
        If the outputs do not fit the columns, the basis has more terms than there are different controls, nothing says
        how noisy a column is, levels stand in the wrong order in every row, the data have no unit to work in, or a
        given scaling is of another basis or other outputs.

    Warns
    -----
    UserWarning
        If data look like a slip: a column that is fitted as another output than its name says or has the same value in
        all rows, levels in the wrong order in some, strengths below 0, errors in another unit than the data, a control
        that is called like a level.

    Examples
    --------
    The bare NumPyro model, in the user's units, for one's own inference::

        posterior = Posterior(data, PMM(["E0", "E1"]))
        mcmc = MCMC(NUTS(posterior.model), num_warmup=500, num_samples=500)
        mcmc.run(jax.random.key(0), data.controls, y=data.values, error=data.errors)
    """

    data: Dataset
    pmm: PMM
    prior: Prior = field(default_factory=Prior)
    noise: Noise = field(default_factory=Noise)
    scaling: Scaling = None  # type: ignore[assignment]  # None only until __post_init__ has fitted it
    widening: Widening = field(default_factory=Widening)

    if TYPE_CHECKING:

        def __init__(
            self,
            data: Dataset,
            pmm: PMM,
            prior: Prior = ...,
            noise: Noise = ...,
            scaling: Scaling | None = None,
            widening: Widening = ...,
        ) -> None: ...

    def __post_init__(self):
        if not isinstance(self.data, Dataset) or not isinstance(self.pmm, PMM):
            given = f"{type(self.data).__name__}, {type(self.pmm).__name__}"
            raise InputError(
                f"Posterior({given}): a posterior takes a data set and then a model; write Posterior(data, PMM([...]))"
            )
        kinds = {"prior": Prior, "noise": Noise, "widening": Widening}
        for name, kind in kinds.items():
            given = getattr(self, name)
            if not isinstance(given, kind):
                meant = next((other for other, k in kinds.items() if isinstance(given, k)), None)
                advice = (
                    f"write {meant}={given!r}"
                    if meant is not None
                    else f"give for example bp.{kind.__name__}()"
                    + (", or bp.Widening(0) for none" if name == "widening" else "")
                )
                raise InputError(f"{name} = {given!r} is no {kind.__name__}; {advice}")
        if len(self.pmm.outputs) != self.data.n_outputs:
            raise InputError(
                f"the model has {len(self.pmm.outputs)} outputs and the data {self.data.n_outputs} columns"
                f" ({', '.join(self.data.output_names)}); give one output per column"
            )
        pmm = self.pmm.sized(self.data.n_observed, self.data.n_controls)
        object.__setattr__(self, "pmm", pmm)
        # A stored fit may be from before repeated rows did not count, and a custom basis is the user's own affair.
        given = vars(self)["scaling"] is not None
        if not (given or isinstance(pmm.basis, Custom)):
            terms = pmm.basis.n_terms(self.data.n_controls)
            # Repeated rows say nothing more of the terms.
            places = len(np.unique(self.data.controls[self.data.mask.any(axis=1)], axis=0))
            if terms > max(places, 1 + self.data.n_controls):
                raise InputError(
                    f"basis {pmm.basis}: {terms} terms, more than the {places} different controls of the data; use a"
                    " lower degree"
                )
        if not self.noise.floor:
            bare = [n for n, e in zip(self.data.output_names, self.data.rms_errors, strict=True) if e == 0]
            if bare:
                raise InputError(
                    f"output {bare[0]}: no known error and the learned floor is off; give errors or leave the floor on"
                )
        # Past this line it is there, as its annotation says.
        if not given:
            for name, output in zip(self.data.output_names, self.pmm.outputs, strict=True):
                if output_named(name) not in (None, output):
                    warnings.warn(
                        f"column {name} is fitted as {output}, as the model says; if its name is meant, give"
                        f" {name!r} among the outputs",
                        stacklevel=3,
                    )
            slips.check_order(self.data, self.pmm.outputs)
            slips.check_errors(self.data)
            slips.check_exchange(self.data)
            slips.check_constants(self.data)
            slips.check_strengths(self.data, self.pmm.outputs)
            slips.check_typos(self.data, self.pmm.outputs)
            object.__setattr__(self, "scaling", fit_scaling(self.data, self.pmm.outputs, self.pmm.basis))
        # Inside a compiled function the units are JAX's arrays, and what depends on them was checked outside.
        if not any(isinstance(x, jax.Array) for x in jax.tree.leaves(vars(self.scaling))):
            with jax.ensure_compile_time_eval():
                if given and not self.scaling.suits(self.data, pmm.outputs, pmm.basis):
                    raise InputError(
                        f"the scaling was fitted for another basis or other outputs than {pmm.basis} and"
                        f" {', '.join(map(str, pmm.outputs))}; have it fitted again, as in replace(posterior, pmm=...,"
                        " scaling=None)"
                    )
                self._check_empty_rows()

    def _check_empty_rows(self):
        empty = np.flatnonzero(~self.data.mask.any(axis=1))
        if empty.size and not np.isfinite(np.asarray(self.terms(self.data.controls))).all():
            raise InputError(
                f"basis {self.pmm.basis}: not finite at the controls of row {empty[0]} or another that has no value;"
                " remove such rows"
            )

    def __repr__(self):
        pmm = self.pmm
        columns = zip(self.data.output_names, pmm.outputs, strict=True)
        return "\n".join(
            [
                f"Posterior of {self.matrix_prior.n_matrices} {pmm.field} matrices of dimension {pmm.dim},"
                f" basis {pmm.basis}",
                "  outputs " + ", ".join(n if n == str(o) else f"{n} = {o}" for n, o in columns),
                f"  {self.data.n_rows} rows, {self.data.n_observed} data,"
                f" controls {', '.join(self.data.control_names)}",
                f"  {self.prior}",
                f"  {self.noise}",
            ]
        )

    def __getstate__(self):
        # Compiled functions belong to this process.
        return {k: v for k, v in vars(self).items() if k not in ("outputs_of_draws", "terms")}

    @cached_property
    def outputs_of_draws(self) -> Callable[[dict, jax.Array | np.ndarray], jax.Array]:
        """Compiled function from sites (S, ...) and controls (N, p) to outputs (S, N, Q), without floor and noise."""
        return jax.jit(lambda s, c: jax.lax.map(lambda one: self.outputs(one, c), s, batch_size=64))

    @cached_property
    def terms(self) -> Callable[[jax.Array | np.ndarray], jax.Array]:
        """Compiled function from controls (N, p) to the coefficients (N, L) of the primary matrices."""
        return jax.jit(lambda c: self.scaling.coefficients(self.pmm.basis, c))

    def places(self, controls: np.ndarray, output: int) -> np.ndarray:
        """Where controls (N, p) lie for the question what is outside an output's data, by the basis: points (N, p)."""
        seen = self.data.controls[self.data.mask[:, output]]
        return self.pmm.basis.places(np.asarray(controls, float), seen)

    def placed(self, output: int) -> Dataset:
        """The data at the :meth:`places` of their controls: what is outside, and how far, is judged there."""
        return replace(self.data, controls=self.places(self.data.controls, output))

    def extrapolated(self, controls: np.ndarray) -> np.ndarray:
        """Where controls (N, p) lie outside the data, output by output: (N, Q) of bool."""
        return self._by_output(controls, Dataset.extrapolated)

    def distances(self, controls: np.ndarray) -> np.ndarray:
        """How far controls (N, p) lie outside the data of each output, in units of its controls' ranges: (N, Q)."""
        return self._by_output(controls, distances)

    def covariance_of_defect(self, growth: Growth, controls: np.ndarray, output: int) -> np.ndarray:
        """Covariance (N, N) of an output's defect at controls (N, p), in units of its scale and the output's spread.

        Raises
        ------
        InputError
            If those of all outputs do not fit into the machine's memory.
        """
        # One matrix of each output; differences of all controls and their squares; and eigenvectors with what is made
        # of them.
        matrices = self.data.n_outputs + 2 * self.data.n_controls + 4
        fits_into_memory(
            8.0 * matrices * len(controls) ** 2,
            f"the defect's covariances between {len(controls)} controls",
            "predict at fewer controls at a time",
        )
        return growth.covariance(self.placed(output), self.places(controls, output), output)

    def _by_output(self, controls: np.ndarray, of: Callable[[Dataset, np.ndarray], np.ndarray]) -> np.ndarray:
        """What ``of`` says (N, Q) of data and controls at each output's own places."""
        done: dict[bytes, np.ndarray] = {}
        for q, seen in enumerate(self.data.mask.T):
            # Outputs of the same rows have the same places.
            if seen.tobytes() not in done:
                done[seen.tobytes()] = of(self.placed(q), self.places(controls, q))
        return np.stack([done[seen.tobytes()][:, q] for q, seen in enumerate(self.data.mask.T)], axis=1)

    @property
    def dim(self) -> int:
        """Dimension n of the matrices."""
        assert self.pmm.dim is not None  # a posterior's model is sized
        return self.pmm.dim

    @property
    def matrix_prior(self) -> MatrixPrior:
        """Prior of the primary and secondary matrices."""
        # From above or from below, by position; the first one used comes first.
        seen = tuple(dict.fromkeys(k % self.dim for o in self.pmm.outputs for k in o.levels))
        return MatrixPrior(
            self.prior,
            self.dim,
            self.pmm.field,
            self.pmm.basis.n_terms(self.data.n_controls),
            len(self.pmm.operators),
            seen=seen,
            terms_unit=self._terms_unit,
        )

    @property
    def _terms_unit(self) -> jax.Array | float:
        # Without a constant no matrix stands apart from those of the terms.
        if self.prior.terms_unit == "spread" or not self.pmm.basis.has_constant:
            return 1.0
        return jnp.asarray(self.scaling.variation)[0]

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments (c, y, error) of :meth:`model` for the training data."""
        return self.data.controls, self.data.values, self.data.errors

    @property
    def arrays(self) -> dict:
        """All that depends on the data's values, as arrays: what a compiled function should take as argument.

        A function that closes over the data instead is compiled again for every new data set.
        """
        c, y, error = self.training
        scaling = {k: np.asarray(v, float) for k, v in asdict(self.scaling).items()}
        return {"scaling": scaling, "c": c, "y": y, "error": error}

    def with_arrays(self, arrays: dict) -> "Posterior":
        """Return the same posterior with the scaling from traced :attr:`arrays`, inside a compiled function."""
        return replace(self, scaling=Scaling(**arrays["scaling"]))

    @property
    def _one_row(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments of :meth:`model` where only the latent sites matter: the same for all data of one shape."""
        row = np.ones((1, self.data.n_outputs))
        return np.ones((1, self.data.n_controls)), row, row

    def model(self, c, y=None, error=None):
        """NumPyro model in the user's units.

        Parameters
        ----------
        c : array (N, p)
            Controls.
        y : array (N, Q), optional
            Data; NaN where missing. The observed site has the same name.
        error : array (N, Q), optional
            Known errors, 0 where there is none.
        """
        c = self._columns("c", c, self.data.control_names)
        y = None if y is None else self._columns("y", y, self.data.output_names)
        error = None if error is None else self._columns("error", error, self.data.output_names)
        matrices = self.matrix_prior.sample()
        floor = self.noise.sample_floor(self.scaling.spread, self.scaling.least_floor)
        mean = self.evaluate(matrices, c)
        return self.noise.sample_data(mean, floor, y, error)

    @staticmethod
    def _columns(what: str, values, names: tuple[str, ...]) -> jax.Array:
        """Argument of the model (N, len(names)); for one column also (N,)."""
        array = jnp.asarray(values)
        if array.ndim == 1 and len(names) == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != len(names):
            raise InputError(
                f"{what} of shape {array.shape}: the model takes (N, {len(names)}), the columns {', '.join(names)}"
            )
        return array

    def evaluate(self, matrices: jax.Array, c: jax.Array | np.ndarray) -> jax.Array:
        """Outputs (N, Q) in the user's units from matrices (K, n, n) at controls (N, p)."""
        return self.evaluate_at(matrices, self.scaling.coefficients(self.pmm.basis, c))

    def evaluate_at(self, matrices: jax.Array, phi: jax.Array) -> jax.Array:
        """Outputs (N, Q) in the user's units from matrices (K, n, n) and their coefficients φ (N, L)."""
        L = matrices.shape[0] - len(self.pmm.operators)
        secondary = dict(zip(self.pmm.operators, matrices[L:], strict=True))
        return self.scaling.to_user(self.pmm.evaluate(matrices[:L], secondary, phi))

    # Log densities over the dict z of unconstrained sites, for any sampler.

    def potential(self, z: dict, c, y, error) -> jax.Array:
        """Minus the log posterior of unconstrained z, Jacobian of the transforms included."""
        return potential_energy(self.model, (c, y, error), {}, z)

    def log_prior(self, z: dict) -> jax.Array:
        """Log prior of unconstrained z, Jacobian included."""
        # hide by name: hiding all observed sites would drop the transforms' Jacobian too.
        prior_model = handlers.block(self.model, hide=["y"])
        return -potential_energy(prior_model, self._one_row, {}, z)

    def log_priors(self, sites: dict) -> dict:
        """Log prior density of each site given those before it, at the sites' values; their sum is that of all.

        Of the sites themselves, without the Jacobian that :meth:`log_prior` has.
        """
        with handlers.substitute(data=sites), handlers.trace() as trace:
            self.model(*self._one_row)
        return {k: jnp.sum(trace[k]["fn"].log_prob(trace[k]["value"])) for k in sites}

    def log_likelihood(self, z: dict) -> jax.Array:
        """Log likelihood of unconstrained z."""
        return jnp.sum(self.pointwise(self.constrain(z)))

    def pointwise(self, sites: dict) -> jax.Array:
        """Log likelihood (N, Q) per datum from the sites' values, 0 where missing."""
        c, y, error = (jnp.asarray(a) for a in self.training)
        mean = self.evaluate(self.matrix_prior.assemble(sites), c)
        variance = (
            jnp.broadcast_to(sites["floor"][None, :] ** 2 if self.noise.floor else 0.0, mean.shape) + error**2
        )
        missing = jnp.isnan(y)
        r = jnp.where(missing, 0.0, y - mean)
        return jnp.where(missing, 0.0, -0.5 * (r**2 / variance + jnp.log(2 * np.pi * variance)))

    def constrain(self, z: dict) -> dict:
        """Values of the sites from unconstrained z."""
        return {k: v for k, v in constrain_fn(self.model, self._one_row, {}, z).items() if k in z}

    def unconstrain(self, sites: dict) -> dict:
        """Unconstrained z from the values of the sites."""
        return unconstrain_fn(self.model, self._one_row, {}, sites)

    def prior_sites(self, key: jax.Array) -> dict:
        """One draw of all latent sites from the prior."""
        with handlers.seed(rng_seed=key), handlers.trace() as trace:
            self.model(*self._one_row)
        return {k: site["value"] for k, site in trace.items() if site["type"] == "sample" and k != "y"}

    def outputs(self, sites: dict, c: jax.Array | np.ndarray) -> jax.Array:
        """Outputs (N, Q) of one draw at controls (N, p), without floor and noise; jit- and vmap-able."""
        return self.evaluate(self.matrix_prior.assemble(sites), c)
