"""Interrupted NUTS runs go on from their checkpoints, bit for bit; broken files are recognised."""

import os
import zipfile

import jax
import numpy as np
import pytest

from bayes_pmm.errors import BayesPMMError
from bayes_pmm.inference import nuts
from bayes_pmm.inference.checkpoint import ChainFile
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.start import Starts
from bayes_pmm.model import PMM
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get

CHUNK = 10
KEY = jax.random.key(5)
CHUNKS = 3 + 4
"""Chunks of a chain: 25 and 35 draws in tens."""


class PriorStarts:
    """Starts without a search, since what is tested is what comes after."""

    def find(self, posterior, key, chains):
        return Starts([posterior.prior_sites(k) for k in jax.random.split(key, chains)], ())


METHOD = NUTS(chains=2, warmup=25, draws=35, max_tree_depth=4, starts=PriorStarts())


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nuts, "CHUNK", CHUNK)
        yield


@pytest.fixture(scope="module")
def posterior():
    problem = get("oscillator")
    return Posterior(problem.dataset(noise=1e-2, seed=0), PMM(list(problem.outputs.values()), dim=2))


@pytest.fixture(scope="module")
def uninterrupted(posterior):
    return METHOD.run(posterior, KEY)


def interrupt(posterior, folder, reports):
    """Run until the given number of reports on sampling."""
    seen = []

    def progress(stage, done, total):  # noqa: ARG001
        if stage == "sampling":
            seen.append(done)
            if len(seen) >= reports:
                raise Interrupted

    with pytest.raises(Interrupted):
        METHOD.run(posterior, KEY, progress=progress, checkpoint=folder)


def drawn_so_far(folder):
    counts = []
    for path in sorted(folder.glob("chain_*.npz")):
        with np.load(path) as file:
            counts.append(int(file["at"]))
    return counts


def assert_same(one, two):
    for a, b in ((one.sites, two.sites), (one.stats, two.stats)):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_twice_interrupted_run_equals_uninterrupted(posterior, uninterrupted, tmp_path):
    interrupt(posterior, tmp_path, 2)
    in_warmup = drawn_so_far(tmp_path)
    assert 0 < min(in_warmup) <= max(in_warmup) <= METHOD.warmup
    interrupt(posterior, tmp_path, 6)
    before = drawn_so_far(tmp_path)
    assert METHOD.warmup < max(before) < 60
    seen = []
    resumed = METHOD.run(posterior, KEY, progress=lambda *report: seen.append(report), checkpoint=tmp_path)
    assert_same(resumed, uninterrupted)
    done = [d for stage, d, _ in seen if stage == "sampling"]
    assert len(done) < 2 * CHUNKS, "the resumed run drew everything again"
    assert done[-1] == 2 * 60


def test_finished_run_is_read_back_from_plain_arrays(posterior, uninterrupted, tmp_path):
    first = METHOD.run(posterior, KEY, checkpoint=tmp_path / "new" / "folder")
    seen = []
    again = METHOD.run(
        posterior, KEY, progress=lambda *report: seen.append(report), checkpoint=tmp_path / "new" / "folder"
    )
    assert_same(first, uninterrupted)
    assert_same(again, uninterrupted)
    assert not [r for r in seen if r[0] == "sampling"]
    # The time spent before counts.
    assert again.info["seconds"] >= 0.5 * first.info["seconds"]
    # The files hold plain arrays only.
    paths = sorted((tmp_path / "new" / "folder").iterdir())
    assert [p.name for p in paths] == ["chain_0.npz", "chain_1.npz"]
    for path in paths:
        assert all(name.endswith(".npy") for name in zipfile.ZipFile(path).namelist())
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype.kind in "biuf" for name in file.files)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - b for b in content[middle : middle + 8])
    path.write_bytes(content)


def without_state(path):
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["state_0"]
    np.savez(path, **arrays)


def pickled(path):
    np.savez(path, at=np.array([{"an": "object"}], dtype=object))


DAMAGES = [truncate, empty, flip, without_state, pickled]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_recognised(tmp_path, damage):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(300.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)
    assert file.load(state) is not None
    damage(file.path)
    assert file.load(state) is None


def test_damaged_file_starts_that_chain_afresh(posterior, uninterrupted, tmp_path):
    interrupt(posterior, tmp_path, 9)
    truncate(tmp_path / "chain_0.npz")
    assert_same(METHOD.run(posterior, KEY, checkpoint=tmp_path), uninterrupted)


def test_kill_while_writing_keeps_the_previous_file(tmp_path, monkeypatch):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(3.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)

    def killed(descriptor):  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        file.save(state, 20, [(np.ones((20, 2)),)], 2.0)
    loaded, at, kept, seconds = file.load(state)
    assert (at, seconds) == (10, 1.0)
    np.testing.assert_array_equal(kept[0], np.zeros((10, 2)))
    np.testing.assert_array_equal(loaded["x"], state["x"])
    assert jax.random.key_data(loaded["key"]).tolist() == jax.random.key_data(state["key"]).tolist()


def test_unwritable_folder_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        BayesPMMError, match=r"chain_0\.npz: checkpoint not written \(.+\); mend that and resume"
    ):
        ChainFile(tmp_path / "taken", 0).save({"x": np.zeros(1)}, 1, [], 0.0)
