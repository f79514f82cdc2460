"""The exact problems against closed forms, sum rules and literature values, and the protocol they share."""

import re
from functools import reduce

import numpy as np
import pytest
from scipy.optimize import brentq

from bayes_pmm import problems
from bayes_pmm.basis import parse_basis
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import parse_output
from bayes_pmm.problems import (
    almg,
    anticrossing,
    crossings,
    exceptional_point,
    ising,
    nv,
    oscillator,
    pairing,
    random_matrices,
    spins,
    two_couplings,
)
from bayes_pmm.problems.base import Problem, affine

ALL = problems.names()
AFFINE = [name for name in ALL if problems.get(name).matrices is not None]

SX = np.array([[0, 1], [1, 0]])
SZ = np.diag([1, -1])


def site(operator, i, n):
    return reduce(np.kron, [operator if j == i else np.eye(2) for j in range(n)])


def column(*values):
    return np.array(values, dtype=float)[:, None]


# --- the protocol ------------------------------------------------------------------------------------------


def test_registry_lists_every_family():
    assert set(ALL) == {
        "spins", "ising", "oscillator", "almg", "random_weak", "random_strong", "nv", "exceptional_point",
        "pairing", "crossings", "anticrossing", "two_couplings", "trotter", "h2plus", "hubbard", "transmon",
        "fluxonium", "deuteron", "rabi", "xxz", "bose_hubbard", "nilsson", "double_well",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_shapes_values_and_expressions(name):
    problem = problems.get(name)
    p, q = len(problem.control_names), len(problem.outputs)
    assert problem.name == name
    assert "\n" not in problem.summary
    for controls in (problem.train, problem.outside):
        assert controls.shape[1] == p
        assert controls.dtype == np.float64
        exact = problem.exact(controls)
        assert exact.shape == (len(controls), q)
        assert exact.dtype == np.float64
        assert np.isfinite(exact).all()
    for expression in problem.outputs.values():
        assert str(parse_output(expression)) == expression
    assert not {tuple(row) for row in problem.train} & {tuple(row) for row in problem.outside}
    # Two calls, and one row at a time, give the same numbers: solve has no state.
    np.testing.assert_allclose(
        problem.exact(problem.train[2:3]), problem.exact(problem.train)[2:3], rtol=1e-13
    )


@pytest.mark.parametrize("name", ALL)
def test_outside_is_outside_the_hull_of_the_training_controls(name):
    problem = problems.get(name)
    data = problem.dataset(missing=False)
    assert data.extrapolated(problem.outside).all()
    assert not data.extrapolated(problem.train).any()


def test_the_gap_of_the_two_sided_window_is_inside_the_hull():
    problem = problems.get("almg", window="both")
    assert not problem.dataset().extrapolated(problem.outside).any()
    assert not np.any((problem.train > 0.12 + 1e-12) & (problem.train < 0.28 - 1e-12))
    assert np.all((problem.outside > 0.12) & (problem.outside < 0.28))
    assert len(problem.train) == 10


@pytest.mark.parametrize("name", ALL)
def test_wrong_controls_are_rejected(name):
    problem = problems.get(name)
    p = len(problem.control_names)
    for wrong in (np.zeros(3), np.zeros((3, p + 1)), np.zeros((2, 3, p))):
        with pytest.raises(InputError, match=rf"problem {name}: controls have shape"):
            problem.exact(wrong)
    bad = problem.train.copy()
    bad[1, 0] = np.nan
    with pytest.raises(InputError, match="row 1 of the controls is not finite"):
        problem.exact(bad)


def test_default_controls_cannot_be_changed():
    problem = problems.get("oscillator")
    with pytest.raises(ValueError, match="read-only"):
        problem.train[0] = 1.0


@pytest.mark.parametrize("name", AFFINE)
def test_levels_are_those_of_the_affine_matrices(name):
    problem = problems.get(name)
    assert len(problem.matrices) == len(problem.control_names) + 1
    for matrix in problem.matrices:
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    levels = np.linalg.eigvalsh(affine(problem.matrices, problem.outside))[:, : len(problem.outputs)]
    np.testing.assert_allclose(problem.exact(problem.outside), levels, atol=1e-11)
    if problem.exact_dim is not None:
        assert problem.matrices[0].shape == (problem.exact_dim,) * 2


@pytest.mark.parametrize("name", AFFINE)
def test_sums_of_the_lowest_levels_are_concave(name):
    # E0 + ... + Ek is the minimum over subspaces of a trace that is affine in the controls.
    problem = problems.get(name)
    both = np.concatenate([problem.train, problem.outside])
    rng = np.random.default_rng(1)
    a, b = both[rng.integers(len(both), size=40)], both[rng.integers(len(both), size=40)]
    t = rng.random((40, 1))
    middle, ends = (
        np.cumsum(problem.exact(t * a + (1 - t) * b), axis=1),
        t * np.cumsum(problem.exact(a), axis=1) + (1 - t) * np.cumsum(problem.exact(b), axis=1),
    )
    assert np.all(middle >= ends - 1e-10)
    if name != "spins":  # more than the trivial case: E0 bends
        assert np.any(middle[:, 0] > ends[:, 0] + 1e-4)


@pytest.mark.parametrize("name", ALL)
def test_basis_parses(name):
    assert str(parse_basis(problems.get(name).basis)) == problems.get(name).basis


def test_unknown_names_and_parameters_are_rejected():
    with pytest.raises(InputError, match="no problem is called 'osc'; there are spins"):
        problems.get("osc")
    with pytest.raises(InputError, match="oscillator has no parameter 'level'; it has levels"):
        problems.get("oscillator", level=3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("oscillator", {"levels": 0}),
        ("exceptional_point", {"levels": 3}),
        ("exceptional_point", {"gap": 0.0}),
        ("almg", {"size": 99}),
        ("almg", {"window": "above"}),
        ("pairing", {"size": 5}),
        ("ising", {"sites": 2}),
        ("spins", {"size": 0}),
        ("nv", {"direction": (0, 0, 0)}),
        ("anticrossing", {"coupling": 0.0}),
        ("anticrossing", {"visible": 0.6}),
        ("ising", {"bonds": (1.0, 1.0)}),
        ("oscillator", {"stiffness": 0.0}),
        ("pairing", {"energies": (1.0, 2.0)}),
        ("h2plus", {"charges": (1.0, -1.0)}),
        ("h2plus", {"levels": 3}),
        ("hubbard", {"sites": 5}),
        ("hubbard", {"spin": 7}),
        ("trotter", {"up": 0}),
        ("transmon", {"lines": 0}),
        ("transmon", {"josephson": 0.0}),
        ("fluxonium", {"inductive": -1.0}),
        ("fluxonium", {"lines": 9}),
        ("deuteron", {"states": 100}),
        ("rabi", {"parity": 0}),
        ("xxz", {"bonds": (1.0,)}),
        ("bose_hubbard", {"bosons": 0}),
        ("nilsson", {"projection": 1.0}),
        ("nilsson", {"shells": 1, "projection": 4.5}),
        ("double_well", {"quartic": 0.0}),
    ],
)
def test_impossible_parameters_are_rejected(name, parameters):
    with pytest.raises(InputError, match=r"; |needs"):
        problems.get(name, **parameters)


