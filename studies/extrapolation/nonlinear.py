r"""Misspecified problems: nonlinear eigenvalue problems, which no parametric matrix model represents.

`hardening` and `softening`: E is the lowest eigenvalue of H(E) = H_0 + c w(E) V with V > 0. With w growing with E the
level is convex in c, while the lowest level of an affine model is concave: the model must notice inside the data.
With w falling the level stays concave but flattens faster than any level of a matrix: nothing inside the data tells.
`gross_pitaevskii`: the chemical potential of a condensate in an anharmonic trap against its coupling, which grows like
a fractional power of it far outside.
"""

import zlib

import numpy as np
from scipy.optimize import brentq

from bayes_pmm.problems.base import Problem, beyond, line
from bayes_pmm.problems.zoo import Task

POINTS, OUTSIDE = 10, 10
HAMILTONIANS = range(5)


def _matrices(seed: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(H_0, V): spectrum of H_0 about 0 to 4, V positive definite."""
    rng = np.random.default_rng([seed, 1])
    a, b = rng.standard_normal((2, size, size))
    h0 = np.diag(np.linspace(0.0, 4.0, size)) + 0.3 * (a + a.T) / np.sqrt(size)
    return h0, 0.4 * np.eye(size) + 0.3 * (b @ b.T) / size


def _self_consistent(h0: np.ndarray, v: np.ndarray, c: float, weight) -> float:
    """E with E = lowest eigenvalue of H_0 + c weight(E − E_0) V, E_0 that of H_0; c >= 0."""
    start = np.linalg.eigvalsh(h0)[0]
    gap = lambda e: np.linalg.eigvalsh(h0 + c * weight(e - start) * v)[0] - e
    width = 1.0
    while gap(start + width) > 0:
        width *= 2
    return brentq(gap, start - 1e-9, start + width, xtol=1e-13)


def _nonlinear(name: str, summary: str, seed: int, weight) -> Problem:
    h0, v = _matrices(seed)

    def solve(controls: np.ndarray) -> np.ndarray:
        return np.array([[_self_consistent(h0, v, c, weight)] for c in controls[:, 0]])

    return Problem(
        name=name,
        summary=summary,
        control_names=("c",),
        outputs={"E0": "E0"},
        solve=solve,
        train=line(0.0, 1.0, POINTS),
        outside=beyond(1.0, 2.0, OUTSIDE),
    )


def hardening(seed: int) -> Problem:
    """Coupling that grows with the level: w(E) = 1 + 0.4 (E − E_0)."""
    return _nonlinear("hardening", "lowest level of H(E), coupling grows with E", seed, lambda e: 1 + 0.4 * e)


def softening(seed: int) -> Problem:
    """Coupling that falls with the level: w(E) = exp(−2 (E − E_0))."""
    return _nonlinear(
        "softening", "lowest level of H(E), coupling falls with E", seed, lambda e: np.exp(-2 * e)
    )


def chemical_potential(coupling: np.ndarray, quartic: float, tilt: float, points: int = 64) -> np.ndarray:
    """Chemical potential μ (N,) of −½ψ'' + (x²/2 + tilt·x + quartic·x⁴)ψ + q|ψ|²ψ = μψ, ∫|ψ|² = 1.

    Sinc grid on [−8, 8], spectrally accurate. Newton on (ψ, μ) while the coupling is raised in steps of 1/4 at most.
    """
    x = np.linspace(-8.0, 8.0, points)
    dx = x[1] - x[0]
    i = np.arange(points)
    apart = i[:, None] - i[None, :]
    safe = np.where(apart == 0, 1, apart)
    kinetic = np.where(apart == 0, np.pi**2 / 6, (-1.0) ** apart / safe**2) / dx**2
    h = kinetic + np.diag(0.5 * x**2 + tilt * x + quartic * x**4)
    w, V = np.linalg.eigh(h)
    mu, psi = w[0], V[:, 0]
    result, at = np.empty(len(coupling)), 0.0
    for k in np.argsort(coupling):
        for q in np.linspace(at, coupling[k], 1 + int(np.ceil((coupling[k] - at) / 0.25)))[1:]:
            for _ in range(50):
                # |ψ(x)|² = psi² / dx for psi of unit length.
                density = psi**2 / dx
                F = np.append(h @ psi + q * density * psi - mu * psi, 0.5 * (1 - psi @ psi))
                J = np.block(
                    [[h + np.diag(3 * q * density - mu), -psi[:, None]], [-psi[None, :], np.zeros((1, 1))]]
                )
                change = np.linalg.solve(J, -F)
                psi, mu = psi + change[:-1], mu + change[-1]
                if np.max(np.abs(change)) < 1e-12:
                    break
            else:
                raise ArithmeticError(f"Newton did not converge at coupling {q}")
        at, result[k] = coupling[k], mu
    return result


def gross_pitaevskii(seed: int) -> Problem:
    """Condensate in a trap x²/2 + b x + a x⁴, a in [0, 0.2] and b in [−0.5, 0.5] drawn."""
    rng = np.random.default_rng([seed, 2])
    quartic, tilt = rng.uniform(0.0, 0.2), rng.uniform(-0.5, 0.5)
    return Problem(
        name="gross_pitaevskii",
        summary="chemical potential of a condensate in an anharmonic trap against the coupling",
        control_names=("q",),
        outputs={"E0": "E0"},
        solve=lambda controls: chemical_potential(controls[:, 0], quartic, tilt)[:, None],
        train=line(0.0, 2.0, POINTS),
        outside=beyond(2.0, 8.0, OUTSIDE),
    )


FAMILIES = {f.__name__: f for f in (hardening, softening, gross_pitaevskii)}


def tasks(noises=("1e-2",), hamiltonians=HAMILTONIANS) -> tuple[str, ...]:
    """Names FAMILY/HAMILTONIAN/NOISE/POINTS of the misspecified tasks."""
    return tuple(f"{f}/{h}/{z}/{POINTS}" for f in FAMILIES for z in noises for h in hamiltonians)


def task(name: str) -> Task:
    """Task by name, as the zoo's; there is one number of points, which may be left out."""
    family, hamiltonian, noise = name.split("/")[:3]
    name = f"{family}/{hamiltonian}/{noise}/{POINTS}"
    problem = FAMILIES[family](int(hamiltonian))
    low, high = problem.train[:, 0].min(), problem.train[:, 0].max()
    return Task(
        name=name,
        family=family,
        hamiltonian=int(hamiltonian),
        noise=float(noise),
        problem=problem,
        data=problem.dataset(noise=float(noise), seed=zlib.crc32(name.encode())),
        truth=problem.exact(problem.outside),
        distance=(problem.outside[:, 0] - high) / (high - low),
        spread=problem.spread(),
    )
