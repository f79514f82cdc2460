"""Problems with exact answers, for tests, examples, studies and benchmarks.

>>> from bayes_pmm import problems
>>> oscillator = problems.get("oscillator", levels=3)
>>> oscillator.exact([[0.0]]).round(12)
array([[0.5, 1.5, 2.5]])
"""

from bayes_pmm.problems.base import Problem
from bayes_pmm.problems.registry import get, names
from bayes_pmm.problems.zoo import NOISES, POINTS, Task, families, parameters, task, tasks

__all__ = [
    "NOISES",
    "POINTS",
    "Problem",
    "Task",
    "families",
    "get",
    "names",
    "parameters",
    "task",
    "tasks",
]
