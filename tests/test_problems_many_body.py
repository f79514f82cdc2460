"""Lattices, spins, bosons and nucleons against closed forms, Bethe's equations and matrices built otherwise."""

from functools import reduce

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import fsolve

from bayes_pmm import problems
from bayes_pmm.errors import InputError
from bayes_pmm.problems import bose_hubbard, deuteron, hubbard, nilsson, trotter, xxz

PAULI = {
    "x": np.array([[0, 1], [1, 0]], dtype=complex),
    "y": np.array([[0, -1j], [1j, 0]]),
    "z": np.diag([1.0, -1.0]).astype(complex),
}


def site(operator, i, n):
    return reduce(np.kron, [operator if j == i else np.eye(2) for j in range(n)])


def column(*values):
    return np.array(values, dtype=float)[:, None]


def levels_at(matrices, control):
    return np.linalg.eigvalsh(matrices[0] + control * matrices[1])


# --- Hubbard ring ------------------------------------------------------------------------------------------


def jordan_wigner(modes):
    lower = np.array([[0, 1], [0, 0]])
    sign = np.diag([1, -1])
    return [
        reduce(np.kron, [sign if j < i else lower if j == i else np.eye(2) for j in range(modes)])
        for i in range(modes)
    ]


@pytest.mark.parametrize(("second", "flux"), [(0.0, 0.0), (0.3, 0.7)])
def test_hubbard_sectors_make_up_the_whole_spectrum(second, flux):
    n, u = 4, 3.0
    c = jordan_wigner(2 * n)
    up, down = c[:n], c[n:]
    h = np.zeros((256, 256), dtype=complex)
    for spin in (up, down):
        for i in range(n):
            for step, amplitude in ((1, 1.0), (2, second)):
                hop = amplitude * np.exp(1j * step * flux / n) * spin[(i + step) % n].T @ spin[i]
                h -= hop + hop.conj().T
    h += u * sum(up[i].T @ up[i] @ down[i].T @ down[i] for i in range(n))
    kept = np.ones(256, dtype=bool)
    for spin in (up, down):
        kept &= np.isclose(np.diag(sum(a.T @ a for a in spin)), n / 2)
    whole = np.linalg.eigvalsh(h[np.ix_(kept, kept)])
    sectors = [(k, spin) for k in range(n) for spin in (0, 1)] + [(2, 2)]
    found = [levels_at(hubbard.hamiltonian(n, k, spin, second, flux), u) for k, spin in sectors]
    np.testing.assert_allclose(np.sort(np.concatenate(found)), whole, atol=1e-12)


def test_hubbard_refuses_an_empty_sector():
    with pytest.raises(InputError, match="no state of spin 2 and momentum 0; give others"):
        hubbard.hamiltonian(4, momentum=0, spin=2)


def test_hubbard_four_sites_closed_form_and_heisenberg_limit():
    u = np.array([0.5, 4.0, 12.0])
    third = (16 + u**2) / 3
    closed = u - 2 * np.sqrt(third) * np.cos(np.arccos(4 * u / third**1.5) / 3)
    problem = problems.get("hubbard")
    np.testing.assert_allclose(problem.exact(u[:, None])[:, 0], closed, atol=1e-12)
    assert problem.exact_dim == len(problem.matrices[0]) == 6
    # J Σ (S·S - 1/4) with J = 4/U, and Σ S·S = -2 on a ring of four spins.
    assert problem.exact(column(2000.0))[0, 0] * 2000 == pytest.approx(-12, abs=1e-3)


def test_hubbard_six_sites_solve_lieb_and_wus_equations():
    u, sites = 4.0, 6
    i, j = np.arange(-2.5, 3), np.arange(-1.0, 2)

    def equations(x):
        k, spin = x[:6], x[6:]
        charge = sites * k - 2 * np.pi * i + 2 * np.arctan(4 * (np.sin(k)[:, None] - spin) / u).sum(axis=1)
        rapidity = (
            2 * np.arctan(4 * (spin[:, None] - np.sin(k)) / u).sum(axis=1)
            - 2 * np.pi * j
            - 2 * np.arctan(2 * (spin[:, None] - spin) / u).sum(axis=1)
        )
        return np.concatenate([charge, rapidity])

    x, _, status, _ = fsolve(equations, np.concatenate([2 * np.pi * i / sites, j]), full_output=True)
    assert status == 1
    exact = problems.get("hubbard", sites=6, momentum=0).exact(column(u))[0, 0]
    assert exact == pytest.approx(-2 * np.cos(x[:6]).sum(), abs=1e-9)


# --- Trotterised chain -------------------------------------------------------------------------------------


