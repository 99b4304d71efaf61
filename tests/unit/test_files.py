import os

import pytest

from marsrl.files import TEMPORARY, temporary, write_beside


def test_temporary_names_differ_whoever_the_writers_are(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    names = {temporary(tmp_path / "runs.json").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.endswith(TEMPORARY) for name in names)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_beside(path, b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_beside(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