# --- synthetic data ----------------------------------------------------------------------------------------


def test_dataset_without_noise_is_exact():
    problem = problems.get("oscillator")
    data = problem.dataset()
    np.testing.assert_array_equal(data.values, problem.exact(problem.train))
    np.testing.assert_array_equal(data.controls, problem.train)
    assert data.control_names == ("g",)
    assert data.output_names == ("E0", "E1")
    assert not data.errors.any()


def test_noise_is_relative_to_the_pooled_spread_of_the_levels():
    problem = problems.get("oscillator", points=4000, states=16, observable=True)
    exact = problem.exact(problem.train)
    spread = np.array([exact[:, :2].std()] * 2 + [exact[:, 2].std()])
    np.testing.assert_allclose(problem.spread(), spread, rtol=1e-12)
    residual = (problem.dataset(noise=0.05, seed=3).values - exact) / (0.05 * spread)
    n = len(residual)
    assert np.all(np.abs(residual.mean(axis=0)) < 4 / np.sqrt(n))
    assert np.all(np.abs(residual.std(axis=0) - 1) < 4 / np.sqrt(2 * n))
    correlation = np.corrcoef(residual.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 4 / np.sqrt(n))


def test_noise_is_reproducible_and_depends_on_the_seed():
    problem = problems.get("ising")
    first, again, other = (problem.dataset(noise=0.01, seed=seed).values for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_known_errors_are_the_noise():
    problem = problems.get("pairing")
    data = problem.dataset(noise=0.02, known_errors=True)
    np.testing.assert_allclose(data.errors, np.broadcast_to(0.02 * problem.spread(), data.errors.shape))
    assert not problem.dataset(noise=0.02).errors.any()
    with pytest.raises(InputError, match="known_errors needs noise"):
        problem.dataset(known_errors=True)


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_impossible_noise_is_rejected(noise):
    with pytest.raises(InputError, match="give a finite number >= 0"):
        problems.get("spins").dataset(noise=noise)


def test_measurement_error_is_absolute_and_not_everyone_has_one():
    data = problems.get("nv").dataset(noise=None, known_errors=True)
    assert set(np.unique(data.errors)) == {0.0, 1e-3}
    np.testing.assert_array_equal(data.errors > 0, data.mask)
    with pytest.raises(InputError, match="has no measurement error of its own"):
        problems.get("spins").dataset(noise=None)


def test_missing_data_leave_the_noise_of_the_others_alone():
    problem = problems.get("random_weak")
    missing = np.zeros((10, 2), dtype=bool)
    missing[2:5, 1] = True
    full, holes = problem.dataset(noise=0.1), problem.dataset(noise=0.1, missing=missing)
    np.testing.assert_array_equal(np.isnan(holes.values), missing)
    np.testing.assert_array_equal(holes.values[~missing], full.values[~missing])
    with pytest.raises(InputError, match=r"missing has shape \(3, 2\); give \(10, 2\)"):
        problem.dataset(missing=missing[:3])


def test_data_at_other_controls_have_the_noise_of_the_training_data():
    problem = problems.get("oscillator")
    data = problem.dataset(noise=0.01, controls=problem.outside, known_errors=True)
    np.testing.assert_array_equal(data.controls, problem.outside)
    np.testing.assert_allclose(data.errors[0], 0.01 * problem.spread())


# --- each family against facts that its code does not use --------------------------------------------


def test_spins_closed_form_full_space_and_sector():
    c = np.array([-0.7, 0.0, 0.4, 2.0])
    exact = problems.get("spins").exact(c[:, None])[:, 0]
    np.testing.assert_allclose(exact, -np.sqrt(1 + c**2) / 2, rtol=1e-15)
    h0, h1 = spins.hamiltonian(3)
    np.testing.assert_allclose(h1, sum(site(SX, i, 3) for i in range(3)) / 6)
    for matrices in ((h0, h1), spins.collective(3), spins.collective(60), spins.small()):
        np.testing.assert_allclose(np.linalg.eigvalsh(affine(matrices, c[:, None]))[:, 0], exact, atol=1e-13)
    # The whole full-space spectrum: ±1/2, ±1/6 times √(1 + c²), with the multiplicities of three spins.
    levels = np.sqrt(1 + c[3] ** 2) * np.array([-0.5, *[-1 / 6] * 3, *[1 / 6] * 3, 0.5])
    np.testing.assert_allclose(np.linalg.eigvalsh(h0 + c[3] * h1), levels, atol=1e-14)


@pytest.mark.parametrize("sites", [5, 8])
def test_ising_free_fermions(sites):
    g = np.array([0.0, 0.3, 0.8, 1.0, 1.6])
    k = (2 * np.arange(sites) + 1) * np.pi / sites  # even sector: antiperiodic fermions
    energy = np.sqrt(1 + g[:, None] ** 2 - 2 * g[:, None] * np.cos(k))
    e0 = -energy.sum(axis=1) / sites
    exact = problems.get("ising", sites=sites).exact(g[:, None])
    np.testing.assert_allclose(exact[:, 0], e0, atol=1e-13)
    # First excitation: the pair (k, -k) of smallest energy 2ε each.
    np.testing.assert_allclose(exact[:, 1], e0 + 4 * energy[:, 0] / sites, atol=1e-13)


def test_ising_sector_is_that_of_the_full_chain():
    n, g = 5, 0.7
    full = -sum(site(SZ, i, n) @ site(SZ, (i + 1) % n, n) + g * site(SX, i, n) for i in range(n)) / n
    w, v = np.linalg.eigh(reduce(np.kron, [SX] * n))
    even = v[:, w > 0]
    h0, h1 = ising.hamiltonian(n)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(h0 + g * h1), np.linalg.eigvalsh(even.T @ full @ even), atol=1e-13
    )


