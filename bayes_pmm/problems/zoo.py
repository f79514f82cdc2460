"""Tasks: one Hamiltonian of a family, its training data, and exact values beyond them."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from bayes_pmm.data import Dataset
from bayes_pmm.errors import InputError
from bayes_pmm.problems.base import Problem
from bayes_pmm.problems.draws import FAMILIES, Draw
from bayes_pmm.problems.registry import get

__all__ = ["NOISES", "POINTS", "Task", "families", "parameters", "task", "tasks"]

NOISES = ("0", "1e-4", "1e-2")
"""Standard deviations of the noise in units of `Problem.spread`, as they stand in a task's name."""

POINTS = range(6, 21)
"""Numbers of training points that a task may have."""

_NAME = re.compile(r"(?P<family>[a-z0-9_]+)/(?P<index>\d{1,6})/(?P<noise>[^/]+)(?:/(?P<points>\d{1,6}))?")


@dataclass(frozen=True, eq=False)
class Task:
    """Training data of one Hamiltonian, and the exact values outside them.

    Parameters
    ----------
    name
        ``FAMILY/HAMILTONIAN/NOISE/POINTS``, such as ``"ising/3/1e-2/10"``.
    family, hamiltonian
        The family and the index of the Hamiltonian in it; 0 is the family's standard problem.
    noise
        Standard deviation of the noise in units of `spread`.
    problem
        The Hamiltonian's problem, with the task's controls in `train` and `outside`.
    data
        The training data, N rows and Q outputs, without errors.
    truth
        Exact outputs at `controls`, shape (K, Q).
    distance
        How far each of them lies outside, shape (K,): by which multiple of the training region's width, in the
        control in which that is most.
    spread
        The unit of scores, shape (Q,): `Problem.spread`.
    """

    name: str
    family: str
    hamiltonian: int
    noise: float
    problem: Problem
    data: Dataset
    truth: np.ndarray
    distance: np.ndarray
    spread: np.ndarray

    def __repr__(self):
        rows, outputs = self.truth.shape
        return (
            f"Task {self.name}: {self.data.n_rows} training points, {outputs} outputs, {rows} points outside"
        )

    @property
    def controls(self) -> np.ndarray:
        """Controls outside, shape (K, p)."""
        return self.problem.outside

    @property
    def basis(self) -> str:
        """The basis that fits the problem, as `bayes_pmm.basis.parse_basis` takes it."""
        return self.problem.basis

    @property
    def exact_dim(self) -> int | None:
        """Dimension of a PMM that represents the problem exactly; such tasks are reported apart. None: no small one."""
        return self.problem.exact_dim


def families() -> tuple[str, ...]:
    """Return the names of the families."""
    return tuple(FAMILIES)


def parameters(family: str, hamiltonian: int) -> dict:
    """Return the parameters of a Hamiltonian for `bayes_pmm.problems.get`; what is missing has its default.

    Parameters
    ----------
    family
        One of `families`.
    hamiltonian
        Its index.

    Raises
    ------
    InputError
        If there is no such Hamiltonian.
    """
    family, index, _, _ = _parsed(f"{family}/{hamiltonian}/{NOISES[0]}")
    return dict(_hamiltonian(family, index).parameters)


def tasks(noises: Iterable[str] = ("1e-2",), hamiltonians: Iterable[int] = range(9)) -> tuple[str, ...]:
    """Return the names of the tasks of all families, each with its family's number of training points.

    Parameters
    ----------
    noises
        Some of `NOISES`.
    hamiltonians
        Indices of Hamiltonians.

    Raises
    ------
    InputError
        If a noise is none of `NOISES` or an index is negative.
    """
    noises, hamiltonians = tuple(noises), tuple(hamiltonians)
    return tuple(
        "/".join(map(str, _parsed(f"{family}/{index}/{noise}")))
        for family in FAMILIES
        for index in hamiltonians
        for noise in noises
    )


def task(name: str) -> Task:
    """Return the task of a name.

    The Hamiltonian and its regions follow from family and index alone, so tasks that differ in noise or points
    share one truth. The noise is drawn from the whole name.

    Parameters
    ----------
    name
        ``FAMILY/HAMILTONIAN/NOISE`` or ``FAMILY/HAMILTONIAN/NOISE/POINTS``: the family, the index 0, 1, 2, ... of
        its Hamiltonian (0 is the standard problem), one of `NOISES`, and 6 (for ``nv`` 8) to 20 training
        points, by default the family's.

    Raises
    ------
    InputError
        If there is no such task.

    Examples
    --------
    >>> found = task("ising/0/1e-2")
    >>> found.name, found.data.n_rows, found.truth.shape
    ('ising/0/1e-2/10', 10, (12, 2))
    """
    family, index, noise, points = _parsed(name)
    name = f"{family}/{index}/{noise}/{points}"
    drawn = _hamiltonian(family, index)
    train, outside = drawn.design(points, _generator(family, index, points))
    problem = get(family, **drawn.parameters)
    problem = dataclasses.replace(problem, solve=_remembering(problem.solve), train=train, outside=outside)
    return Task(
        name=name,
        family=family,
        hamiltonian=index,
        noise=float(noise),
        problem=problem,
        data=problem.dataset(float(noise), seed=crc32(name.encode())),
        truth=problem.exact(problem.outside),
        distance=_distance(problem.train, problem.outside),
        spread=problem.spread(),
    )


def _parsed(name: str) -> tuple[str, int, str, int]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(
            f"task {name!r} is not FAMILY/HAMILTONIAN/NOISE or FAMILY/HAMILTONIAN/NOISE/POINTS; "
            f"write for example 'ising/3/1e-2/10'"
        )
    family, index, noise = found["family"], int(found["index"]), found["noise"]
    if family not in FAMILIES:
        raise InputError(f"task {name!r}: no family is called {family!r}; there are {', '.join(FAMILIES)}")
    if noise not in NOISES:
        raise InputError(f"task {name!r}: the noise is {noise}; give one of {', '.join(NOISES)}")
    known = FAMILIES[family]
    points = known.points if found["points"] is None else int(found["points"])
    if points not in POINTS or points < known.fewest:
        raise InputError(
            f"task {name!r} has {points} training points; give {known.fewest} to {POINTS.stop - 1}"
        )
    return family, index, noise, points


def _hamiltonian(family: str, index: int) -> Draw:
    known = FAMILIES[family]
    return known.standard if index == 0 else known.draw(_generator(family, index))


def _generator(family: str, *place: int) -> np.random.Generator:
    return np.random.default_rng([crc32(family.encode()), *place])


def _remembering(solve: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the same function, which solves for controls it has just seen only once: data and spread ask both."""

    @lru_cache(maxsize=4)
    def solved(raw: bytes, shape: tuple[int, ...]) -> np.ndarray:
        return solve(np.frombuffer(raw).reshape(shape))

    def remembering(controls: np.ndarray) -> np.ndarray:
        return solved(controls.tobytes(), controls.shape).copy()

    return remembering


def _distance(train: np.ndarray, outside: np.ndarray) -> np.ndarray:
    low, high = train.min(axis=0), train.max(axis=0)
    return np.max(np.maximum(low - outside, outside - high) / (high - low), axis=1)
