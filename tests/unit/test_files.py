import os
import re
import socket

import pytest

from marsrl.files import unique_name, write_beside


def test_temporary_names_differ_between_hosts_and_writers(monkeypatch):
    names = {unique_name() for _ in range(100)}
    assert len(names) == 100
    pattern = rf"{re.escape(socket.gethostname()[:40])}-{os.getpid()}-[0-9a-f]{{8}}"
    assert all(re.fullmatch(pattern, name) for name in names)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert unique_name().startswith(f"elsewhere-{os.getpid()}-")


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
