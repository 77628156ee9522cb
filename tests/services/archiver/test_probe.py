"""A store that lets two writers create one object is refused."""

import pytest

from feedbackloop.errors import SettingsError
from feedbackloop.log.memory import MemoryStore
from services.archiver.probe import probe


class Overwriting(MemoryStore):
    """Ignores the condition, as `rclone serve s3` does."""

    name = "s3://careless/bucket"

    def create(self, key: str, data: bytes) -> bool:
        self.objects[key] = data
        return True


class Forgetting(MemoryStore):
    """Says that it did, and did not."""

    def create(self, key: str, data: bytes) -> bool:
        return super().create(key, data) and bool(self.objects.pop(key, None))


def test_a_store_that_refuses_the_second_writer_is_fit() -> None:
    """And it is left as it was found."""
    store = MemoryStore()

    probe(store, "token")

    assert store.objects == {}


def test_a_store_that_overwrites_is_refused_by_name() -> None:
    """Of two archivers both would believe that they wrote a file."""
    with pytest.raises(SettingsError, match="s3://careless/bucket"):
        probe(Overwriting(), "token")


def test_a_store_that_forgets_is_refused() -> None:
    """Nothing could be derived from its files."""
    with pytest.raises(SettingsError):
        probe(Forgetting(), "token")
