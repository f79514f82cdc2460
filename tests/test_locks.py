"""A folder is locked while one writes there, and no longer than its process lives."""

import errno
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bayes_pmm import locks
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.locks import LOCK, locked

HOLDER = """
import fcntl, os, sys
file = open(sys.argv[1], "x")
fcntl.flock(file, fcntl.LOCK_EX)
file.write('{"pid": %d, "host": "there"}' % os.getpid())
file.flush()
print("locked", flush=True)
sys.stdin.read()
"""

posix = pytest.mark.skipif(locks.fcntl is None, reason="there are no such locks")


def refused(folder, match="another fit is using it"):
    with pytest.raises(InputError, match=match) as error, locked(folder):
        pass
    assert str(error.value).startswith(f"{folder}: ")
    assert "\n" not in str(error.value)


def test_names_the_process_and_is_gone_afterwards(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            mine = {"pid": os.getpid(), "host": socket.gethostname()}
            assert json.loads((tmp_path / LOCK).read_text()) == mine
        assert not list(tmp_path.iterdir())


def test_is_gone_after_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@posix
def test_another_thread_is_refused(tmp_path):
    with locked(tmp_path), ThreadPoolExecutor(1) as pool:
        pool.submit(refused, tmp_path, r"another fit is using it \(in this process\)").result()
        assert (tmp_path / LOCK).exists(), "the refused one removed the other's"
        refused(tmp_path)


@posix
@pytest.mark.parametrize("reaped", [True, False])
def test_another_process_is_respected_until_it_is_killed(tmp_path, reaped):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        before = (tmp_path / LOCK).read_bytes()
        refused(
            tmp_path,
            rf"another fit is using it \(process {process.pid} on there\); wait for it or end it, or",
        )
        assert (tmp_path / LOCK).read_bytes() == before
        process.kill()
        if reaped:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("content", ["", '{"pid": 1, "host": "elsewhere"}' + 100 * " "])
def test_a_file_that_nobody_holds_counts_for_nothing(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["mine", "{", "[]", '{"pid": 1}', "\udcff"])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    content = content.encode("utf-8", "surrogateescape")
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(InputError, match=r"is no lock of a fit.* move it away") as error, locked(tmp_path):
        pass
    assert "\n" not in str(error.value)
    assert (tmp_path / LOCK).read_bytes() == content


@posix
def test_a_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, calls = locks._lock, []

    def late(file):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        return lock(file)

    monkeypatch.setattr(locks, "_lock", late)
    with locked(tmp_path):
        assert len(calls) == 2
        refused(tmp_path)


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOSYS])
def test_where_there_are_no_locks_the_file_is_one(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    if number is None:
        monkeypatch.setattr(locks, "fcntl", None)
    else:
        monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locked(tmp_path):
        refused(
            tmp_path, rf"in this process\); .* \(if there is none, remove .*{LOCK}\), or use another folder"
        )
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BayesPMMError, match="the disk is full"), locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path / "missing"):
        pass
