"""What any store of files promises."""

import secrets
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import pytest

from feedbackloop.errors import SettingsError, StoreUnavailable
from feedbackloop.log.filesystem import FolderStore
from feedbackloop.log.memory import MemoryStore
from feedbackloop.log.obstore import ObjectStore
from feedbackloop.log.port import Store, Stored
from tests.conftest import S3Server


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3_server")
    return ObjectStore(server.url(secrets.token_hex(8)), server.options())


def test_what_was_created_is_read_whole(store: Store) -> None:
    """An archive is read for years after it was written."""
    assert store.create("a/b=1/c.parquet", b"content")

    assert store.read("a/b=1/c.parquet") == b"content"


def test_the_second_to_create_a_key_is_refused(store: Store) -> None:
    """Two archivers that begin at one place must not both believe that they wrote it."""
    store.create("a/1", b"first")

    created = store.create("a/1", b"second")

    assert (created, store.read("a/1")) == (False, b"first")


def test_of_many_at_once_one_creates_a_key(store: Store) -> None:
    """The whole promise of counting once rests on this."""
    for number in range(10):
        with ThreadPoolExecutor(8) as pool:
            tries = [b"from %d" % n for n in range(8)]
            created = list(pool.map(lambda data, n=number: store.create(f"race/{n}", data), tries))

        assert created.count(True) == 1
        assert store.read(f"race/{number}") == tries[created.index(True)]


def test_part_of_an_object_can_be_read(store: Store) -> None:
    """What a file says of itself stands at its end."""
    store.create("a", b"0123456789")

    assert store.read("a", start=7) == b"789"
    assert store.read("a", start=2, length=3) == b"234"
    assert store.read("a", start=8, length=100) == b"89"


def test_what_is_not_there_reads_as_none(store: Store) -> None:
    """Compaction takes files away while others read: they look again."""
    assert store.read("nothing/here") is None
    assert store.read("nothing/here", start=3, length=2) is None


def test_objects_are_listed_by_key_with_their_sizes(store: Store) -> None:
    """The next offset is derived from this."""
    for key in ("a/2", "a/1", "ab/1", "b/x/y"):
        store.create(key, key.encode())

    assert store.list("a") == [Stored("a/1", 3), Stored("a/2", 3)]
    assert [one.key for one in store.list("")] == ["a/1", "a/2", "ab/1", "b/x/y"]
    assert store.list("c") == []


def test_more_objects_are_listed_than_one_answer_holds(store: Store) -> None:
    """S3 gives a thousand at a time."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.create(f"many/{n:04d}", b"x"), range(1_100)))

    assert [one.key for one in store.list("many")] == [f"many/{n:04d}" for n in range(1_100)]


def test_a_removed_object_is_gone_and_may_be_removed_again(store: Store) -> None:
    """Two compactions may clean up after each other."""
    store.create("a", b"x")

    store.remove("a")
    store.remove("a")

    assert (store.read("a"), store.list("")) == (None, [])


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """An operator reads which path, and why."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreUnavailable, match="file"):
        FolderStore(tmp_path / "file").create("a/b", b"x")


def test_a_server_that_is_away_is_unavailable(s3_server: S3Server) -> None:
    """It may come back: whoever asked tries again."""
    away = ObjectStore(s3_server.url("x"), s3_server.options() | {"endpoint": "http://127.0.0.1:1"})

    with pytest.raises(StoreUnavailable, match="s3://"):
        away.list("")


def test_wrong_credentials_are_a_matter_of_settings(s3_server: S3Server) -> None:
    """No repetition would help."""
    wrong = s3_server.options() | {"secret_access_key": "wrong"}

    with pytest.raises(SettingsError, match="credentials"):
        ObjectStore(s3_server.url("x"), wrong).list("")


def test_a_bucket_that_does_not_exist_is_named(s3_server: S3Server) -> None:
    """We create objects, never buckets: those carry the operator's rules."""
    with pytest.raises(SettingsError, match="no such bucket"):
        ObjectStore("s3://no-such-bucket/x", s3_server.options()).list("")


def test_an_unknown_kind_of_store_is_refused() -> None:
    """A misspelt address is found at the start."""
    with pytest.raises(SettingsError, match="ftp://"):
        ObjectStore("ftp://example.org/x", {})


CRASHING = """
import os, signal, sys
from pathlib import Path
from feedbackloop.log.filesystem import FolderStore

steps = int(sys.argv[2])

def hook(event, args):
    global steps
    ours = bool(args) and str(args[0]).startswith(sys.argv[1])
    if ours and event in {"open", "os.link", "os.remove", "os.mkdir"}:
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1

sys.addaudithook(hook)
FolderStore(Path(sys.argv[1])).create("a/b/object", b"content of the dead")
"""


def test_whoever_is_killed_while_creating_leaves_all_or_nothing(tmp_path: Path) -> None:
    """SIGKILL before each call to the disk in turn; the next process then does the same."""
    killed = 0
    for step in range(100):
        root = tmp_path / str(step)
        root.mkdir()
        command = [sys.executable, "-c", CRASHING, str(root), str(step)]
        child = run(command, check=False)  # noqa: S603  # our own interpreter
        store = FolderStore(root)
        left = store.read("a/b/object")

        created = store.create("a/b/object", b"content of the next")

        assert left in {None, b"content of the dead"}
        assert created == (left is None)
        assert [path.name for path in (root / "a/b").iterdir()] == ["object"]
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        killed += 1
    assert killed >= 6
