"""The zoo: names, draws, regions, distances and data of its tasks."""

import csv
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import bayes_pmm as bp
from bayes_pmm import cli, problems
from bayes_pmm.basis import parse_basis
from bayes_pmm.errors import InputError
from bayes_pmm.outputs import Level, minimum_dim, parse_output
from bayes_pmm.problems.draws import FAMILIES
from bayes_pmm.tables import read_dataset

HAMILTONIANS = range(9)
ALL = problems.families()


@pytest.fixture(scope="module")
def built():
    """All tasks with the default noise, and the seconds that each family took."""
    found, seconds = {}, {}
    for family in ALL:
        start = time.perf_counter()
        found[family] = [problems.task(f"{family}/{h}/1e-2") for h in HAMILTONIANS]
        seconds[family] = time.perf_counter() - start
    return found, seconds


def levels_of(task):
    outputs = [parse_output(expression) for expression in task.problem.outputs.values()]
    return [q for q, output in enumerate(outputs) if isinstance(output, Level)]


def test_families_are_problems_and_enough_are_not_exact(built):
    assert set(ALL) == set(problems.names())
    hard = [family for family in ALL if all(task.exact_dim is None for task in built[0][family])]
    assert len(hard) >= 14
    # Whatever a small PMM represents exactly says so for every Hamiltonian: no family is mixed.
    for family in set(ALL) - set(hard):
        assert all(task.exact_dim is not None for task in built[0][family])


def test_tasks_are_built_quickly(built):
    _, seconds = built
    assert sum(seconds.values()) / (len(ALL) * len(HAMILTONIANS)) < 0.2