def whole_chain(n, field, exchange, twist, seed):
    r = np.random.default_rng(seed).random(n)
    parts = [field * sum(r[i] * site(PAULI["z"], i, n) for i in range(n))]
    for bond in (
        lambda i, j: exchange * sum(site(PAULI[a], i, n) @ site(PAULI[a], j, n) for a in "xyz"),
        lambda i, j: (
            twist
            * (
                site(PAULI["x"], i, n) @ site(PAULI["y"], j, n)
                - site(PAULI["y"], i, n) @ site(PAULI["x"], j, n)
            )
        ),
    ):
        parts += [sum(bond(i, (i + 1) % n) for i in range(first, n, 2)) for first in (0, 1)]
    return parts


def test_trotter_eigenphases_of_the_whole_chain():
    n, dt, couplings = 4, 0.03, (4.0, 8.0, 2.6, 3)
    parts = whole_chain(n, *couplings)
    u = reduce(np.matmul, [expm(-1j * dt * part) for part in parts])
    up = np.rint((np.diag(sum(site(PAULI["z"], i, n) for i in range(n))).real + n) / 2)
    for count in (1, 2, 3):
        sector = np.ix_(up == count, up == count)
        h = sum(parts)[sector]
        energies = np.sort(-np.angle(np.linalg.eigvals(u[sector])) / dt)
        assert np.abs(np.linalg.eigvalsh(h)).max() * dt < 0.9 * np.pi  # so the angles do not wrap
        mine = trotter.factors(n, count, *couplings)
        np.testing.assert_allclose(
            trotter.quasienergies(mine, np.array([dt]), 4)[0], energies[:4], atol=1e-10
        )
        np.testing.assert_allclose(
            trotter.quasienergies(mine, np.array([0.0]), 4)[0], np.linalg.eigvalsh(h)[:4], atol=1e-11
        )


def test_trotter_error_starts_with_the_commutators():
    # log U = -i dt H - (dt²/2) Σ_{l<m} [H_l, H_m] + ..., so dE/dt at 0 is ⟨-(i/2) Σ [H_l, H_m]⟩.
    parts = trotter.factors(6, 3, seed=1)
    _, v = np.linalg.eigh(parts.sum(axis=0))
    bracket = sum(parts[a] @ parts[b] - parts[b] @ parts[a] for a in range(5) for b in range(a + 1, 5))
    slope = (v[:, 0].conj() @ (-0.5j * bracket) @ v[:, 0]).real
    step = 1e-5
    low, mid, high = trotter.quasienergies(parts, np.array([-step, 0.0, step]), 1)[:, 0]
    assert (high - low) / (2 * step) == pytest.approx(slope, abs=1e-3 * abs(high + low - 2 * mid) / step**2)
    assert abs(high + low - 2 * mid) / step**2 > 100


def test_trotter_refuses_steps_that_wrap():
    problem = problems.get("trotter", sites=4, up=2)
    with pytest.raises(InputError, match="the eigenphases wrap"):
        problem.exact(column(0.2))


# --- XXZ chain, bosons -------------------------------------------------------------------------------------


def test_xxz_free_fermions():
    problem = problems.get("xxz")
    fields = np.array([0.31, -0.24, 0.05, 0.42, -0.37, 0.18, -0.46, 0.11])
    one = np.linalg.eigvalsh(np.diag(fields) + np.diag(np.full(7, 0.5), 1) + np.diag(np.full(7, 0.5), -1))
    e0 = one[:4].sum() - fields.sum() / 2
    np.testing.assert_allclose(problem.exact(column(0.0))[0] * 8, [e0, e0 + one[4] - one[3]], atol=1e-12)


def test_xxz_is_the_whole_chain():
    bonds, fields, anisotropy = (0.8, 1.3, 0.6), (0.2, -0.5, 0.1, 0.4), 1.7
    spin = {a: [site(PAULI[a], i, 4) / 2 for i in range(4)] for a in "xyz"}
    h = sum(
        bond * (spin["x"][i] @ spin["x"][i + 1] + spin["y"][i] @ spin["y"][i + 1])
        + anisotropy * bond * spin["z"][i] @ spin["z"][i + 1]
        for i, bond in enumerate(bonds)
    ) + sum(f * spin["z"][i] for i, f in enumerate(fields))
    kept = np.isclose(np.diag(sum(spin["z"])).real, -1.0)
    np.testing.assert_allclose(
        levels_at(xxz.hamiltonian(bonds, fields, 1), anisotropy) * 4,
        np.linalg.eigvalsh(h[np.ix_(kept, kept)]),
        atol=1e-13,
    )


def test_bosons_without_repulsion_condense():
    wells = np.array([0.3, -0.1, 0.2, 0.0, -0.4])
    one = np.linalg.eigvalsh(np.diag(wells) - np.diag(np.ones(4), 1) - np.diag(np.ones(4), -1))
    exact = problems.get("bose_hubbard", bosons=3, wells=tuple(wells)).exact(column(0.0))[0]
    np.testing.assert_allclose(exact * 3, [3 * one[0], 2 * one[0] + one[1]], atol=1e-12)


