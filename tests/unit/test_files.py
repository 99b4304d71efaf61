import os

import pytest

from marsrl.files import TEMPORARY, is_temporary, temporary, write_beside


def test_temporary_names_differ_whoever_the_writers_are(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    names = {temporary(tmp_path / "runs.json").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.endswith(TEMPORARY) for name in names)


def test_temporary_names_fit_and_are_told_apart(tmp_path):
    long = tmp_path / ("運" * 80)
    temporary(long).mkdir()
    assert not is_temporary(temporary(long), tmp_path / ("運" * 81))
    for name, other in (("eps-0", "eps-0.5"), ("運", "運 1")):
        assert is_temporary(temporary(tmp_path / name), tmp_path / name)
        assert not is_temporary(temporary(tmp_path / other), tmp_path / name)


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