def test_oscillator_literature_values():
    problem = problems.get("oscillator", levels=4)
    np.testing.assert_allclose(problem.exact(column(0.0))[0], [0.5, 1.5, 2.5, 3.5], atol=1e-13)
    assert problem.exact(column(1.0))[0, 0] == pytest.approx(0.8037706512, abs=1e-10)
    # Perturbation theory: E0 = 1/2 + (3/4) g - (21/8) g² + (333/16) g³ - ...
    g = 1e-3
    series = 0.5 + 3 / 4 * g - 21 / 8 * g**2 + 333 / 16 * g**3
    assert problem.exact(column(g))[0, 0] == pytest.approx(series, abs=3e-10)


def test_oscillator_strong_coupling_and_convergence():
    # E0 / g^(1/3) -> 0.667986259, the ground state of p²/2 + x⁴, with corrections in powers of g^(-2/3).
    g = np.array([10.0, 20.0, 40.0, 80.0])
    e0 = problems.get("oscillator", states=200, levels=1).exact(g[:, None])[:, 0]
    limit = np.polynomial.Polynomial.fit(g ** (-2 / 3), e0 / g ** (1 / 3), 3)(0.0)
    assert limit == pytest.approx(0.667986259, abs=1e-6)
    small, large = (problems.get("oscillator", states=states).exact(column(1.0, 3.0)) for states in (60, 120))
    assert np.all(small >= large - 1e-12)
    np.testing.assert_allclose(small, large, atol=1e-7)


