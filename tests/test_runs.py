"""A run's folder: what a failed run leaves, who is at work in it, and disks that are full."""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from line import Exact, line

from bayes_pmm import runs
from bayes_pmm.bands import Bands
from bayes_pmm.errors import BayesPMMError, InputError, UnfinishedError, disk_is_full
from bayes_pmm.fit import Fit, load
from bayes_pmm.inference.checkpoint import RUN, save_arrays
from bayes_pmm.inference.protocol import silent
from bayes_pmm.locks import LOCK, locked

OPTIONS = {"data": "none"}


@dataclass(frozen=True)
class Failing(Exact):
    """Fails, after a first checkpoint or before."""

    drawn: bool = False
    error: type = BayesPMMError

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        if self.drawn:
            save_arrays(checkpoint / "chain_0.npz", {"x": np.zeros(1)})
        raise self.error("no start fits the data")


def execute(folder, method=None):
    return runs.execute(
        line(), Exact(30) if method is None else method, 0, folder, OPTIONS, np.array([[1.0]])
    )


def fails(folder, error=BayesPMMError, match="no start fits", **settings):
    with pytest.raises(error, match=match):
        execute(folder, Failing(error=error, **settings))


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestAFailedRun:
    def test_leaves_nothing_if_nothing_was_drawn(self, tmp_path):
        fails(tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_leaves_a_folder_that_was_there(self, tmp_path):
        fails(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_leaves_its_checkpoints(self, tmp_path):
        fails(tmp_path / "run", drawn=True)
        assert {p.name for p in (tmp_path / "run").iterdir()} == {"options.json", "checkpoint"}
        assert (tmp_path / "run" / "checkpoint" / "chain_0.npz").exists()

    def test_with_other_versions_is_left_as_it_is(self, tmp_path):
        fails(tmp_path, drawn=True)
        notes = tmp_path / "checkpoint" / RUN
        notes.write_text(notes.read_text().replace(jax.__version__, "0.0.1"))
        before = content(tmp_path)
        with pytest.raises(InputError, match=r"was drawn with jax 0\.0\.1"):
            execute(tmp_path, Failing(drawn=True))
        assert content(tmp_path) == before

    def test_leaves_the_users_files(self, tmp_path):
        folder = tmp_path / "run"
        fails(folder, KeyboardInterrupt)
        (folder / "notes.txt").write_text("mine")
        (folder / "checkpoint" / "more.txt").write_text("mine too")
        before = content(folder)
        assert {"options.json", "notes.txt"} <= before.keys()
        fails(folder)
        assert content(folder).keys() == before.keys()

    def test_leaves_files_that_came_meanwhile(self, tmp_path):
        class Meddling(Failing):
            def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
                (checkpoint.parent / "notes.txt").write_text("mine")
                raise BayesPMMError("no start fits the data")

        with pytest.raises(BayesPMMError, match="no start fits"):
            execute(tmp_path / "run", Meddling())
        assert content(tmp_path / "run") == {"notes.txt": b"mine"}


class TestTheLock:
    def test_is_there_while_it_runs_and_gone_afterwards(self, tmp_path):
        seen = []

        class Looking(Failing):
            def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
                seen.extend(
                    json.loads((f / LOCK).read_text())["pid"] for f in (checkpoint.parent, checkpoint)
                )
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "run", Looking())
        assert seen == [os.getpid()] * 2
        assert not list((tmp_path / "run").rglob(LOCK))

    @pytest.mark.parametrize("where", ["", "checkpoint"])
    def test_of_another_is_respected(self, tmp_path, where):
        fails(tmp_path, drawn=True)
        with locked(tmp_path / where):
            before = content(tmp_path)
            with pytest.raises(InputError, match="another fit is using it"):
                execute(tmp_path)
            assert content(tmp_path) == before
        fails(tmp_path, drawn=True)

    def test_left_alone_in_a_folder_does_not_hinder_a_resumed_run(self, tmp_path):
        (tmp_path / LOCK).write_text("")
        assert runs.check_folder(tmp_path, OPTIONS, resume=True) is False


def full(*arguments, **options):  # noqa: ARG001
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at_close(tree, path, **options):  # noqa: ARG001
    Path(path).write_bytes(b"half")
    try:
        full()
    except OSError:
        raise RuntimeError(
            "Can't decrement id ref count (file write failed: time = Mon\n, file descriptor = 3, errno = 28, error"
            " message = 'No space left on device')"
        ) from None


@pytest.mark.parametrize(
    ("kind", "name", "writer"),
    [
        (xr.DataTree, "to_netcdf", full_at_close),
        (Bands, "to_csv", full),
        (Path, "write_bytes", full),
    ],
)
def test_full_disk_at_the_end_is_said_and_a_resumed_run_finishes(kind, name, writer, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        if kind is Path:  # pictures and pages, not the options
            patch.setattr(runs, "png_bytes", lambda figure: patch.setattr(kind, name, writer) or b"")  # noqa: ARG005
        else:
            patch.setattr(kind, name, writer)
        with pytest.raises(UnfinishedError, match=r"because the disk is full; .* the checkpoints are kept"):
            execute(folder)
    assert (folder / "checkpoint" / "run.json").exists()
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "summary.json").exists()
    assert runs.check_folder(folder, OPTIONS, resume=True) is False
    execute(folder)
    assert {p.name for p in folder.iterdir()} == {
        "options.json", "posterior.nc", "bands.csv", "bands.png", "report.html", "summary.json",
    }  # fmt: skip
    assert load(folder).controls.tolist() == [[1.0]]


def raises(error):
    def broken(*arguments, **options):  # noqa: ARG001
        raise error

    return broken


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug")])
def test_draws_are_stored_before_anything_is_made_of_them(error, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "predict", raises(error))
        kind, text = (
            (UnfinishedError, "out of memory.*predict .*fewer controls")
            if isinstance(error, MemoryError)
            else (RuntimeError, "a bug")
        )
        with pytest.raises(kind, match=text):
            execute(folder)
    assert load(folder).predict([[1.0]]).mean["latent"].shape == (1, 1)
    assert not (folder / "summary.json").exists()
    execute(folder)
    assert (folder / "summary.json").exists()


def test_a_full_disk_is_known_by_number_and_by_text():
    assert disk_is_full(OSError(errno.ENOSPC, "x"))
    assert disk_is_full(RuntimeError("(file write failed, errno = 28, error message = 'y')"))
    assert not disk_is_full(OSError(errno.EACCES, "x"))
    assert not disk_is_full(RuntimeError("errno = 281,"))
    assert not disk_is_full(None)
    behind = InputError("cannot be written")
    behind.__context__ = OSError(errno.EDQUOT, "x")  # as `from None` leaves it
    assert disk_is_full(behind)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("summary.json", runs.finished_summary),
        ("options.json", runs.read_about),
        ("options.json", runs.read_rest),
    ],
)
def test_damaged_notes_of_a_run_are_said_in_one_line(tmp_path, name, read, content):
    assert not read(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=f"{name}: is damaged") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
