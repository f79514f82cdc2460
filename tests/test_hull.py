"""Where training controls end: flat hulls, any units, several dimensions."""

import numpy as np
import pytest

from bayes_pmm.data import Dataset
from bayes_pmm.hull import _in_full_hull, _is_mixture

NAN = float("nan")


def test_extrapolated_in_one_control_is_outside_the_rows_with_the_output():
    data = Dataset.from_columns(
        {"g": [0.0, 1e-3, 2e-3, 4e-3]},
        {"E0": [1.0, 2, 3, 4], "E1": [NAN, 2, 3, NAN], "E2": [1, NAN, NAN, NAN]},
    )
    grid = np.array([[-1e-9], [0.0], [-1e-13], [5e-4], [1e-3], [1.5e-3], [2e-3], [3e-3], [4e-3], [4.1e-3]])
    inside = ~data.extrapolated(grid)
    np.testing.assert_array_equal(np.flatnonzero(inside[:, 0]), [1, 2, 3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(np.flatnonzero(inside[:, 1]), [4, 5, 6])
    np.testing.assert_array_equal(np.flatnonzero(inside[:, 2]), [1, 2])
    assert data.extrapolated(np.zeros((0, 1))).shape == (0, 3)


def square(n, side=11):
    axes = np.meshgrid(*[np.linspace(0, 1, side)] * n, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


@pytest.mark.parametrize("p", [2, 3])
def test_extrapolated_outside_a_simplex_whatever_the_units(p):
    unit, offset = 10.0 ** np.arange(-6, 12, 6)[:p], np.array([5.0, -3e3, 1e12])[:p]
    corners = np.concatenate([np.zeros((1, p)), np.eye(p)])
    data = Dataset(corners * unit + offset, np.ones((p + 1, 1)), None, [f"c{i}" for i in range(p)], ["E"])
    # Off the face Σ c = 1 by a little, where rounding cannot decide.
    points = square(p) * 0.97
    outside = data.extrapolated(points * unit + offset)[:, 0]
    np.testing.assert_array_equal(outside, points.sum(axis=1) > 1)
    assert outside.any()
    assert not outside.all()


@pytest.mark.parametrize("p", [1, 2, 3, 6])
def test_training_points_and_mixtures_are_inside_and_points_beyond_are_not(p):
    rng = np.random.default_rng(p)
    controls = rng.normal(size=(25, p)) * 10.0 ** rng.integers(-6, 6, size=p)
    data = Dataset(controls, np.ones((25, 1)), None, [f"c{i}" for i in range(p)], ["E"])
    pairs = (controls[:-1] + controls[1:]) / 2
    mixtures = rng.dirichlet(np.full(25, 0.1), size=20) @ controls
    # The farthest point in any direction is a corner: beyond it lies nothing.
    scaled = (controls - controls.mean(axis=0)) / np.ptp(controls, axis=0)
    corner = controls[np.argmax(np.linalg.norm(scaled, axis=1))]
    beyond = controls.mean(axis=0) + (corner - controls.mean(axis=0)) * (1 + 1e-6)
    assert not data.extrapolated(controls).any()
    assert not data.extrapolated(pairs).any()
    assert not data.extrapolated(mixtures).any()
    assert data.extrapolated(beyond[None, :]).all()


def test_collinear_points_in_two_controls():
    t = np.linspace(0.0, 1.0, 7)[:, None]
    data = Dataset(np.hstack([t, 1e3 * t / 3]), np.ones((7, 1)), None, ["a", "b"], ["E"])
    on_line = np.array([0.0, 0.05, 0.9, 1.0])[:, None]
    assert not data.extrapolated(np.hstack([on_line, 1e3 * on_line / 3])).any()
    assert data.extrapolated([[1.001, 1001 / 3], [-0.001, -1 / 3], [0.5, 500 / 3 + 0.01], [0.5, 160.0]]).all()


@pytest.mark.parametrize("rank", [1, 2])
def test_flat_points_in_three_controls(rank):
    rng = np.random.default_rng(rank)
    plane = rng.normal(size=(rank, 3))
    flat = rng.uniform(size=(12, rank))
    data = Dataset(flat @ plane, np.ones((12, 1)), None, list("abc"), ["E"])
    normal = np.linalg.svd(plane)[2][-1]
    inside = rng.dirichlet(np.ones(12), size=15) @ flat @ plane
    assert not data.extrapolated(flat @ plane).any()
    assert not data.extrapolated(inside).any()
    assert data.extrapolated(inside + 1e-4 * normal).all()
    assert data.extrapolated((flat + 2) @ plane).all()


def test_an_output_seen_at_two_points_only_has_a_segment_for_a_hull():
    data = Dataset.from_columns(
        {"a": [0, 1, 0, 1], "b": [0, 0, 1, 1]}, {"E0": [1, 2, 3, 4], "E1": [1, NAN, NAN, 4]}
    )
    points = [[0.5, 0.5], [0.5, 0.4], [1, 1], [1, 0], [1.1, 1.1]]
    np.testing.assert_array_equal(data.extrapolated(points)[:, 0], [False, False, False, False, True])
    np.testing.assert_array_equal(data.extrapolated(points)[:, 1], [False, True, False, True, True])


@pytest.mark.parametrize("p", [2, 3, 4])
def test_facets_and_linear_programs_agree(p):
    rng = np.random.default_rng(p)
    trained, points = rng.uniform(size=(20, p)), rng.uniform(size=(60, p))
    by_facets = _in_full_hull(trained, points)
    assert by_facets.any()
    assert not by_facets.all()
    np.testing.assert_array_equal(by_facets, [_is_mixture(trained, point) for point in points])


def test_controls_near_the_largest_float_do_not_overflow():
    data = Dataset.from_columns({"a": [-1.7e308, 1.7e308], "b": [1e-300, 2e-300]}, {"E": [1, 2]})
    points = [[0.0, 1.5e-300], [0.0, 1.0], [1.7e308, 2e-300], [-1.7e308, 2e-300]]
    np.testing.assert_array_equal(data.extrapolated(points)[:, 0], [False, True, False, True])