def test_oscillator_virial_theorem():
    # 2⟨T⟩ = ⟨x²⟩ + 4g⟨x⁴⟩ and ⟨x⁴⟩ = dE0/dg give ⟨x²⟩ = E0 - 3g dE0/dg.
    problem = problems.get("oscillator", observable=True)
    assert problem.outputs["x2"] == "<0|x2|0>"
    g, step = 0.6, 1e-4
    low, mid, high = problem.exact(column(g - step, g, g + step))
    assert mid[2] == pytest.approx(mid[0] - 3 * g * (high[0] - low[0]) / (2 * step), abs=1e-7)
    h0, h1 = oscillator.hamiltonian()
    assert oscillator.position_squared().shape == h0.shape == h1.shape == (54, 54)


def test_almg_order_parameter_across_the_transition():
    problem = problems.get("almg", observable=True)
    assert tuple(problem.outputs.values()) == ("E0", "E1", "<0|n|0>")
    n = problem.exact(column(0.15, 0.20, 0.25))[:, 2]
    assert [f"{value:.3f}" for value in n] == ["0.001", "0.016", "0.317"]


def test_almg_solvable_limits():
    # ξ = 0: n + (α/N) n(n + 1); ξ = 1, α = 0: (4/N)(S² - m²) over S_x = m, of which every second m is even.
    size, alpha = 12, -0.6
    h0, h1 = almg.hamiltonian(size, alpha)
    n = np.arange(0, size + 1, 2)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(h0), np.sort(n + alpha / size * n * (n + 1)) / size, atol=1e-13
    )
    levels = np.linalg.eigvalsh(sum(almg.hamiltonian(size, 0.0))) * size
    s = size / 2
    allowed = np.unique(4 / size * (s**2 - np.arange(-s, s + 1) ** 2))
    np.testing.assert_allclose(levels, allowed, atol=1e-12)
    assert h1.shape == almg.occupation(size).shape


def test_random_matrices_seeds_coupling_and_scale():
    weak, strong = problems.get("random_weak", seed=4), problems.get("random_strong", seed=4)
    np.testing.assert_array_equal(weak.matrices[0], strong.matrices[0])
    np.testing.assert_allclose(weak.matrices[1], 0.4 * strong.matrices[1], rtol=1e-15)
    np.testing.assert_array_equal(
        weak.exact(weak.train), problems.get("random_weak", seed=4).exact(weak.train)
    )
    assert np.all(weak.exact(weak.train) != problems.get("random_weak", seed=5).exact(weak.train))
    # Wigner's semicircle on [-2, 2]: second moment 1, edge 2.
    h0, h1 = random_matrices.hamiltonian(1.0, seed=0, dim=200)
    w = np.linalg.eigvalsh(h1)
    assert np.mean(w**2) == pytest.approx(1.0, abs=0.02)
    assert np.max(np.abs(w)) == pytest.approx(2.0, abs=0.1)
    rest = np.linalg.eigvalsh((h0 - np.diag(np.linspace(0, 6, 200))) / 0.4)
    assert np.mean(rest**2) == pytest.approx(0.25, abs=0.01)