@pytest.mark.parametrize("family", ALL)
def test_index_zero_is_the_standard_problem(built, family):
    task, standard = built[0][family][0], problems.get(family, **FAMILIES[family].standard.parameters)
    assert dict(task.problem.outputs) == dict(standard.outputs)
    np.testing.assert_allclose(task.truth, standard.exact(task.controls), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", ALL)
def test_shapes_and_regions(built, family):
    for task in built[0][family]:
        k, q = len(task.controls), len(task.problem.outputs)
        assert 10 <= k <= 20
        assert task.data.n_rows == FAMILIES[family].points
        assert task.truth.shape == (k, q)
        assert task.distance.shape == (k,)
        assert task.spread.shape == (q,)
        assert np.all(task.spread > 0)
        assert np.isfinite(task.truth).all()
        assert not task.data.errors.any()
        np.testing.assert_array_equal(task.truth, task.problem.exact(task.controls))
        assert str(parse_basis(task.basis)) == task.basis == task.problem.basis
        # Outside means outside for every output, and at several distances of the order of the training region.
        assert task.data.extrapolated(task.controls).all()
        assert not task.data.extrapolated(task.problem.train)[task.data.mask].any()
        assert 0 < task.distance.min() < 0.25
        assert 0.25 < task.distance.max() < 2.5
        assert len(np.unique(task.distance.round(6))) >= 5


@pytest.mark.parametrize("family", ALL)
def test_levels_ascend_and_outputs_are_seen(built, family):
    for task in built[0][family]:
        both = np.concatenate([task.problem.exact(task.problem.train), task.truth])
        assert np.all(np.diff(both[:, levels_of(task)], axis=1) >= 0)
        assert task.data.mask.sum(axis=0).min() >= 3
        assert task.exact_dim is None or task.exact_dim >= minimum_dim(
            [parse_output(e) for e in task.problem.outputs.values()]
        )


@pytest.mark.parametrize("family", ALL)
def test_hamiltonians_are_different_truths(built, family):
    # The controls of each, on the scale of its own window, against the best common shift and scale.
    curves = []
    for task in built[0][family]:
        train, outside = task.problem.train, task.controls
        points = np.concatenate([train[[0, len(train) // 2, -1]], outside])
        curves.append(task.problem.exact(points).ravel())
    for i, first in enumerate(curves):
        for second in curves[i + 1 :]:
            scale = np.polyfit(first, second, 1)
            residual = second - np.polyval(scale, first)
            assert np.sqrt(np.mean(residual**2)) > 5e-3 * second.std()


@pytest.mark.parametrize("family", [f for f in ALL if len(problems.get(f).control_names) == 1])
def test_no_other_window_of_the_same_hamiltonian_is_another_truth(built, family):
    # Two Hamiltonians at the same controls: another window alone would pass the test above.
    first, *others = built[0][family]
    points = np.concatenate([first.problem.train, first.controls[:4]])
    mine = first.problem.exact(points).ravel()
    for other in others:
        theirs = other.problem.exact(points).ravel()
        residual = theirs - np.polyval(np.polyfit(mine, theirs, 1), mine)
        assert np.sqrt(np.mean(residual**2)) > 1e-3 * theirs.std()


def test_distance_counts_widths_of_the_training_region():
    task = problems.task("ising/0/0")
    np.testing.assert_allclose(task.distance, (task.controls[:, 0] - 0.8) / 0.8, rtol=1e-12)
    downwards = problems.task("double_well/0/0")
    np.testing.assert_allclose(downwards.distance, (-2 - downwards.controls[:, 0]) / 4, rtol=1e-12)
    two = problems.task("two_couplings/0/0")
    np.testing.assert_allclose(two.distance, (-4 - two.controls[:, 1]) / 4, rtol=1e-12)
    strong = problems.task("deuteron/0/0")
    np.testing.assert_allclose(strong.distance, (strong.controls[:, 0] - 1.3) / 0.3, rtol=1e-12)


@pytest.mark.parametrize("family", ["two_couplings", "deuteron"])
def test_two_controls_fill_their_region_whatever_the_number_of_points(family):
    boxes = []
    for points in (6, 13, 20):
        train = problems.task(f"{family}/4/0/{points}").problem.train
        assert len(np.unique(train.round(9), axis=0)) == points
        assert all(len(np.unique(c.round(9))) == points for c in train.T)
        boxes.append([train.min(axis=0), train.max(axis=0)])
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-12)
    np.testing.assert_allclose(boxes[0], boxes[2], atol=1e-12)


def test_names_round_trip():
    names = problems.tasks(noises=("0", "1e-2"), hamiltonians=(0, 8))
    assert len(names) == len(set(names)) == len(ALL) * 4
    for name in names[:8]:
        assert problems.task(name).name == name
    short, full = problems.task("ising/3/1e-4"), problems.task("ising/3/1e-4/10")
    assert short.name == full.name == "ising/3/1e-4/10"
    np.testing.assert_array_equal(short.data.values, full.data.values)
    assert (full.family, full.hamiltonian, full.noise) == ("ising", 3, 1e-4)


def test_data_are_reproducible_and_their_noise_has_the_size_it_says():
    first, again = problems.task("almg/5/1e-2/20"), problems.task("almg/5/1e-2/20")
    np.testing.assert_array_equal(first.data.values, again.data.values)
    exact = problems.task("almg/5/0")
    np.testing.assert_array_equal(exact.data.values, exact.problem.exact(exact.problem.train))
    pulls = []
    for h in HAMILTONIANS:
        task = problems.task(f"random_strong/{h}/1e-2/20")
        pulls.append((task.data.values - task.problem.exact(task.problem.train)) / (1e-2 * task.spread))
    pulls = np.stack(pulls)
    assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * pulls.size)
    # Each Hamiltonian and each noise has its own noise.
    assert np.abs(np.corrcoef(pulls.reshape(9, -1))[np.triu_indices(9, 1)]).max() < 0.6
    quiet = problems.task("random_strong/0/1e-4/20")
    quiet = (quiet.data.values - quiet.problem.exact(quiet.problem.train)) / (1e-4 * quiet.spread)
    assert abs(np.corrcoef(quiet.ravel(), pulls[0].ravel())[0, 1]) < 0.6


def test_noise_and_points_leave_the_truth_alone():
    loud, quiet, more = (problems.task(f"pairing/2/{rest}") for rest in ("1e-2/8", "0/8", "1e-4/20"))
    for other in (quiet, more):
        np.testing.assert_array_equal(loud.controls, other.controls)
        np.testing.assert_array_equal(loud.truth, other.truth)
    assert more.data.n_rows == 20
    np.testing.assert_allclose(more.problem.train[[0, -1]], loud.problem.train[[0, -1]])


@pytest.mark.parametrize("points", [6, 20])
@pytest.mark.parametrize("family", ALL)
def test_every_number_of_points_gives_data(family, points):
    points = max(points, FAMILIES[family].fewest)
    task = problems.task(f"{family}/1/1e-2/{points}")
    assert task.data.n_rows == points
    assert task.data.mask.any(axis=0).all()
    assert task.data.extrapolated(task.controls).all()


def test_anticrossing_is_exact_in_its_basis(built):
    for task in built[0]["anticrossing"]:
        wave = np.cos(2 * np.pi * task.controls[:, 0] / 3)
        terms = np.stack([np.ones_like(wave), wave], axis=1)
        # Trace and determinant of a 2×2 matrix M_0 + cos M_1 are polynomials of degree 1 and 2 in the cosine.
        trace, determinant = task.truth.sum(axis=1), task.truth.prod(axis=1)
        assert np.linalg.lstsq(terms, trace, rcond=None)[1][0] < 1e-20
        assert np.abs(np.polyval(np.polyfit(wave, determinant, 2), wave) - determinant).max() < 1e-10
        # The far branch is missing where only the cavity is seen.
        assert not task.data.mask[0, 1]
        assert task.data.mask[-1, 1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ising", "is not FAMILY/HAMILTONIAN/NOISE"),
        ("ising/-1/0", "is not FAMILY"),
        ("ising/1/0/10/3", "is not FAMILY"),
        ("osc/1/0", "no family is called 'osc'; there are spins"),
        ("ising/1/0.01", "the noise is 0.01; give one of 0, 1e-4, 1e-2"),
        ("ising/1/0/5", "has 5 training points; give 6 to 20"),
        ("nv/1/0/7", "has 7 training points; give 8 to 20"),
    ],
)
def test_bad_names_are_refused(name, words):
    with pytest.raises(InputError, match=words):
        problems.task(name)


def test_bad_lists_are_refused():
    with pytest.raises(InputError, match="give one of"):
        problems.tasks(noises=("3",))
    with pytest.raises(InputError, match="is not FAMILY"):
        problems.tasks(hamiltonians=(-1,))


def test_parameters_give_the_same_hamiltonian():
    for family in ("pairing", "hubbard", "spins"):
        task = problems.task(f"{family}/4/0")
        again = problems.get(family, **problems.parameters(family, 4))
        np.testing.assert_allclose(again.exact(task.controls), task.truth, rtol=1e-12)
    assert problems.parameters("spins", 0) == {}
    with pytest.raises(InputError, match="is not FAMILY"):
        problems.parameters("spins", -2)


# --- the command line --------------------------------------------------------------------------------------


def run(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        cli.main(["zoo", *map(str, arguments)])
    captured = capsys.readouterr()
    return done.value.code, captured.out, captured.err


def test_lists_of_the_command_line(capsys):
    code, out, _ = run(capsys)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[1:]] == list(ALL)
    assert all(problems.get(line.split()[0]).basis in line for line in lines[1:])
    code, out, _ = run(capsys, "--family", "rabi")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 2 + 9
    assert f"splitting={problems.parameters('rabi', 8)['splitting']:.4g}" in lines[-1]


def test_table_of_a_task_reads_back_as_the_task(capsys, tmp_path):
    path, task = tmp_path / "lines.csv", problems.task("anticrossing/2/1e-2/12")
    code, out, _ = run(capsys, "anticrossing/2/1e-2/12", "--out", path)
    assert code == 0
    assert "12 training points" in out
    data, rest = read_dataset(path, ["I_mA"], ["lower", "upper"], where="distance==0")
    np.testing.assert_array_equal(data.values, task.data.values)
    np.testing.assert_array_equal(data.controls, task.data.controls)
    np.testing.assert_array_equal(rest, task.controls)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    outside = [row for row in rows if float(row["distance"]) > 0]
    exact = [[float(row["exact_lower"]), float(row["exact_upper"])] for row in outside]
    np.testing.assert_array_equal(exact, task.truth)
    assert all(row["lower"] == row["upper"] == "" for row in outside)
    np.testing.assert_array_equal([float(row["distance"]) for row in outside], task.distance)
    before = path.read_bytes()
    code, _, err = run(capsys, "ising/0/0", "--out", path)
    assert code == 2
    assert "exists already" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.csv"], "--out needs a task"),
        (["ising/0/0", "--family", "ising"], "give one of them"),
        (["ising/0"], "is not FAMILY/HAMILTONIAN/NOISE"),
        (["--family", "isin"], "no family is called 'isin'"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, words):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not out


def test_the_page_names_every_family_and_basis():
    page = (Path(__file__).parent.parent / "docs" / "zoo.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for family in ALL:
        (row,) = [line for line in rows if f"`{family}`" in line.split("|")[1]]
        problem = problems.get(family)
        assert problem.basis in row
        assert all(f"`{name}`" in row for name in problem.control_names)
        assert (problems.task(f"{family}/0/0").exact_dim is not None) == (r"\*" in row.split("|")[1])


@pytest.mark.parametrize("noise", ["0", "1e-2"])
def test_no_task_looks_like_a_slip(noise):
    """What is said of exchanged columns, digits too many, errors and degenerate pairs is said of none of them."""
    for name in problems.tasks((noise,), (0,)):
        task = problems.task(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bp.Posterior(task.data, bp.PMM(tuple(task.problem.outputs.values()), basis=task.basis))
