"""Files that are written whole or not at all, and never over another."""

import errno
import os

import pytest

from bayes_pmm import files
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.files import write_new


def test_a_file_that_another_process_makes_in_between_stays(tmp_path, monkeypatch):
    link = os.link

    def late(source, target):
        target.write_text("theirs")
        link(source, target)

    monkeypatch.setattr(files.os, "link", late)
    with pytest.raises(InputError, match="exists already"):
        write_new(tmp_path / "a.txt", "ours")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "theirs"


def test_file_systems_without_links(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refused)
    write_new(tmp_path / "a.txt", b"ours")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(InputError, match="exists already"):
        write_new(tmp_path / "a.txt", "again")
    assert (tmp_path / "a.txt").read_text() == "ours"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "link", full)
    with pytest.raises(BayesPMMError, match="disk is full"):
        write_new(tmp_path / "a.txt", "ours")
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere_is_a_file(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        write_new(tmp_path / "a.txt", "ours")
