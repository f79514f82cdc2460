r"""Priors of the matrices: orthogonal and unitary ensembles with learned scales, in the reference gauge.

Each matrix is an ensemble matrix with its own scale τ plus m·1 with m ~ N(0, v). Where levels remain that no output
uses, two things differ: the reference matrix is placed by the mean of the levels in use, not of all (``Prior.centre``),
and the elements between the others are larger in all other matrices (``Prior.growth``). In the reference gauge the
model samples, in data units (centred form):

``scale`` (K,) — τ of each matrix;
``anchor`` — one level of the reference matrix, one that the data see: it is known to the precision of the
noise while the gaps to unseen levels are not, so any other position would tie it to them along a thin curved
sheet;
``gaps`` (n−1,) — gaps between the levels of the reference matrix;
``shift`` (K−1,) — mean of the diagonal of the others, weighted by w⁻² (see growth), whose variance is v + s²/Σ w⁻²,
and more with dilations;
``diagonal`` (K−1, n−1) — their diagonals less this mean, in a basis that is orthonormal in units of w (Helmert's if
all w are 1);
``offdiagonal`` — the others' off-diagonal elements: (K−1, m) real; if complex (K−2, 2m) as [Re, Im] for all
but the first of them, which has ``first_modulus`` (n−1,) for row 0 and ``first_offdiagonal`` for the rest;
``reach`` () or ``local`` (K−1, m) — where couplings are shrunk one by one (``Prior.couplings``).

How much of the reference matrix the other primary ones have (``Prior.dilation``) is no site: it is linear and Gaussian,
and integrated out. Its trace is that the elements of ``shift`` and ``diagonal`` of one matrix are correlated.

K counts primary and then secondary matrices, m = n(n−1)/2.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayes_pmm import gauge, hermitian
from bayes_pmm.errors import InputError
from bayes_pmm.settings import in_range, plain_numbers

__all__ = ["COUPLINGS", "GapEnsemble", "MatrixPrior", "Modulus", "Prior"]

COUPLINGS = ("ensemble", "decaying", "horseshoe")
CENTRES = ("seen", "all")

REACH = 2.0
"""Prior median of ρ: about the distance of neighbouring levels of a small ensemble matrix, in units of τ."""


@dataclass(frozen=True)
class Prior:
    """Hyperparameters of the matrix prior, in the model's units (see ``terms_unit``).

    Parameters
    ----------
    scale_median, scale_spread : float
        Each primary matrix has scale τ ~ LogNormal(log scale_median, scale_spread); spread 0 fixes it. The default is
        wide, so that the data can shrink the couplings; ``studies/extrapolation/hyperprior.py`` compares others.
    secondary_median, secondary_spread : float
        The same for secondary matrices.
    terms_unit : {"variation", "spread"}
        Unit of the scale median of matrices that multiply a term other than the constant: how much the levels vary
        along the controls, or the spread of all levels together, as for the constant's matrix. They differ where levels
        far apart hardly move, and there one unit for all gives bands that are far too wide.
    shift_sd : float
        Standard deviation of the multiple of the identity, √v.
    centre : {"seen", "all"}
        Which levels of the reference matrix have a mean of N(0, v + s²/n): those that the outputs use, whose data have
        mean 0 in the model's units, or all, as in the plain ensemble. With "all", levels seen at one end of the
        spectrum are far from where the data are, and moving them there shrinks the gaps to the unseen ones.
    couplings : {"ensemble", "decaying", "horseshoe"}
        What an off-diagonal element's standard deviation is, beside τ. "ensemble": nothing else. "decaying": times
        exp(−distance of the two levels at c_ref / (ρ τ_0)), ρ ~ LogNormal(log 2, 1). "horseshoe": times
        s λ/√(s² + λ²) with a half-Cauchy λ for each element and s = ``slab``. The last two are *defined* in the
        reference gauge, so they depend on c_ref; real matrices only.
    slab : float
        Largest factor of the horseshoe.
    growth : float
        How much larger the elements between levels that no output uses are: their standard deviation is multiplied by
        √(w_i w_j), w_k = 1 + growth · (number of levels from k to the nearest one that an output uses). Such a level
        stands for many, the steepest of which is the first to come down, and in most systems matrix elements grow with
        the level. Defined in the reference gauge like the two above. 0: the plain ensembles.
    dilation : float
        The primary matrices but the first have a part a (M_0 − ē·1) beside the above, with a ~ N(0, δ²), where δ is
        this number in the unit of the terms and ē the mean of the levels that outputs use: the control may stretch or
        compress the whole spectrum, unseen levels too, as a change of its unit of energy would. Defined in the
        reference gauge like growth. 0: no such part.
    gauge : {"reference", "none"}
        "none" samples whole matrices with all flat directions: the same posterior of outputs, slower. For
        tests.

    Raises
    ------
    InputError
        If a number is not positive and finite, or a choice is unknown.
    """

    scale_median: float = 2.0
    scale_spread: float = 1.0
    secondary_median: float = 2.0
    secondary_spread: float = 1.0
    terms_unit: str = "variation"
    shift_sd: float = 3.0
    centre: str = "seen"
    couplings: str = "ensemble"
    slab: float = 2.0
    growth: float = 0.05
    dilation: float = 0.5
    gauge: str = "reference"

    def __post_init__(self):
        plain_numbers(self)
        for name in ("scale_median", "secondary_median", "shift_sd", "slab"):
            if not in_range(getattr(self, name)):
                raise InputError(f"prior: {name} = {getattr(self, name)!r} must be positive and finite")
        if self.terms_unit not in ("spread", "variation"):
            raise InputError(f"prior: terms_unit '{self.terms_unit}' is unknown; use 'spread' or 'variation'")
        if self.couplings not in COUPLINGS:
            raise InputError(
                f"prior: couplings '{self.couplings}' is unknown; use one of {', '.join(COUPLINGS)}"
            )
        if self.centre not in CENTRES:
            raise InputError(f"prior: centre '{self.centre}' is unknown; use one of {', '.join(CENTRES)}")
        for name in ("scale_spread", "secondary_spread", "growth", "dilation"):
            if not in_range(getattr(self, name), zero=True):
                raise InputError(
                    f"prior: {name} = {getattr(self, name)!r} must not be negative, infinite or NaN"
                )
        if self.gauge not in ("reference", "none"):
            raise InputError(f"prior: gauge '{self.gauge}' is unknown; use 'reference' or 'none'")
        if self.gauge == "none" and (self.growth > 0 or self.dilation > 0 or self.centre != "all"):
            raise InputError(
                "prior: growth, dilation and centre='seen' are defined in the reference gauge; pass growth=0,"
                " dilation=0 and centre='all' with gauge='none'"
            )


class GapEnsemble(dist.Distribution):
    """Gaps between the ascending eigenvalues of a Gaussian orthogonal or unitary matrix of scale tau."""

    arg_constraints = {"tau": constraints.positive}  # noqa: RUF012
    support = constraints.independent(constraints.softplus_positive, 1)
    pytree_data_fields = ("tau",)
    pytree_aux_fields = ("n", "field")

    def __init__(self, tau, n: int, field: str, *, validate_args=None):
        self.tau = jnp.asarray(tau)
        self.n, self.field = n, field
        super().__init__(jnp.shape(self.tau), (n - 1,), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        """Draws by diagonalising ensemble matrices."""
        shape = (*sample_shape, *self.batch_shape)
        x = jax.random.normal(key, (*shape, hermitian.size(self.n, self.field)))
        s = jnp.sqrt(gauge.ensemble_variance(self.tau, self.field))
        s = jnp.broadcast_to(s, shape)[..., None]
        w = jnp.linalg.eigvalsh(hermitian.to_matrix(x * s, self.n, self.field))
        return jnp.diff(w, axis=-1)

    def log_prob(self, value):
        """Log density, with level repulsion and every power of tau."""
        tau = jnp.broadcast_to(self.tau, jnp.shape(value)[:-1])
        return gauge.gap_log_density(value, tau, self.field)


class Modulus(dist.Distribution):
    """Modulus of a complex Gaussian with E|z|² = τ²: density (2r/τ²) exp(−r²/τ²)."""

    arg_constraints = {"tau": constraints.positive}  # noqa: RUF012
    support = constraints.positive
    pytree_data_fields = ("tau",)

    def __init__(self, tau, *, validate_args=None):
        self.tau = jnp.asarray(tau)
        super().__init__(jnp.shape(self.tau), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        """Draws as τ times the root of a unit exponential."""
        shape = (*sample_shape, *self.batch_shape)
        return jnp.broadcast_to(self.tau, shape) * jnp.sqrt(jax.random.exponential(key, shape))

    def log_prob(self, value):
        """Log density."""
        tau = jnp.broadcast_to(self.tau, jnp.shape(value))
        return jnp.log(2 * value / tau**2) - (value / tau) ** 2


@dataclass(frozen=True, eq=False)
class MatrixPrior:
    """Prior of K matrices of one PMM: NumPyro sites and the map from sites to matrices and back.

    Parameters
    ----------
    prior : Prior
    n : int
    field : {"real", "complex"}
    n_primary, n_secondary : int
    seen : tuple of int
        Indices of the levels that the outputs use; the first one is the anchor.
    terms_unit : float or array ()
        Factor on the scale medians of all primary matrices but the first.

    Raises
    ------
    InputError
        If couplings are asked for that only real matrices in the reference gauge have.
    """

    prior: Prior
    n: int
    field: str
    n_primary: int
    n_secondary: int = 0
    seen: tuple[int, ...] = (0,)
    terms_unit: Any = 1.0

    def __post_init__(self):
        if self.prior.couplings != "ensemble" and (self.field != "real" or self.prior.gauge != "reference"):
            raise InputError(
                f"prior: couplings '{self.prior.couplings}' is defined for real matrices in the reference gauge;"
                " use 'ensemble' otherwise"
            )

    @property
    def anchor(self) -> int:
        """Index of the anchored level."""
        return self.seen[0]

    @property
    def sizes(self) -> np.ndarray:
        """Factors w (n,): 1 for levels that outputs use, more for the others the further they are from those."""
        apart = np.abs(np.arange(self.n)[:, None] - np.asarray(self.seen)[None, :]).min(axis=1)
        return 1.0 + self.prior.growth * apart

    @property
    def unseen_factors(self) -> np.ndarray:
        """Factors (m,) on the standard deviations of off-diagonal elements: not 1 between two unseen levels."""
        i, j = np.triu_indices(self.n, 1)
        w = self.sizes
        return np.where(np.minimum(w[i], w[j]) > 1.0, np.sqrt(w[i] * w[j]), 1.0)

    @property
    def diagonal_basis(self) -> np.ndarray:
        """Basis (n, n−1) of a diagonal less its mean, the mean weighted by w⁻²: orthonormal in units of w.

        A diagonal d_k ~ m + N(0, s² w_k²) has such a mean, ~ N(0, v + s²/Σ w_k⁻²), and coordinates, ~ N(0, s²): all
        independent, dilations apart. Helmert's basis and the plain mean if all w are 1.
        """
        H = gauge.traceless_basis(self.n)
        u = (1 / self.sizes) / np.linalg.norm(1 / self.sizes)
        v = np.full(self.n, self.n**-0.5) - u
        # The reflection that takes (1, ..., 1)/√n to u takes its complement to that of u.
        if (length := v @ v) > 0:
            H = H - 2 * np.outer(v, v @ H) / length
        return self.sizes[:, None] * H

    @property
    def mean_weights(self) -> np.ndarray:
        """Weights (n,) of the mean of a diagonal: w⁻² over their sum."""
        w2 = self.sizes**-2.0
        return w2 / w2.sum()

    @property
    def diagonal_inverse(self) -> np.ndarray:
        """Map (n, n−1) from a diagonal to its coordinates: the basis is orthonormal in units of w."""
        return self.diagonal_basis / self.sizes[:, None] ** 2

    def coupling_units(self, gaps: jax.Array) -> jax.Array:
        """Units (m,) of the off-diagonal elements: √gap where a seen level is involved, otherwise 1."""
        levels = gauge.levels_from_gaps(gaps)
        i, j = np.triu_indices(self.n, 1)
        is_seen = np.isin(i, self.seen) | np.isin(j, self.seen)
        return jnp.where(is_seen, jnp.sqrt(levels[j] - levels[i]), 1.0)

    @property
    def n_matrices(self) -> int:
        """Number K of primary and secondary matrices."""
        return self.n_primary + self.n_secondary

    def hyperparameters(self) -> tuple[Any, np.ndarray]:
        """Medians (K,) and log-normal spreads (K,) of the scales; the medians are traced if their unit is."""
        repeats = [self.n_primary, self.n_secondary]
        p = self.prior
        medians = np.repeat([p.scale_median, p.secondary_median], repeats)
        spreads = np.repeat([p.scale_spread, p.secondary_spread], repeats)
        if p.terms_unit == "spread":
            return medians, spreads
        is_term = (np.arange(len(medians)) > 0) & (np.arange(len(medians)) < self.n_primary)
        return medians * jnp.where(is_term, self.terms_unit, 1.0), spreads

    def sample_scale(self) -> jax.Array:
        """NumPyro site ``scale`` (K,); fixed scales are no sites."""
        medians, spreads = self.hyperparameters()
        if np.all(spreads > 0):
            return numpyro.sample("scale", dist.LogNormal(jnp.log(medians), jnp.asarray(spreads)).to_event(1))
        if np.all(spreads == 0):
            return numpyro.deterministic("scale", jnp.asarray(medians))
        free = spreads > 0
        some = numpyro.sample(
            "free_scale", dist.LogNormal(jnp.log(medians[free]), jnp.asarray(spreads[free])).to_event(1)
        )
        return numpyro.deterministic("scale", jnp.asarray(medians).at[np.flatnonzero(free)].set(some))

    def sample_shrinkage(self, scale: jax.Array, gaps: jax.Array) -> jax.Array:
        """Factors (K−1, m) on the standard deviations of couplings, with the NumPyro sites that they need."""
        n, K = self.n, self.n_matrices
        i, j = np.triu_indices(n, 1)
        if self.prior.couplings == "decaying":
            reach = numpyro.sample("reach", dist.LogNormal(np.log(REACH), 1.0))
            levels = gauge.levels_from_gaps(gaps)
            return jnp.broadcast_to(jnp.exp(-(levels[j] - levels[i]) / (reach * scale[0])), (K - 1, len(i)))
        if self.prior.couplings == "horseshoe":
            local = numpyro.sample("local", dist.HalfCauchy(jnp.ones((K - 1, len(i)))).to_event(2))
            return local * self.prior.slab / jnp.sqrt(self.prior.slab**2 + local**2)
        return jnp.ones((K - 1, len(i)))

    def dilation_sd(self) -> Any:
        """Standard deviations (K−1,) of the dilations, in the model's units: 0 for secondary matrices."""
        unit = 1.0 if self.prior.terms_unit == "spread" else self.terms_unit
        return self.prior.dilation * unit * (np.arange(1, self.n_matrices) < self.n_primary)

    def sample_diagonals(self, levels: jax.Array, scale: jax.Array) -> dict[str, jax.Array]:
        """NumPyro sites ``shift`` (K−1,) and, for n > 1, ``diagonal`` (K−1, n−1), dilations integrated out.

        With a ~ N(0, δ²), shift = a u + N(0, σ²) and diagonal = a x + N(0, s²), the diagonal has the mean x E[a] and
        the covariance s² 1 + Var[a] x xᵀ, where mean and variance of a are those given the shift.
        """
        s2 = gauge.ensemble_variance(scale, self.field)[1:]
        variance = self.prior.shift_sd**2 + s2 / np.sum(self.sizes**-2.0)
        if self.n == 1 or self.prior.dilation == 0:
            shift = numpyro.sample("shift", dist.Normal(jnp.zeros_like(s2), jnp.sqrt(variance)).to_event(1))
            if self.n == 1:
                return {"shift": shift}
            sd = jnp.broadcast_to(jnp.sqrt(s2)[:, None], (len(s2), self.n - 1))
            return {"shift": shift, "diagonal": numpyro.sample("diagonal", dist.Normal(0.0, sd).to_event(2))}
        apart = levels - levels[np.array(self.seen)].mean()
        u, x = apart @ self.mean_weights, apart @ self.diagonal_inverse
        d = self.dilation_sd()
        total = variance + (d * u) ** 2
        shift = numpyro.sample("shift", dist.Normal(jnp.zeros_like(s2), jnp.sqrt(total)).to_event(1))
        mean, sd = d**2 * u * shift / total, d * jnp.sqrt(variance / total)
        diagonal = dist.LowRankMultivariateNormal(
            mean[:, None] * x[None, :],
            (sd[:, None] * x[None, :])[..., None],
            jnp.broadcast_to(s2[:, None], (len(s2), self.n - 1)),
        )
        return {"shift": shift, "diagonal": numpyro.sample("diagonal", diagonal.to_event(1))}

    def sample(self) -> jax.Array:
        """Inside a NumPyro model: draw all matrices (K, n, n)."""
        n, K, p, complex_ = self.n, self.n_matrices, self.prior, self.field == "complex"
        scale = self.sample_scale()
        s2 = gauge.ensemble_variance(scale, self.field)
        v = self.prior.shift_sd**2
        if self.prior.gauge == "none":
            shift = numpyro.sample("shift", dist.Normal(jnp.zeros(K), np.sqrt(v)).to_event(1))
            sd = jnp.broadcast_to(jnp.sqrt(s2)[:, None], (K, hermitian.size(n, self.field)))
            x = numpyro.sample("coordinates", dist.Normal(jnp.zeros_like(sd), sd).to_event(2))
            return self.assemble({"shift": shift, "coordinates": x})
        sites = {}
        levels = jnp.zeros(1)
        if n > 1:
            sites["gaps"] = numpyro.sample("gaps", GapEnsemble(scale[0], n, self.field))
            levels = gauge.levels_from_gaps(sites["gaps"])
        # The anchored level is a mean of levels, which is N(0, v + s²/n), and its distance from that.
        centred = np.array(self.seen) if p.centre == "seen" else np.arange(n)
        anchor = dist.Normal(levels[self.anchor] - levels[centred].mean(), jnp.sqrt(v + s2[0] / n))
        sites["anchor"] = numpyro.sample("anchor", anchor)
        if K > 1:
            sites |= self.sample_diagonals(levels, scale)
        if n > 1 and K > 1:

            def normal(name, sd, units):
                sd = sd[:, None] / units[None, :]
                sites[name] = numpyro.sample(name, dist.Normal(jnp.zeros_like(sd), sd).to_event(2))

            units = self.coupling_units(sites["gaps"]) / self.unseen_factors
            if not complex_:
                sd = scale[1:, None] * self.sample_shrinkage(scale, sites["gaps"]) / units[None, :]
                couplings = dist.Normal(jnp.zeros_like(sd), sd).to_event(2)
                sites["offdiagonal"] = numpyro.sample("offdiagonal", couplings)
            else:
                # Row 0 holds the first n - 1 pairs.
                modulus = Modulus(scale[1] / units[: n - 1])
                sites["first_modulus"] = numpyro.sample("first_modulus", modulus.to_event(1))
                if n > 2:
                    normal("first_offdiagonal", scale[1:2] / np.sqrt(2), jnp.tile(units[n - 1 :], 2))
                if K > 2:
                    normal("offdiagonal", scale[2:] / np.sqrt(2), jnp.tile(units, 2))
        return self.assemble(sites)

    def assemble(self, sites: dict[str, jax.Array]) -> jax.Array:
        """Matrices (K, n, n) from the values of the sites."""
        n, K, m = self.n, self.n_matrices, self.n * (self.n - 1) // 2
        if self.prior.gauge == "none":
            identity = sites["shift"][:, None, None] * jnp.eye(n)[None]
            return hermitian.to_matrix(sites["coordinates"], n, self.field) + identity
        levels = gauge.levels_from_gaps(sites["gaps"]) if n > 1 else jnp.zeros(1)
        reference = jnp.diag(levels - levels[self.anchor] + sites["anchor"])[None]
        if K == 1:
            return reference
        identity = sites["shift"][:, None, None] * jnp.eye(n)[None]
        if n == 1:
            return jnp.concatenate([reference, identity])
        diagonal = sites["diagonal"] @ jnp.asarray(self.diagonal_basis).T
        if self.field == "real":
            re, im = sites["offdiagonal"], None
        else:
            row0 = sites["first_modulus"][None, :]
            rest = sites["first_offdiagonal"] if n > 2 else jnp.zeros((1, 0))
            half = m - n + 1
            re = jnp.concatenate([row0, rest[:, :half]], axis=1)
            im = jnp.concatenate([jnp.zeros_like(row0), rest[:, half:]], axis=1)
            if K > 2:
                re = jnp.concatenate([re, sites["offdiagonal"][:, :m]])
                im = jnp.concatenate([im, sites["offdiagonal"][:, m:]])
        root2 = np.sqrt(2.0) * self.coupling_units(sites["gaps"])[None, :]
        coordinates = [diagonal, root2 * re] + ([] if im is None else [root2 * im])
        others = hermitian.to_matrix(jnp.concatenate(coordinates, axis=1), n, self.field)
        return jnp.concatenate([reference.astype(others.dtype), others + identity])

    def sites(self, matrices: jax.Array, scale: jax.Array) -> dict[str, jax.Array]:
        """Values of the sites from any matrices (K, n, n), gauge-fixed here first: :meth:`assemble` inverted.

        Exactly equal levels of the reference are pushed apart by 1e-9 of the scale, where the density ends.
        """
        n, m = self.n, self.n * (self.n - 1) // 2
        _, spreads = self.hyperparameters()
        sites = {}
        if np.all(spreads > 0):
            sites["scale"] = scale
        elif np.any(spreads > 0):
            sites["free_scale"] = scale[np.flatnonzero(spreads > 0)]
        shift = jnp.real(jnp.trace(matrices, axis1=1, axis2=2)) / n
        if self.prior.gauge == "none":
            # The split of the trace into shift and diagonal is free: give the shift its conditional mean.
            s2, v = gauge.ensemble_variance(scale, self.field), self.prior.shift_sd**2
            part = shift * v / (v + s2 / n)
            x = hermitian.to_coordinates(matrices - part[:, None, None] * jnp.eye(n)[None], self.field)
            return sites | {"shift": part, "coordinates": x}
        matrices = gauge.canonical_signs(gauge.fix(matrices, self.field))
        levels = jnp.real(jnp.diagonal(matrices[0]))
        sites["anchor"] = levels[self.anchor]
        if self.n_matrices > 1:
            diagonals = jnp.real(jnp.diagonal(matrices[1:], axis1=1, axis2=2))
            sites["shift"] = diagonals @ jnp.asarray(self.mean_weights)
        if n == 1:
            return sites
        sites["gaps"] = jnp.maximum(jnp.diff(levels), 1e-9 * scale[0])
        if self.n_matrices == 1:
            return sites
        x = hermitian.to_coordinates(matrices[1:], self.field)
        root2 = np.sqrt(2.0) * self.coupling_units(sites["gaps"])[None, :]
        sites["diagonal"] = x[:, :n] @ jnp.asarray(self.diagonal_inverse)
        re = x[:, n : n + m] / root2
        if self.prior.couplings == "decaying":
            sites["reach"] = jnp.asarray(REACH)
        if self.prior.couplings == "horseshoe":
            sites["local"] = jnp.ones_like(re)
        if self.field == "real":
            return sites | {"offdiagonal": re}
        im = x[:, n + m :] / root2
        sites["first_modulus"] = jnp.maximum(re[0, : n - 1], 1e-9 * scale[1])
        if n > 2:
            sites["first_offdiagonal"] = jnp.concatenate([re[:1, n - 1 :], im[:1, n - 1 :]], axis=1)
        if self.n_matrices > 2:
            sites["offdiagonal"] = jnp.concatenate([re[1:], im[1:]], axis=1)
        return sites

    def random_image(self, sites: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """Sites of a random image under the discrete gauge: signs of the basis vectors, or complex conjugation.

        All outputs and the density are those of ``sites``. In the complex case the imaginary parts change sign.
        """
        n, m = self.n, self.n * (self.n - 1) // 2
        if self.field == "real":
            if "offdiagonal" not in sites:
                return dict(sites)
            signs = jax.random.rademacher(key, (n,), float)
            i, j = np.triu_indices(n, 1)
            return sites | {"offdiagonal": sites["offdiagonal"] * (signs[i] * signs[j])[None, :]}
        sign = jax.random.rademacher(key, (), float)
        flip = lambda x, half: x * jnp.where(jnp.arange(x.shape[1]) < half, 1.0, sign)[None, :]
        halves = {"first_offdiagonal": m - n + 1, "offdiagonal": m}
        return sites | {k: flip(sites[k], half) for k, half in halves.items() if k in sites}
