"""Atoms, molecules and circuits against closed forms, published values and solutions on a grid."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import mathieu_a, mathieu_b

from bayes_pmm import problems
from bayes_pmm.errors import InputError
from bayes_pmm.problems import fluxonium, h2plus, rabi, transmon


def column(*values):
    return np.array(values, dtype=float)[:, None]


def on_a_grid(potential, mass=1.0, end=9.0, points=181):
    """Levels of p²/2m + V(x) in a basis of sinc functions (Colbert, Miller, J. Chem. Phys. 96, 1982 (1992))."""
    x = np.linspace(-end, end, points)
    i = np.arange(points)
    apart = i[:, None] - i
    kinetic = np.where(apart == 0, np.pi**2 / 3, 2 / np.where(apart == 0, 1, apart) ** 2) * (-1.0) ** apart
    return np.linalg.eigvalsh(kinetic / (2 * mass * (x[1] - x[0]) ** 2) + np.diag(potential(x)))


# --- one electron, two nuclei ------------------------------------------------------------------------------


def test_h2plus_published_energies():
    # At R = 2: -1.1026342144949 (1s sigma_g; total energy -0.6026342144949) and -0.6675343922 (2p sigma_u),
    # as tabulated since Bates, Ledsham, Stewart (1953) and Madsen, Peek (1971).
    r = np.array([2.0])
    assert h2plus.scaled_energies(r)[0] / 4 == pytest.approx(-1.1026342144949, abs=2e-12)
    assert h2plus.scaled_energies(r, state=(0, 1))[0] / 4 == pytest.approx(-0.6675343922, abs=1e-10)


def test_h2plus_limits():
    # R → 0 is He⁺, with the quadrupole correction 8R²/3 of its ground state.
    r = np.array([0.01])
    assert h2plus.scaled_energies(r)[0] / r[0] ** 2 == pytest.approx(-2 + 8 / 3 * r[0] ** 2, abs=2e-5)
    for state, level in (((0, 1), -0.5), ((1, 0), -0.5), ((0, 2), -2 / 9)):
        assert h2plus.scaled_energies(r, state=state)[0] / r[0] ** 2 == pytest.approx(level, abs=2e-4)
    # R → ∞ is an atom that a charge polarises: -1/2 - 1/R - 9/(4R⁴) on the average of both states.
    r = np.array([12.0])
    pair = [h2plus.scaled_energies(r, state=(0, j))[0] / r[0] ** 2 for j in (0, 1)]
    assert np.mean(pair) == pytest.approx(-0.5 - 1 / 12 - 2.25 / 12**4, abs=1e-5)


def test_h2plus_scaling_and_exchange_of_the_nuclei():
    r = np.array([0.6, 3.0])
    for state in ((0, 0), (0, 1)):
        np.testing.assert_allclose(
            h2plus.scaled_energies(r, (2.0, 2.0), state),
            h2plus.scaled_energies(2 * r, (1.0, 1.0), state),
            rtol=1e-11,
        )
        np.testing.assert_allclose(
            h2plus.scaled_energies(r, (1.0, 1.7), state),
            h2plus.scaled_energies(r, (1.7, 1.0), state),
            rtol=1e-11,
        )
    # The lowest eigenvalue of T + R V is concave in R.
    curve = h2plus.scaled_energies(np.linspace(0.5, 9, 60), (1.0, 1.4))
    assert np.all(np.diff(curve, 2) < 0)


@pytest.mark.parametrize("charges", [(1.0, 1.0), (1.0, 2.0)])
def test_h2plus_has_converged(charges, monkeypatch):
    r = np.array([0.5, 4.0, 9.0])
    values = problems.get("h2plus", charges=charges).exact(r[:, None])
    monkeypatch.setattr(h2plus, "_SIZE", 36)
    np.testing.assert_allclose(values, problems.get("h2plus", charges=charges).exact(r[:, None]), rtol=1e-10)
    with pytest.raises(InputError, match="not positive"):
        problems.get("h2plus").exact(column(0.0))


# --- circuits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flux", [0.0, 0.4])
def test_transmon_alone_obeys_mathieus_equation(flux):
    # With φ = 2z the levels are E_C times the characteristic values of even order at q = E_J/(2E_C).
    ej, ec, d = 18.0, 0.3, 0.2
    q = ej * np.hypot(np.cos(np.pi * flux), d * np.sin(np.pi * flux)) / (2 * ec)
    alone = ec * np.array([mathieu_a(0, q), mathieu_b(2, q), mathieu_a(2, q)])
    resonator = 4.9
    lines = np.sort([*(alone[1:] - alone[0]), resonator])[:2]
    exact = problems.get(
        "transmon", lines=2, josephson=ej, charging=ec, resonator=resonator, coupling=0.0, asymmetry=d
    ).exact(column(flux))[0]
    np.testing.assert_allclose(exact, lines, rtol=1e-6)


def test_transmon_coupling_displaces_the_resonator():
    # Without Josephson energy a charge n shifts the resonator: 4E_C n² - g² n²/ω + m ω.
    ec, omega, g = 0.4, 6.0, 0.05
    h0, _, _ = transmon.hamiltonian(20.0, ec, omega, g)
    expected = np.sort([(4 * ec - g**2 / omega) * n**2 + m * omega for n in range(-8, 9) for m in range(3)])
    np.testing.assert_allclose(np.linalg.eigvalsh(h0)[:9], expected[:9], atol=1e-7)


def test_transmon_lines_repel_at_the_resonator():
    # On resonance the two lines are 2g⟨1|n|0⟩ apart, with ⟨1|n|0⟩ = (E_J/(32E_C))^(1/4) of the oscillator.
    ej, ec, g = 20.0, 0.25, 0.05
    bare = ec * (mathieu_b(2, ej / (2 * ec)) - mathieu_a(0, ej / (2 * ec)))
    pair = problems.get("transmon", josephson=ej, charging=ec, resonator=float(bare), coupling=g).exact(
        column(0.0)
    )
    assert pair[0, 1] - pair[0, 0] == pytest.approx(2 * g * (ej / (32 * ec)) ** 0.25, rel=0.05)


def test_fluxonium_on_a_grid_and_its_symmetries():
    ej, ec, el = 5.0, 0.9, 0.7
    problem = problems.get("fluxonium", lines=3, josephson=ej, charging=ec, inductive=el)
    for flux in (0.0, 0.23, 0.5):
        w = on_a_grid(
            lambda x, f=flux: el * x**2 / 2 - ej * np.cos(x - 2 * np.pi * f),
            mass=1 / (8 * ec),
            end=12.0,
            points=241,
        )
        np.testing.assert_allclose(problem.exact(column(flux))[0], w[1:4] - w[0], atol=1e-8)
    np.testing.assert_allclose(problem.exact(column(0.2)), problem.exact(column(-0.2)), atol=1e-10)
    np.testing.assert_allclose(problem.exact(column(0.2)), problem.exact(column(1.2)), atol=1e-10)
    h0, _, _ = fluxonium.hamiltonian(ej, ec, el)
    np.testing.assert_allclose(np.diff(np.diag(h0)), np.sqrt(8 * ec * el))


def test_rabi_without_splitting_is_a_displaced_oscillator():
    g = np.array([0.0, 0.5, 1.2])
    exact = problems.get("rabi", levels=4, splitting=0.0).exact(g[:, None])
    np.testing.assert_allclose(exact, np.arange(4) - g[:, None] ** 2, atol=1e-12)


def braak(x, g, delta, parity, terms=60):
    """Braak's function G, whose zeros are the levels plus g²."""
    before, now = 0.0, 1.0
    total = 0.0
    for n in range(terms):
        total += now * (1 - parity * delta / (x - n)) * g**n
        f = 2 * g + (n - x + delta**2 / (x - n)) / (2 * g)
        before, now = now, (f * now - before) / (n + 1)
    return total


