"""One writer of a run folder: who is refused, who is named, and who is taken for gone."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from marsrl.errors import UserError
from marsrl.runs import lock
from marsrl.runs.lock import GONE_AFTER, NAME, Lock, is_held, writer_of

ME = f"process {os.getpid()} on {socket.gethostname()}"


@pytest.fixture
def held(tmp_path):
    mine = Lock(tmp_path)
    mine.take()
    yield mine
    mine.release()


@pytest.fixture
def without_flock(monkeypatch):
    """A file system where locks do nothing, as some of NFS's."""
    monkeypatch.setattr(lock, "flock", lambda *_, **__: True)


def name_holder(folder, **values):
    """Puts somebody else's name into the lock of a folder."""
    path = folder / NAME
    path.touch()
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": None}
    path.write_text(json.dumps(mine | {"inode": path.stat().st_ino} | values))
    return path


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_writer_is_refused_and_the_first_named(held, tmp_path):
    with pytest.raises(UserError, match=f"is being written by {ME}"):
        Lock(tmp_path).take()
    assert str(writer_of(tmp_path)) == ME


def test_a_full_disk_leaves_nothing_held(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match="No space left on device"):
            Lock(tmp_path).take()
    lock = Lock(tmp_path)
    lock.take()
    lock.release()


def test_a_released_lock_leaves_no_file(held, tmp_path):
    held.release()
    assert list(tmp_path.iterdir()) == []
    Lock(tmp_path).take()


@pytest.mark.usefixtures("without_flock")
def test_what_is_written_in_it_holds_where_locks_do_nothing(held, tmp_path):
    with pytest.raises(UserError, match=f"is being written by {ME}"):
        Lock(tmp_path).take()


def test_a_process_that_has_ended_holds_nothing(tmp_path):
    name_holder(tmp_path, pid=ended_process())
    assert writer_of(tmp_path) is None
    mine = Lock(tmp_path)
    mine.take()
    mine.check()
    mine.release()


def test_another_process_of_the_same_number_holds_nothing(tmp_path):
    name_holder(tmp_path, started="another boot/1")
    Lock(tmp_path).take()


def test_another_host_holds_it_while_it_gives_signs_of_life(tmp_path):
    path = name_holder(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(UserError, match=f"process 1 on elsewhere.*delete {path}"):
        Lock(tmp_path).take()
    assert str(writer_of(tmp_path)) == "process 1 on elsewhere"
    long_ago = path.stat().st_mtime - GONE_AFTER - 1
    os.utime(path, (long_ago, long_ago))
    Lock(tmp_path).take()


def test_a_copy_of_a_run_that_is_being_written_is_free(held, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / NAME, copy / NAME)
    assert writer_of(copy) is None
    Lock(copy).take()


def test_who_has_lost_the_lock_writes_no_more(held, tmp_path):
    held.check()
    name_holder(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(UserError, match="process 1 on elsewhere holds"):
        held.check()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": 1}', '{"host": "x", "pid": "1"}'])
def test_a_damaged_lock_holds_nothing(content, tmp_path):
    (tmp_path / NAME).write_text(content)
    Lock(tmp_path).take()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        Lock(tmp_path / "gone").take()


def test_a_look_changes_nothing(tmp_path):
    path = name_holder(tmp_path, pid=ended_process())
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert not is_held(path)
    assert not is_held(tmp_path / "none")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    with Lock(tmp_path):
        assert is_held(path)
    assert not path.exists()


def test_what_a_child_still_holds_is_held(tmp_path):
    path = name_holder(tmp_path, pid=ended_process())
    with path.open("rb") as file:
        assert lock.flock(file.fileno())
        child = subprocess.Popen(["sleep", "60"], pass_fds=[file.fileno()])
    try:
        assert is_held(path)
        with pytest.raises(UserError, match="is being written"):
            Lock(tmp_path).take()
    finally:
        child.kill()
        child.wait()
    assert not is_held(path)


def test_who_takes_a_lock_waits_for_a_look(tmp_path, monkeypatch):
    path = name_holder(tmp_path, pid=ended_process())
    with path.open("rb") as look:
        assert lock.flock(look.fileno(), shared=True)
        monkeypatch.setattr(lock.time, "sleep", lambda seconds: look.close())
        with Lock(tmp_path):
            assert is_held(path)
