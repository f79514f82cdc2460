r"""The parametric matrix model: basis + primary matrices + outputs, as a pure function. No prior, no data."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from bayes_pmm import spectrum
from bayes_pmm.basis import Affine, Basis, parse_basis
from bayes_pmm.errors import InputError
from bayes_pmm.hermitian import FIELDS
from bayes_pmm.outputs import Output, as_outputs, minimum_dim, operators
from bayes_pmm.settings import as_whole

__all__ = ["PMM", "default_dim"]


MARGIN = (3, 5)
"""Least and most by which the default dimension exceeds what the outputs need."""

PARAMETERS_PER_DATUM = 1.75
"""Parameters that the default dimension has for each datum, within the margin."""


def default_dim(outputs: tuple[Output, ...], n_matrices: int, n_data: int) -> int:
    """Dimension used when none is given: generous, since bands outside the data want more than the fit does.

    A model with no more parameters than there are data is fixed by data without noise, and its bands are then too
    narrow wherever it is not the truth. So n is the smallest one of ``MARGIN`` whose real symmetric matrices, the
    first of them diagonal, have ``PARAMETERS_PER_DATUM`` times as many elements as there are data. Measured in
    ``studies/extrapolation``.
    """
    least = minimum_dim(outputs)
    elements = lambda n: n + (n_matrices - 1) * n * (n + 1) // 2
    candidates = range(least + MARGIN[0], least + MARGIN[1])
    return next((n for n in candidates if elements(n) >= PARAMETERS_PER_DATUM * n_data), least + MARGIN[1])


@dataclass(frozen=True)
class PMM:
    r"""Parametric matrix model M(c) = Σ_l φ_l(c) M_l with n×n Hermitian M_l.

    Parameters
    ----------
    outputs : sequence of Output or str
        What each data column measures, in the order of the columns, for example ``["E0", "E1", "<0|A|0>"]``.
    dim : int, optional
        Dimension n of the matrices; None until :class:`bayes_pmm.Posterior` chooses it by the number of data, see
        :meth:`sized`.
    basis : Basis or str
        From controls to coefficients: :class:`~bayes_pmm.basis.Polynomial`, :class:`~bayes_pmm.basis.Fourier`,
        :class:`~bayes_pmm.basis.InversePowers`, :class:`~bayes_pmm.basis.Custom`, or the command line's names for them
        such as ``"poly:2"`` and ``"fourier:1:3.0"``; default affine.
    field : {"real", "complex"}
        Real symmetric or complex Hermitian matrices.

    Raises
    ------
    InputError
        If an expression or the basis does not parse, an output is given twice, the dimension is no whole number or
        smaller than the highest level asked for needs, or the field is unknown.
    """

    outputs: tuple[Output, ...]
    dim: int | None = None
    basis: Basis = dataclasses.field(default_factory=Affine)
    field: str = "real"

    if TYPE_CHECKING:

        def __init__(
            self,
            outputs: Output | str | Iterable[Output | str],
            dim: int | None = None,
            basis: Basis | str = ...,
            field: str = "real",
        ) -> None: ...

    def __post_init__(self):
        outputs = as_outputs(self.outputs)
        if not outputs:
            raise InputError("no outputs: name at least one, for example 'E0'")
        object.__setattr__(self, "outputs", outputs)
        if twice := [o for i, o in enumerate(outputs) if o in outputs[:i]]:
            raise InputError(
                f"output {twice[0]} is given twice; give it once, and repeated measurements of it as further rows"
            )
        if isinstance(self.basis, str):
            object.__setattr__(self, "basis", parse_basis(self.basis))
        if not isinstance(self.basis, Basis):
            raise InputError(
                f"basis {self.basis!r} is no basis; use a text such as 'poly:2', or wrap a function of the controls in"
                " Custom"
            )
        least = minimum_dim(outputs)
        if self.field not in FIELDS:
            raise InputError(f"field '{self.field}' is unknown; use 'real' or 'complex'")
        if self.dim is None:
            return
        object.__setattr__(self, "dim", as_whole("dim", self.dim))
        if self.dim < least:
            raise InputError(
                f"dim = {self.dim} has no such level: the outputs {', '.join(map(str, outputs))} need dim >= {least}"
            )
        for output in outputs:
            if len({k % self.dim for k in output.levels}) < len(output.levels):
                raise InputError(
                    f"output {output}: with dim = {self.dim} both indices are the same level; use another"
                )

    def sized(self, n_data: int, n_controls: int) -> "PMM":
        """Return the model with the default dimension for so many data, or itself if its dimension was given."""
        if self.dim is not None:
            return self
        n_matrices = self.basis.n_terms(n_controls) + len(self.operators)
        return dataclasses.replace(self, dim=default_dim(self.outputs, n_matrices, n_data))

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the secondary matrices."""
        return operators(self.outputs)

    def matrix(self, primary: jax.Array, phi: jax.Array) -> jax.Array:
        """M(c) of shape (N, n, n) from primary matrices (L, n, n) and coefficients (N, L)."""
        return jnp.einsum("cl,lij->cij", phi, primary)

    def evaluate(self, primary: jax.Array, secondary: Mapping[str, jax.Array], phi: jax.Array) -> jax.Array:
        """Outputs in the model's units.

        Parameters
        ----------
        primary : array (L, n, n)
        secondary : mapping of operator name to array (n, n)
        phi : array (N, L)
            Coefficients of the basis.

        Returns
        -------
        array (N, Q)
        """
        M = self.matrix(primary, phi)
        if any(o.needs_vectors for o in self.outputs):
            w, V = spectrum.eigh(M)
        else:
            w, V = spectrum.levels(M), None
        return jnp.stack([o.value(w, V, secondary) for o in self.outputs], axis=-1)