@pytest.mark.parametrize("parity", [1, -1])
def test_rabi_levels_are_zeros_of_braaks_function(parity):
    g, delta = 0.7, 0.4
    levels = problems.get("rabi", levels=4, splitting=delta, parity=parity).exact(column(g))[0]
    for level in levels:
        x = level + g**2
        assert braak(x - 1e-4, g, delta, parity) * braak(x + 1e-4, g, delta, parity) < 0
        root = brentq(braak, x - 1e-4, x + 1e-4, args=(g, delta, parity), xtol=1e-13)
        assert level == pytest.approx(root - g**2, abs=1e-9)


def test_rabi_parities_cross_at_judds_point():
    # 4g² + Δ² = 1: both parities have the level 1 - g².
    delta = 0.6
    g = np.sqrt(1 - delta**2) / 2
    for parity in (1, -1):
        w = np.linalg.eigvalsh(np.add(*np.multiply(rabi.hamiltonian(delta, 0.0, parity), [[[1.0]], [[g]]])))
        assert np.abs(w - (1 - g**2)).min() < 1e-12


@pytest.mark.parametrize("k", [2.0, -2.0, -6.0])
def test_double_well_on_a_grid(k):
    q, f = 0.4, 0.1
    w = on_a_grid(lambda x: f * x + q * x**4 + k * x**2 / 2)
    exact = problems.get("double_well", levels=3, quartic=q, tilt=f).exact(column(k))[0]
    np.testing.assert_allclose(exact, w[:3], atol=1e-8)


@pytest.mark.parametrize("g", [0.0, 2.5])
def test_tilted_oscillator_on_a_grid(g):
    stiffness, tilt = 0.5, 0.8
    w = on_a_grid(lambda x: stiffness * x**2 / 2 + tilt * x + g * x**4)
    exact = problems.get("oscillator", stiffness=stiffness, tilt=tilt).exact(column(g))[0]
    np.testing.assert_allclose(exact, w[:2], atol=1e-7)
