import pytest

from marsrl.bench.locks import FileLock
from marsrl.bench.plan import plan
from marsrl.bench.sources import check_sources, note_source, recorded, set_aside, source_digest
from marsrl.bench.suite import Suite
from marsrl.errors import UserError

MINE = """
from helper import slope  # what it is made of


def f(eps=0.2):
    return slope(eps)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def slope(eps):\n    return eps\n")
    return tmp_path


@pytest.fixture
def job(folder):
    suite = Suite("s", ("paxmen/4ag",), ("mine:f",), (0,))
    (job,) = plan(suite, folder / "store")
    job.folder.parent.mkdir(parents=True)
    return job


def test_a_source_is_known_without_being_imported(folder):
    (folder / "mine.py").write_text(MINE + "raise SystemExit\n")
    digest = source_digest("mine:f", folder)
    assert len(digest) == 12
    assert digest == source_digest("mine.py:f", folder)
    assert source_digest("mars", folder) is None
    assert source_digest("gone:f", folder) is None
    assert source_digest("gone.py:f", folder) is None


def test_only_code_counts(folder):
    before = source_digest("mine:f", folder)
    (folder / "mine.py").write_text(MINE.replace("# what", "# other words:") + "\n\n# end\n")
    assert source_digest("mine:f", folder) == before
    (folder / "other.py").write_text("x = 1\n")
    assert source_digest("mine:f", folder) == before
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    assert source_digest("mine:f", folder) != before
    (folder / "mine.py").write_text(MINE)
    (folder / "helper.py").write_text("def slope(eps):\n    return 2 * eps\n")
    assert source_digest("mine:f", folder) != before


@pytest.mark.parametrize("text", ["def f(:", "\x00", "(" * 3000, "'"])
def test_what_is_no_python_has_a_digest_too(text, folder):
    (folder / "mine.py").write_text(text)
    assert source_digest("mine:f", folder) is not None


def test_a_changed_objective_is_not_gone_on_with(folder, job):
    note_source(job, folder)
    job.folder.mkdir()
    check_sources([job], folder)
    assert not set_aside(job, folder, "mine:f")  # it has not changed
    (folder / "mine.py").write_text(MINE.replace("0.2", "0.3"))
    with pytest.raises(UserError, match=r"mine:f has changed since .*; train it .*--retrain"):
        check_sources([job], folder)
    note_source(job, folder)  # not of what has begun
    lock = FileLock(job.lock)
    lock.take()
    with pytest.raises(UserError, match="is being written by process"):
        set_aside(job, folder, "mine:f")
    lock.release()
    assert set_aside(job, folder, "mine:f")
    assert not job.folder.exists()
    assert [path.name for path in job.folder.parent.iterdir()] == ["seeds-0.retired-1"]
    check_sources([job], folder)
    note_source(job, folder)
    assert recorded(job) == source_digest("mine:f", folder)
    job.folder.mkdir()
    assert not set_aside(job, folder, "mine:f")  # the same command again


def test_a_note_that_was_damaged_tells_nothing(folder, job):
    job.folder.mkdir()
    for content in (b"", b"\xff", b"\x1b[2J"):
        job.source.write_bytes(content)
        assert recorded(job) is None
        check_sources([job], folder)