def test_two_bosons_in_two_wells_and_one_per_well():
    for u in (-2.0, 0.7, 9.0):
        root = np.sqrt(u**2 + 16)
        closed = np.sort([(u - root) / 2, u, (u + root) / 2]) / 2
        np.testing.assert_allclose(levels_at(bose_hubbard.hamiltonian(2, (0.0, 0.0)), u), closed, atol=1e-13)
    # Second order in 1/U: two ways to hop across each bond, amplitude √2 each.
    mott = problems.get("bose_hubbard", bosons=4, wells=(0.0,) * 4).exact(column(4000.0))[0, 0]
    assert mott * 4 * 4000 == pytest.approx(-3 * 4, rel=1e-3)


# --- nucleons ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("projection", "parity"), [(0.5, 1), (1.5, -1)])
def test_nilsson_spherical_levels(projection, parity):
    kappa, mu = 0.07, 0.5
    h0, _ = nilsson.hamiltonian(kappa, mu, projection, parity, shells=6)
    levels = []
    for n in range(7):
        if (-1) ** n != parity:
            continue
        for orbital in range(n % 2, n + 1, 2):
            for j, coupling in ((orbital + 0.5, orbital), (orbital - 0.5, -orbital - 1)):
                if j >= projection:
                    levels.append(
                        n + 1.5 - kappa * (coupling + mu * (orbital * (orbital + 1) - n * (n + 3) / 2))
                    )
    np.testing.assert_allclose(np.linalg.eigvalsh(h0), np.sort(levels), atol=1e-12)


@pytest.mark.parametrize("delta", [-0.15, 0.2])
def test_nilsson_without_spin_orbit_force_is_an_anisotropic_oscillator(delta):
    across, along = np.sqrt(1 + 2 * delta / 3), np.sqrt(1 - 4 * delta / 3)
    levels = sorted(
        (2 * radial + turn + 1) * across + (nz + 0.5) * along
        for radial in range(3)
        for turn in (0, 1)  # Λ = 0 with spin up, Λ = 1 with spin down
        for nz in range(6)
        if (turn + nz) % 2 == 0
    )
    exact = problems.get("nilsson", levels=5, kappa=0.0, shells=14).exact(column(delta))[0]
    np.testing.assert_allclose(exact, levels[:5], atol=1e-6)


def radial_levels(c, d, points=360, end=45.0):
    """Levels and ⟨(r/2)²⟩ of the s wave on a grid: sine functions in a box."""
    r = end * np.arange(1, points) / points
    k = np.arange(1, points)
    waves = np.sqrt(2 / points) * np.sin(np.pi * np.outer(k, k) / points)
    kinetic = (waves * (deuteron.HBAR2_PER_MASS * (np.pi * k / end) ** 2)) @ waves
    potential = -178 * c * np.exp(-0.639 * r**2) + 200 * d * np.exp(-1.487 * r**2)
    w, v = np.linalg.eigh(kinetic + np.diag(potential))
    return w, v[:, 0] ** 2 @ r**2 / 4


@pytest.mark.parametrize(("c", "d"), [(1.0, 1.0), (1.3, 0.8)])
def test_deuteron_in_a_box(c, d):
    w, r2 = radial_levels(c, d)
    exact = problems.get("deuteron", states=60).exact(np.array([[c, d]]))[0]
    assert w[0] - 1e-9 < exact[0] < w[0] + 5e-4
    assert exact[2] == pytest.approx(r2, rel=2e-3)
    fewer = problems.get("deuteron", states=12).exact(np.array([[c, d]]))[0]
    assert fewer[0] > exact[0]


def test_deuteron_published_binding_energy():
    # Minnesota potential: 2.202 MeV (Thompson, LeMere, Tang 1977).
    exact = problems.get("deuteron", states=60).exact(np.array([[1.0, 1.0]]))[0]
    assert exact[0] == pytest.approx(-2.202, abs=1e-3)
    problem = problems.get("deuteron")
    assert tuple(problem.outputs.values()) == ("E0", "E1", "<0|r2|0>")


def test_deuteron_kinetic_energy_and_radius_make_an_oscillator():
    states, frequency = 25, 17.0
    kinetic, _, _ = deuteron.hamiltonian(states, frequency)
    spring = frequency**2 / (4 * deuteron.HBAR2_PER_MASS)  # μω²/2 with μ = m/2
    oscillator = kinetic + 4 * spring * deuteron.radius_squared(states, frequency)
    np.testing.assert_allclose(oscillator, frequency * np.diag(2 * np.arange(states) + 1.5), atol=1e-11)
