"""Decay in time against Rabi's formula, the golden rule and Bateman's solution."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from bayes_pmm import problems
from bayes_pmm.errors import InputError
from bayes_pmm.problems import decay


def test_survival_of_one_of_two_levels():
    detuning, times = 0.8, np.linspace(0, 12, 25)
    matrices = (np.diag([0.0, detuning]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    c = np.array([[0.2], [1.1]])
    frequency = np.sqrt(detuning**2 + 4 * c**2)
    expected = 1 - (4 * c**2 / frequency**2) * np.sin(frequency * times / 2) ** 2
    np.testing.assert_allclose(decay.survival(matrices, np.array([1.0, 0.0]), c, times), expected, atol=1e-13)


def test_survival_solves_schroedingers_equation():
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2, 4, 4)) + 1j * rng.standard_normal((2, 4, 4))
    h = h + h.conj().transpose(0, 2, 1)
    psi = rng.standard_normal(4) + 1j * rng.standard_normal(4)
    psi /= np.linalg.norm(psi)
    c, end = 0.4, 1.3
    path = solve_ivp(lambda _, y: -1j * (h[0] + c * h[1]) @ y, (0, end), psi, rtol=1e-11, atol=1e-12)
    expected = abs(psi.conj() @ path.y[:, -1]) ** 2
    np.testing.assert_allclose(
        decay.survival(tuple(h), psi, np.array([[c]]), np.array([0.0, end]))[0], [1.0, expected], atol=1e-9
    )


def test_discrete_state_decays_by_the_golden_rule():
    width = 0.1
    matrices, state = decay.discrete_state(states=400, width=width, band=5.0)
    times, c = np.linspace(10, 40, 7), np.array([[0.5], [1.0]])
    found = decay.survival(matrices, state, c, times)
    rates = -np.polynomial.polynomial.polyfit(times, np.log(found).T, 1)[1]
    np.testing.assert_allclose(rates, c[:, 0] ** 2 * width, rtol=0.03)


def test_chain_has_batemans_solution():
    base, times, c = 0.3, np.array([0.0, 1.0, 5.0, 30.0]), 0.9
    found = decay.linear_evolution(decay.chain(4, base), np.array([1.0, 0, 0, 0]), np.array([[c]]), times)[0]
    rates = np.array([c, base, 2 * base])
    for m in range(3):
        others = [[rates[j] - rates[i] for j in range(m + 1) if j != i] for i in range(m + 1)]
        expected = np.prod(rates[:m]) * sum(
            np.exp(-rates[i] * times) / np.prod(others[i]) for i in range(m + 1)
        )
        np.testing.assert_allclose(found[:, m], expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)


def test_decay_is_no_problem_of_the_registry():
    assert "decay" not in problems.names()
    assert "decay" not in problems.families()
    with pytest.raises(InputError, match="give these"):
        decay.discrete_state(states=1)
    with pytest.raises(InputError, match="at least 2"):
        decay.chain(1)
