"""What is drawn for one Hamiltonian of a family: parameters of its factory, and the region of training."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bayes_pmm.problems import anticrossing
from bayes_pmm.problems.base import line

__all__ = ["FAMILIES", "Draw", "Family", "Window", "box", "column"]

_ROWS = 12


@dataclass(frozen=True)
class Window:
    """A training region in one control, and how far the region beyond it goes.

    Parameters
    ----------
    start, stop
        The training region. What lies beyond `stop` is outside; `start` > `stop` extrapolates downwards.
    end
        The farthest control outside.
    """

    start: float
    stop: float
    end: float

    @property
    def span(self) -> float:
        """The width of the training region, negative where it runs downwards."""
        return self.stop - self.start


Design = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Draw:
    """One Hamiltonian: parameters of the problem's factory, and its controls.

    Parameters
    ----------
    design
        From the number of training points and a generator to the controls (N, p) for training and (K, p)
        outside.
    parameters
        Of the factory; what is not given has its default.
    """

    design: Design
    parameters: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Independent Hamiltonians of one kind.

    Parameters
    ----------
    standard
        The Hamiltonian with index 0, with the problem's default parameters.
    draw
        From a generator to another Hamiltonian.
    drawn
        What is drawn, in words.
    points
        Training points where a task does not name them.
    fewest
        The smallest number of training points, at least the number of outputs.
    """

    standard: Draw
    draw: Callable[[np.random.Generator], Draw]
    drawn: str
    points: int = 10
    fewest: int = 6


