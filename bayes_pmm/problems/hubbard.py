"""The Hubbard model on a ring, in one sector of momentum and spin."""

from itertools import combinations

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, affine_levels, beyond, level_outputs, line

__all__ = ["hamiltonian", "hubbard"]

_SMALL = 6  # the largest sector that a fit would call small


def hamiltonian(
    sites: int = 4, momentum: int = 2, spin: int = 0, second: float = 0.0, flux: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H_0, H_1) of the half-filled ring with energies in units of the hopping and control U.

        H(U) = -Σ_iσ (e^{iφ/N} c†_{i+1,σ} c_{iσ} + h.c.) - t′ Σ_iσ (e^{2iφ/N} c†_{i+2,σ} c_{iσ} + h.c.)
               + U Σ_i n_{i↑} n_{i↓}.

    Parameters
    ----------
    sites
        N, even, at least 4. The sums run over all i, so that on 4 sites each diagonal counts twice.
    momentum
        k = 0, ..., N - 1: the translation by one site has the eigenvalue e^{2πik/N}.
    spin
        The total spin S, a whole number.
    second
        t′.
    flux
        φ, the phase of one turn around the ring.

    Returns
    -------
    tuple of np.ndarray
        Two matrices over the sector, real where momentum and flux allow it.

    Raises
    ------
    InputError
        If there is no such ring or sector.
    """
    if sites < 4 or sites % 2:
        raise InputError(f"sites is {sites}; a half-filled ring needs an even number, at least 4")
    states = [frozenset(state) for state in combinations(range(sites), sites // 2)]
    moves = _moves(states, sites)
    one = -sum(
        amplitude * np.exp(1j * step * flux / sites) * moves[(i + step) % sites, i]
        for i in range(sites)
        for step, amplitude in ((1, 1.0), (2, second))
    )
    one = one + one.conj().T
    unit = np.eye(len(states))
    h0 = np.kron(one, unit) + np.kron(unit, one)
    density = np.einsum("iiaa->ai", moves)
    double = (density @ density.T).ravel()
    # S² = S₋S₊ at S_z = 0, with S₋S₊ = N↓ - Σ_ij (c†_j↑ c_i↑)(c†_i↓ c_j↓).
    flat = moves.reshape(sites**2, -1)
    exchange = moves.transpose(1, 0, 2, 3).reshape(sites**2, -1).T @ flat
    size = len(states)
    exchange = exchange.reshape(size, size, size, size).transpose(0, 2, 1, 3).reshape(size**2, size**2)
    spin_squared = sites / 2 * np.eye(size**2) - exchange

    basis = _momentum_states(states, sites, momentum % sites)
    value, vectors = np.linalg.eigh(basis.conj().T @ spin_squared @ basis)
    basis = basis @ vectors[:, np.abs(value - spin * (spin + 1)) < 1e-6]
    if not basis.shape[1]:
        raise InputError(f"{sites} sites have no state of spin {spin} and momentum {momentum}; give others")
    h0, h1 = basis.conj().T @ h0 @ basis, basis.conj().T @ (double[:, None] * basis)
    real = flux == 0 and 2 * momentum % sites == 0
    return (h0.real, h1.real) if real else (h0, h1)


def hubbard(
    levels: int = 2,
    points: int = 10,
    sites: int = 4,
    momentum: int = 2,
    spin: int = 0,
    second: float = 0.0,
    flux: float = 0.0,
) -> Problem:
    """Return the lowest levels of one sector of the half-filled Hubbard ring against U/t.

    Training U/t ∈ [0, 4], outside to 12: from a metal to an antiferromagnet of localised spins. The default
    sector, on 4 sites, holds the ground state for U > 0. It has few states, and a PMM of as many is exact; on 6
    sites the sectors are large.

    Parameters
    ----------
    levels
        How many of the lowest levels of the sector.
    points
        Training points.
    sites, momentum, spin, second, flux
        As in `hamiltonian`.

    References
    ----------
    Lieb, Wu, Phys. Rev. Lett. 20, 1445 (1968).
    """
    matrices = hamiltonian(sites, momentum, spin, second, flux)
    size = len(matrices[0])

    def solve(controls: np.ndarray) -> np.ndarray:
        return affine_levels(matrices, controls, levels)

    return Problem(
        name="hubbard",
        summary=f"half-filled Hubbard ring of {sites} sites, momentum {momentum}, spin {spin}, in units of t",
        control_names=("U",),
        outputs=level_outputs(levels, size),
        solve=solve,
        train=line(0.0, 4.0, points),
        outside=beyond(4.0, 12.0, 10),
        exact_dim=size if size <= _SMALL else None,
        matrices=matrices,
    )


def _moves(states: list[frozenset[int]], sites: int) -> np.ndarray:
    """Return c†_i c_j of one kind of fermions between the states, shape (N, N, d, d)."""
    place = {state: a for a, state in enumerate(states)}
    result = np.zeros((sites, sites, len(states), len(states)))
    for state, a in place.items():
        for j in state:
            result[j, j, a, a] = 1
            for i in set(range(sites)) - state:
                between = sum(min(i, j) < k < max(i, j) for k in state)
                result[i, j, place[state - {j} | {i}], a] = (-1) ** between
    return result


def _momentum_states(states: list[frozenset[int]], sites: int, momentum: int) -> np.ndarray:
    """Return orthonormal states of both kinds of fermions with one momentum, in columns."""
    place = {state: a for a, state in enumerate(states)}
    shifted = np.array([place[frozenset((i + 1) % sites for i in state)] for state in states])
    # The last site's operator comes first after a shift: it passes all others.
    sign = np.array([(-1.0) ** ((len(state) - 1) * (sites - 1 in state)) for state in states])
    shift = (shifted[:, None] * len(states) + shifted).ravel()
    signs = np.outer(sign, sign).ravel()

    target, phase = np.arange(len(shift)), np.ones(len(shift), dtype=complex)
    first = target.copy()
    projector = np.zeros((len(shift), len(shift)), dtype=complex)
    for _ in range(sites):
        projector[target, np.arange(len(shift))] += phase
        first = np.minimum(first, target)
        phase = phase * signs[target] * np.exp(-2j * np.pi * momentum / sites)
        target = shift[target]
    columns = projector[:, first == np.arange(len(shift))]
    norm = np.linalg.norm(columns, axis=0)
    return columns[:, norm > 1e-9] / norm[norm > 1e-9]