def test_nv_zero_field_and_field_along_an_axis():
    d, gamma = 2.87, 0.02803
    np.testing.assert_allclose(problems.get("nv").exact(column(0.0)), d, atol=1e-13)
    b = 20.0
    lines = problems.get("nv", direction=(1, 1, 1)).exact(column(b))[0]
    # The aligned centre has the outermost lines; the three others are equivalent.
    np.testing.assert_allclose(lines[[0, -1]], [d - gamma * b, d + gamma * b], atol=1e-13)
    np.testing.assert_allclose(lines[1:4], lines[1], atol=1e-13)
    np.testing.assert_allclose(lines[4:7], lines[4], atol=1e-13)


def test_nv_lines_are_those_of_the_complex_spin_one_matrices():
    s = np.sqrt(0.5)
    spin = np.array(
        [
            [[0, s, 0], [s, 0, s], [0, s, 0]],
            [[0, -1j * s, 0], [1j * s, 0, -1j * s], [0, 1j * s, 0]],
            np.diag([1, 0, -1]),
        ]
    )
    direction, b = np.array([0.3, -0.8, 0.5]), 17.0
    unit = direction / np.linalg.norm(direction)
    lines = []
    for axis in nv.AXES:
        along = np.einsum("a,aij->ij", axis, spin)
        h = 2.87 * along @ along + 0.02803 * b * np.einsum("a,aij->ij", unit, spin)
        w = np.linalg.eigvalsh(h)
        assert w.sum() == pytest.approx(2 * 2.87, abs=1e-12)
        lines += [w[1] - w[0], w[2] - w[0]]
        h0, h1 = nv.hamiltonian(axis, direction)
        np.testing.assert_allclose(np.linalg.eigvalsh(h0 + b * h1), w, atol=1e-13)
    exact = problems.get("nv", direction=direction).exact(column(b))[0]
    np.testing.assert_allclose(exact, np.sort(lines), atol=1e-13)


def test_nv_low_field_misses_most_lines():
    problem = problems.get("nv")
    assert np.all(problem.train < 15)
    assert problem.outside.min() >= 16
    data = problem.dataset(noise=None)
    seen = data.mask.sum(axis=1)
    np.testing.assert_array_equal(np.unique(seen), [2, 4, 8])
    assert np.all(np.diff(seen) >= 0)
    np.testing.assert_array_equal(np.flatnonzero(data.mask[0]), [3, 4])
    assert problem.dataset(missing=False).mask.all()
    # Resolved means apart: all lines that are given differ by more than the measurement error.
    apart = np.diff(problem.exact(problem.train[seen == 8]), axis=1)
    assert np.all(apart > 3 * problem.measured_sd)


def test_exceptional_points_coalesce():
    gap = 0.3
    m0, m1 = exceptional_point.hamiltonian(gap)
    c = np.array([-2.0, 0.0, 0.7])
    e = np.sqrt(c**2 + gap**2)
    exact = problems.get("exceptional_point", gap=gap).exact(c[:, None])
    np.testing.assert_allclose(exact, np.stack([-e, e], axis=1), atol=1e-14)
    for c in exceptional_point.branch_points(gap):
        m = m0 + c * m1
        # A Jordan block: nilpotent but not zero, so both levels and both eigenvectors coincide.
        np.testing.assert_allclose(m @ m, 0, atol=1e-15)
        assert np.linalg.norm(m) > gap
    off = np.linalg.eigvals(m0 + 1j * (gap + 0.1) * m1)
    np.testing.assert_allclose(np.sort(off.imag), np.sqrt(0.2 * gap + 0.01) * np.array([-1, 1]), atol=1e-14)


def test_pairing_two_levels_by_hand():
    g = np.array([-0.5, 0.0, 1.2])
    exact = problems.get("pairing", size=2).exact(g[:, None])
    root = np.sqrt(1 + g**2)
    np.testing.assert_allclose(exact, np.stack([1 - g - root, 1 - g + root], axis=1), atol=1e-14)


@pytest.mark.parametrize("size", [4, 6, 8])
def test_pairing_limits_and_sum_rules(size):
    h0, h1 = pairing.hamiltonian(size)
    pairs, dim = size // 2, len(h0)
    problem = problems.get("pairing", size=size)
    # g = 0: the lowest levels are filled; the first excitation lifts one pair by one rung.
    ground = pairs * (pairs - 1)
    np.testing.assert_allclose(problem.exact(column(0.0))[0], [ground, ground + 2], atol=1e-12)
    # Pure pairing force: E0 = -g N (P - N + 1) for N pairs in P levels, by the quasispin algebra.
    assert np.linalg.eigvalsh(h1)[0] == pytest.approx(-pairs * (size - pairs + 1), abs=1e-12)
    assert np.trace(h0) == pytest.approx(dim * size * (size - 1) / 2)
    assert np.trace(h1) == pytest.approx(-dim * pairs)