def column(window: Window) -> Design:
    """Return the design of one control: equally spaced for training, 12 equally spaced points beyond."""

    def design(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001
        outside = window.stop + (window.end - window.stop) * np.arange(1, _ROWS + 1)[:, None] / _ROWS
        return line(window.start, window.stop, points), outside

    return design


def box(across: tuple[float, float], along: Window, axis: int = 1) -> Design:
    """Return the design of two controls: a Latin hypercube for training, and beyond it five rows of three points.

    Parameters
    ----------
    across
        The interval of the control that is not extrapolated.
    along
        The window of the control with index `axis`. The outermost training points are moved to the ends of
        both intervals, so that the region does not depend on how many points there are.
    """

    def design(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        places = np.stack([rng.permutation(points), rng.permutation(points)], axis=1) / (points - 1)
        train = _placed(across, along, axis, places)
        ahead, sideways = np.meshgrid(np.arange(1, 6) / 5, [0.15, 0.5, 0.85], indexing="ij")
        ahead = 1 + ahead * (along.end - along.stop) / along.span
        return train, _placed(across, along, axis, np.stack([sideways.ravel(), ahead.ravel()], axis=1))

    return design


def _placed(across: tuple[float, float], along: Window, axis: int, places: np.ndarray) -> np.ndarray:
    sideways = across[0] + places[:, 0] * (across[1] - across[0])
    ahead = along.start + places[:, 1] * along.span
    return np.stack([sideways, ahead] if axis == 1 else [ahead, sideways], axis=1)


def _spins(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(0.7, 1.4)
    window = Window(0.0, stop, stop * rng.uniform(2.0, 3.0))
    return Draw(column(window), {"field": rng.uniform(0.6, 1.6), "angle": rng.uniform(0.25, 0.75) * np.pi})


def _ising(rng: np.random.Generator) -> Draw:
    sites, stop = int(rng.integers(6, 9)), rng.uniform(0.65, 0.9)
    bonds, second = tuple(rng.uniform(0.7, 1.3, sites)), rng.uniform(-0.25, 0.25)
    window = Window(0.0, stop, stop * rng.uniform(1.8, 2.2))
    return Draw(column(window), {"sites": sites, "bonds": bonds, "second": second})


def _oscillator(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(0.7, 1.3)
    window = Window(0.0, stop, stop * rng.uniform(2.0, 3.0))
    return Draw(column(window), {"stiffness": rng.uniform(0.4, 1.6), "tilt": rng.uniform(0.0, 1.0)})


def _almg(rng: np.random.Generator) -> Draw:
    window = Window(0.0, rng.uniform(0.11, 0.17), rng.uniform(0.3, 0.45))
    return Draw(column(window), {"size": 2 * int(rng.integers(25, 61)), "alpha": -rng.uniform(0.2, 0.8)})


def _random(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(0.8, 1.2)
    window = Window(0.0, stop, stop * rng.uniform(1.7, 2.2))
    return Draw(column(window), {"seed": int(rng.integers(1, 1 << 31)), "dim": int(rng.integers(30, 51))})


def _nv(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(13.0, 16.0)
    window = Window(rng.uniform(2.5, 3.5), stop, stop * rng.uniform(1.6, 1.9))
    direction = (1.0, rng.uniform(0.05, 0.35), rng.uniform(0.02, 0.25))
    return Draw(
        column(window), {"direction": direction, "resolved": (rng.uniform(4.5, 5.5), rng.uniform(6.0, 7.0))}
    )


def _exceptional_point(rng: np.random.Generator) -> Draw:
    window = Window(-rng.uniform(0.5, 1.2), rng.uniform(0.8, 1.2), rng.uniform(1.8, 2.4))
    return Draw(column(window), {"gap": rng.uniform(0.25, 0.8), "tilt": rng.uniform(-0.6, 0.6)})


def _pairing(rng: np.random.Generator) -> Draw:
    size, stop = int(rng.choice([6, 8])), rng.uniform(0.35, 0.6)
    energies = tuple(np.arange(size) + rng.uniform(-0.35, 0.35, size))
    window = Window(-rng.uniform(0.3, 0.6), stop, stop + rng.uniform(0.8, 1.2))
    return Draw(column(window), {"size": size, "energies": energies})


def _crossings(rng: np.random.Generator) -> Draw:
    window = Window(0.0, 1.0, rng.uniform(1.7, 2.3))
    return Draw(column(window), {"seed": int(rng.integers(1, 1 << 31))})


def _two_branches(crossing: float) -> Design:
    def design(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001
        near, again = (2 * points) // 3, anticrossing.PERIOD - crossing
        train = [line(0.0, crossing - 0.1, points - near), line(crossing - 0.06, crossing + 0.09, near)]
        outside = [
            line(crossing + 0.15, again - 0.15, 5),
            line(again - 0.09, again + 0.09, 6),
            line(again + 0.2, 2.8, 3),
        ]
        return np.concatenate(train), np.concatenate(outside)

    return design


def _anticrossing(rng: np.random.Generator) -> Draw:
    crossing, swing = rng.uniform(0.9, 1.15), rng.uniform(0.9, 1.6)
    qubit = anticrossing.CAVITY - swing * np.cos(2 * np.pi * crossing / anticrossing.PERIOD)
    return Draw(
        _two_branches(crossing), {"coupling": rng.uniform(0.02, 0.06), "qubit": qubit, "swing": swing}
    )


def _two_couplings(rng: np.random.Generator) -> Draw:
    stop = -rng.uniform(3.0, 4.5)
    window = Window(0.0, stop, stop * rng.uniform(1.4, 1.7))
    parameters = {"seed": int(rng.integers(1, 1 << 31)), "dim": int(rng.integers(20, 41))}
    return Draw(box((-1.0, 0.0), window), parameters)


def _trotter(rng: np.random.Generator) -> Draw:
    sites, exchange = int(rng.choice([6, 8])), rng.uniform(6.0, 9.0)
    start = rng.uniform(0.021, 0.026) * 8 / exchange
    window = Window(start, start * rng.uniform(0.45, 0.55), 0.0)
    parameters = {
        "sites": sites,
        "up": sites // 2 - int(rng.integers(2)),
        "field": rng.uniform(2.0, 6.0),
        "exchange": exchange,
        "twist": rng.uniform(1.0, 3.5),
        "seed": int(rng.integers(1, 1 << 31)),
    }
    return Draw(column(window), parameters)


def _h2plus(rng: np.random.Generator) -> Draw:
    window = Window(0.5, rng.uniform(3.5, 4.5), rng.uniform(7.0, 9.0))
    return Draw(column(window), {"charges": (1.0, rng.uniform(1.0, 2.0))})


def _hubbard(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(3.2, 4.8)
    window = Window(0.0, stop, stop * rng.uniform(2.5, 3.2))
    parameters = {
        "sites": 6,
        "momentum": int(rng.integers(6)),
        "spin": int(rng.integers(2)),
        "second": rng.uniform(-0.3, 0.3),
        "flux": rng.uniform(0.2, 1.5),
    }
    return Draw(column(window), parameters)


def _transmon(rng: np.random.Generator) -> Draw:
    window = Window(0.0, rng.uniform(0.27, 0.33), rng.uniform(0.44, 0.5))
    josephson, charging = rng.uniform(15.0, 30.0), rng.uniform(0.2, 0.35)
    parameters = {
        "josephson": josephson,
        "charging": charging,
        # The resonator is met inside the training region or lies above the transmon.
        "resonator": np.sqrt(8 * josephson * charging) * rng.uniform(0.85, 1.1),
        "coupling": rng.uniform(0.05, 0.15),
        "asymmetry": rng.uniform(0.1, 0.4),
    }
    return Draw(column(window), parameters)


def _fluxonium(rng: np.random.Generator) -> Draw:
    window = Window(0.0, rng.uniform(0.25, 0.33), 0.5)
    parameters = {
        "josephson": rng.uniform(3.0, 8.0),
        "charging": rng.uniform(0.8, 1.5),
        "inductive": rng.uniform(0.5, 1.5),
    }
    return Draw(column(window), parameters)


def _deuteron(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(1.25, 1.35)
    parameters = {
        "states": int(rng.integers(20, 41)),
        "frequency": rng.uniform(15.0, 30.0),
        "ranges": tuple(rng.uniform(0.9, 1.1, 2)),
    }
    return Draw(box((0.7, 1.2), Window(1.0, stop, stop + rng.uniform(0.25, 0.35)), axis=0), parameters)


def _rabi(rng: np.random.Generator) -> Draw:
    stop = rng.uniform(0.5, 0.7)
    parameters = {
        "splitting": rng.uniform(0.3, 1.3),
        "kerr": rng.uniform(0.0, 0.06),
        "parity": int(rng.choice([-1, 1])),
    }
    return Draw(column(Window(0.0, stop, stop * rng.uniform(2.0, 2.5))), parameters)


def _xxz(rng: np.random.Generator) -> Draw:
    window = Window(-rng.uniform(0.3, 0.7), rng.uniform(0.6, 1.0), rng.uniform(2.0, 3.0))
    parameters = {
        "bonds": tuple(rng.uniform(0.7, 1.3, 7)),
        "fields": tuple(rng.uniform(-0.5, 0.5, 8)),
        "up": int(rng.integers(3, 5)),
    }
    return Draw(column(window), parameters)


def _bose_hubbard(rng: np.random.Generator) -> Draw:
    sites, stop = int(rng.integers(3, 6)), rng.uniform(2.5, 3.5)
    window = Window(0.0, stop, stop * rng.uniform(2.5, 3.5))
    bosons = int(rng.integers(4, 6))
    return Draw(column(window), {"bosons": bosons, "wells": tuple(rng.uniform(-0.4, 0.4, sites))})


def _nilsson(rng: np.random.Generator) -> Draw:
    window = Window(-rng.uniform(0.05, 0.15), rng.uniform(0.12, 0.18), rng.uniform(0.35, 0.45))
    parameters = {
        "kappa": rng.uniform(0.04, 0.09),
        "mu": rng.uniform(0.2, 0.7),
        "projection": float(rng.choice([0.5, 1.5])),
        "parity": int(rng.choice([-1, 1])),
    }
    return Draw(column(window), parameters)


def _double_well(rng: np.random.Generator) -> Draw:
    start, stop = rng.uniform(1.5, 2.5), -rng.uniform(1.5, 2.5)
    window = Window(start, stop, stop - rng.uniform(3.0, 4.5))
    return Draw(column(window), {"quartic": rng.uniform(0.4, 0.7), "tilt": rng.uniform(0.0, 0.15)})


FAMILIES: dict[str, Family] = {
    "spins": Family(
        Draw(column(Window(0.0, 1.0, 3.0))), _spins, "strength and angle of the constant field, window", 6
    ),
    "ising": Family(
        Draw(column(Window(0.0, 0.8, 1.6))), _ising, "6 to 8 sites, each bond, next neighbours, window"
    ),
    "oscillator": Family(Draw(column(Window(0.0, 1.0, 3.0))), _oscillator, "stiffness, tilt, window"),
    "almg": Family(Draw(column(Window(0.0, 0.15, 0.4))), _almg, "N = 50 to 120, anharmonicity, window"),
    "random_weak": Family(
        Draw(column(Window(0.0, 1.0, 2.0))), _random, "both matrices, dimension 30 to 50, window"
    ),
    "random_strong": Family(
        Draw(column(Window(0.0, 1.0, 2.0))), _random, "both matrices, dimension 30 to 50, window"
    ),
    "nv": Family(
        Draw(column(Window(3.0, 14.5, 27.0))),
        _nv,
        "direction of the field, resolved fields, window",
        fewest=8,
    ),
    "exceptional_point": Family(
        Draw(column(Window(-1.0, 1.0, 2.0))), _exceptional_point, "gap, common slope, window"
    ),
    "pairing": Family(
        Draw(column(Window(-0.5, 0.5, 1.5))), _pairing, "6 or 8 levels, their energies, window"
    ),
    "crossings": Family(
        Draw(column(Window(0.0, 1.0, 2.0))), _crossings, "elements of both sectors, window", 12
    ),
    "anticrossing": Family(
        Draw(_two_branches(1.0)), _anticrossing, "coupling, qubit, swing, place of the crossing", 15
    ),
    "two_couplings": Family(
        Draw(box((-1.0, 0.0), Window(0.0, -4.0, -6.0))),
        _two_couplings,
        "all three matrices, dimension 20 to 40, window",
        16,
    ),
    "trotter": Family(
        Draw(column(Window(0.024, 0.012, 0.0))),
        _trotter,
        "6 or 8 spins, spins up, all couplings, fields, window",
        12,
    ),
    "h2plus": Family(Draw(column(Window(0.5, 4.0, 8.0))), _h2plus, "charge of the second nucleus, window"),
    "hubbard": Family(
        Draw(column(Window(0.0, 4.0, 12.0)), {"sites": 6, "momentum": 0}),
        _hubbard,
        "momentum, spin, next-neighbour hopping, flux, window (always 6 sites)",
    ),
    "transmon": Family(
        Draw(column(Window(0.0, 0.3, 0.44))), _transmon, "all energies, coupling, asymmetry, window"
    ),
    "fluxonium": Family(Draw(column(Window(0.0, 0.3, 0.5))), _fluxonium, "all three energies, window"),
    "deuteron": Family(
        Draw(box((0.7, 1.2), Window(1.0, 1.3, 1.6), axis=0)),
        _deuteron,
        "20 to 40 states, ħω, both ranges, window",
        16,
    ),
    "rabi": Family(Draw(column(Window(0.0, 0.6, 1.4))), _rabi, "splitting, Kerr term, parity, window"),
    "xxz": Family(
        Draw(column(Window(-0.5, 0.8, 2.5))), _xxz, "each bond, each field, 3 or 4 spins up, window"
    ),
    "bose_hubbard": Family(
        Draw(column(Window(0.0, 3.0, 10.0))),
        _bose_hubbard,
        "3 to 5 wells, their energies, 4 or 5 bosons, window",
    ),
    "nilsson": Family(
        Draw(column(Window(-0.1, 0.15, 0.4))), _nilsson, "κ, μ, projection 1/2 or 3/2, parity, window"
    ),
    "double_well": Family(Draw(column(Window(2.0, -2.0, -6.0))), _double_well, "quartic term, tilt, window"),
}
