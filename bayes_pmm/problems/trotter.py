"""A Heisenberg chain with Dzyaloshinskii-Moriya interaction, as a quantum computer steps it through time."""

from itertools import combinations

import numpy as np

from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem, level_outputs, line

__all__ = ["factors", "quasienergies", "trotter"]

_FOLD = 0.95  # of the time step at which quasienergies wrap


def factors(
    sites: int = 8,
    up: int = 4,
    field: float = 4.0,
    exchange: float = 8.0,
    twist: float = 2.6,
    seed: int = 0,
) -> np.ndarray:
    """Return the five parts of H on a ring with a fixed number of spins up, shape (5, d, d), complex.

        H = B Σ_i r_i σz_i + J Σ_i (σx_i σx_{i+1} + σy_i σy_{i+1} + σz_i σz_{i+1})
            + D Σ_i (σx_i σy_{i+1} - σy_i σx_{i+1}).

    The parts are the field, the J bonds with even i, those with odd i, and the D bonds with even and odd i.
    Within a part everything commutes, so that e^{-i H_l dt} is one layer of gates.

    Parameters
    ----------
    sites
        N, even, at least 4.
    up
        How many spins point up; all parts conserve it.
    field, exchange, twist
        B, J and D.
    seed
        Of the r_i, uniform in [0, 1).

    Raises
    ------
    InputError
        If there is no such ring.
    """
    if sites < 4 or sites % 2 or not 0 < up < sites:
        raise InputError(
            f"sites is {sites} and up is {up}; give an even ring of at least 4 and 0 < up < sites"
        )
    strength = np.random.default_rng(seed).random(sites)
    states = [frozenset(state) for state in combinations(range(sites), up)]
    place = {state: a for a, state in enumerate(states)}
    parts = np.zeros((5, len(states), len(states)), dtype=complex)
    for state, a in place.items():
        sigma = [1 if i in state else -1 for i in range(sites)]
        parts[0, a, a] = field * strength @ sigma
        for i in range(sites):
            j = (i + 1) % sites
            parts[1 + i % 2, a, a] += exchange * sigma[i] * sigma[j]
            if sigma[i] != sigma[j]:
                b = place[state ^ {i, j}]
                parts[1 + i % 2, b, a] += 2 * exchange
                # σxσy - σyσx = 2i (σ₊σ₋ - σ₋σ₊)
                parts[3 + i % 2, b, a] += 2j * twist * sigma[j]
    return parts


def quasienergies(parts: np.ndarray, step: np.ndarray, levels: int) -> np.ndarray:
    """Return the lowest energies E from the eigenphases e^{-iE dt} of U(dt) = Π_l e^{-i H_l dt}.

    The phase fixes E only up to 2π/dt. E is the value in the interval of this length around the middle of the
    spectrum of H, which goes over into the spectrum of H for dt → 0 continuously as long as no level reaches
    the interval's end.

    Parameters
    ----------
    parts
        H_l in the order of the product, the first one leftmost, shape (L, d, d).
    step
        dt, shape (N,); 0 gives the spectrum of H.
    levels
        How many.

    Returns
    -------
    np.ndarray
        Shape (N, levels), ascending.

    Raises
    ------
    InputError
        If dt is so large that levels wrap.
    """
    spectrum = np.linalg.eigvalsh(parts.sum(axis=0))
    middle, width = (spectrum[0] + spectrum[-1]) / 2, spectrum[-1] - spectrum[0]
    longest = _FOLD * 2 * np.pi / width
    if np.any(np.abs(step) > longest):
        raise InputError(
            f"a time step is {np.max(np.abs(step)):g}; beyond {longest:.3g} the eigenphases wrap, give shorter ones"
        )
    phases, frames = np.linalg.eigh(parts)
    unit = np.eye(parts.shape[1])
    result = np.empty((len(step), levels))
    for row, dt in enumerate(step):
        if dt == 0:
            result[row] = spectrum[:levels]
            continue
        u = np.exp(1j * middle * dt) * unit
        for w, v in zip(phases, frames, strict=True):
            u = u @ ((v * np.exp(-1j * w * dt)) @ v.conj().T)
        # Cayley's transform of a unitary matrix is Hermitian: e^{-iθ} has the eigenvalue tan(θ/2).
        tangent = 1j * np.linalg.solve(u + unit, u - unit)
        values = middle + 2 / dt * np.arctan(np.linalg.eigvalsh((tangent + tangent.conj().T) / 2))
        result[row] = np.sort(values)[:levels]
    return result


def trotter(
    levels: int = 3,
    points: int = 12,
    sites: int = 8,
    up: int = 4,
    field: float = 4.0,
    exchange: float = 8.0,
    twist: float = 2.6,
    seed: int = 0,
) -> Problem:
    """Return the lowest energies of a Trotterised Heisenberg chain against the time step, to be predicted at 0.

    Training dt ∈ [0.012, 0.024], outside [0, 0.01]: short steps are what a quantum computer cannot afford. Its
    shot noise is the noise of the data.

    A product of five exponentials is the exponential of one effective Hamiltonian, whose series in dt is H plus
    terms dt, dt², ... of nested commutators. So a PMM M_0 + dt M_1 + dt² M_2 represents it up to the order
    dt³; that is the basis ``poly:2``. The product of five exponentials of the literature is another model.

    Parameters
    ----------
    levels
        How many of the lowest levels of the sector.
    points
        Training points.
    sites, up, field, exchange, twist, seed
        As in `factors`.

    References
    ----------
    Cook, Jammooa, Hjorth-Jensen, Lee, Lee, Nat. Commun. 16, 5929 (2025), with 10 sites.
    """
    parts = factors(sites, up, field, exchange, twist, seed)
    outputs = level_outputs(levels, parts.shape[1])

    def solve(controls: np.ndarray) -> np.ndarray:
        return quasienergies(parts, controls[:, 0], levels)

    return Problem(
        name="trotter",
        summary=f"Trotterised Heisenberg ring of {sites} spins against the time step",
        control_names=("dt",),
        outputs=outputs,
        solve=solve,
        train=line(0.024, 0.012, points),
        outside=line(0.01, 0.0, 6),
        basis="poly:2",
    )