def test_pairing_solves_richardsons_equation():
    # One pair in P levels (here through the two-level case) obeys 1 = g Σ_p 1/(2(p - 1) - E).
    g = 0.8
    e = problems.get("pairing", size=2).exact(column(g))[0]
    np.testing.assert_allclose(g * (1 / (0 - e) + 1 / (2 - e)), 1.0, rtol=1e-12)


def test_crossings_are_exact_and_inside_the_training_region():
    problem = problems.get("crossings", levels=4)
    (a0, a1), (b0, b1) = crossings.sectors()

    def difference(c):
        return np.linalg.eigvalsh(a0 + c * a1)[0] - np.linalg.eigvalsh(b0 + c * b1)[0]

    assert difference(0.1) * difference(0.9) < 0
    root = brentq(difference, 0.1, 0.9, xtol=1e-14)
    below, at, above = problem.exact(column(root - 1e-3, root, root + 1e-3))
    assert at[1] - at[0] < 1e-13
    # Levels that cross meet linearly: E0 has a kink, their gap grows at the same rate on both sides.
    assert below[1] - below[0] == pytest.approx(above[1] - above[0], rel=1e-2)
    assert below[1] - below[0] > 1e-4
    h0, h1 = crossings.hamiltonian()
    assert not h0[:2, 2:].any()
    assert not h1[:2, 2:].any()
    # Each sector really couples: no level is a diagonal entry.
    assert np.all(np.abs([a0[0, 1], b0[0, 1]]) > 0.1)


def test_anticrossing_gap_and_visibility():
    coupling = 0.02
    problem = problems.get("anticrossing", coupling=coupling)
    np.testing.assert_allclose(
        problem.exact(column(1.0, 2.0)), [[7.0 - coupling, 7.0 + coupling]] * 2, atol=1e-13
    )
    np.testing.assert_allclose(problem.exact(column(0.4)), problem.exact(column(3.4)), atol=1e-13)
    data = problem.dataset()
    np.testing.assert_array_equal(data.mask[0], [True, False])
    np.testing.assert_array_equal(data.mask[-1], [False, True])
    assert data.mask.any(axis=1).all()
    assert data.mask.all(axis=1).any()
    # Far from the crossing what is seen is the cavity, 7 GHz, and the noise's unit is that of what is seen.
    assert np.nanmax(np.abs(data.values - 7.0)) < 0.1
    assert problem.spread()[0] == pytest.approx(np.nanstd(data.values), rel=1e-12)
    assert anticrossing.hamiltonian(coupling)[0].shape == (problem.exact_dim,) * 2


def test_two_couplings_regions_and_curvature():
    problem = problems.get("two_couplings")
    assert problem.control_names == ("c1", "c3")
    for controls in (problem.train, problem.outside):
        assert np.all((controls[:, 0] >= -1) & (controls[:, 0] <= 0))
    assert np.all(problem.train[:, 1] > -4)
    assert np.all((problem.outside[:, 1] <= -4) & (problem.outside[:, 1] >= -6))
    # A plane is not enough: its error outside is several per cent of the energy's range.
    plane = np.linalg.lstsq(np.insert(problem.train, 0, 1, axis=1), problem.exact(problem.train), rcond=None)[
        0
    ]
    outside = problem.exact(problem.outside)
    error = np.abs(np.insert(problem.outside, 0, 1, axis=1) @ plane - outside).max()
    assert 0.05 < error / np.ptp(outside) < 1
    again = two_couplings.two_couplings()
    np.testing.assert_array_equal(problem.train, again.train)
    np.testing.assert_array_equal(outside, again.exact(again.outside))


def test_problem_rejects_controls_that_do_not_match_its_names():
    with pytest.raises(InputError, match=re.escape("controls have shape (3, 1)")):
        Problem(
            name="two",
            summary="",
            control_names=("a", "b"),
            outputs={"E0": "E0"},
            solve=lambda controls: controls[:, :1],
            train=np.zeros((3, 1)),
            outside=np.zeros((3, 2)),
        )
