"""A store as a bucket: S3 and what speaks like it, Google's and Azure's, through obstore."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from feedbackloop.errors import SettingsError, StoreUnavailable
from feedbackloop.log.port import Stored

if TYPE_CHECKING:
    from obstore import GetOptions  # exists for type checkers only

_REFUSED = (PermissionDeniedError, UnauthenticatedError)
_REFUSALS = ("401 Unauthorized", "403 Forbidden")  # a list call wraps them
_MISSING = (NotFoundError, FileNotFoundError)
_RETRY_SECONDS = 15
_ANSWER_SECONDS = 120  # for one object of the largest size, over a slow line


class ObjectStore:
    """Objects in a bucket, under a prefix.

    Args:
        url: ``s3://bucket/prefix``, or ``gs://`` or ``az://``; shown to people.
        options: Of obstore for that kind of store: endpoint, region, keys.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.name = url
        try:
            self._store = from_url(  # type: ignore[call-overload]  # options differ by store
                url,
                config=dict(options),
                client_options={
                    "allow_http": options.get("endpoint", "").startswith("http://"),
                    "connect_timeout": "5s",
                    "timeout": f"{_ANSWER_SECONDS}s",
                },
                retry_config={
                    "max_retries": 3,
                    "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                },
            )
        except (BaseError, ValueError) as error:
            raise SettingsError(f"{url}: {_reason(error)}") from error

    def create(self, key: str, data: bytes) -> bool:
        with _answering(self.name):
            try:
                # One request: a multipart upload cannot be told to be the first.
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        if length == 0:
            return b""
        options: GetOptions = {"range": {"offset": start}}
        if length is not None:
            options = {"range": (start, start + length)}
        with _answering(self.name):
            try:
                # An object that is read from its start may be empty: no range fits it.
                whole = start == 0 and length is None
                found = obstore.get(self._store, key, options=None if whole else options)
                return bytes(found.bytes())
            except _MISSING:
                return None

    def list(self, prefix: str) -> Sequence[Stored]:
        with _answering(self.name):
            found = obstore.list(self._store, prefix or None)
            return sorted(Stored(str(one["path"]), one["size"]) for batch in found for one in batch)

    def remove(self, key: str) -> None:
        with _answering(self.name):
            try:
                obstore.delete(self._store, key)
            except _MISSING:
                return


@contextmanager
def _answering(name: str) -> Generator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, _REFUSED) or any(status in str(error) for status in _REFUSALS):
            raise SettingsError(f"{name} refuses our credentials: {_reason(error)}") from error
        if "NoSuchBucket" in str(error):
            raise SettingsError(f"{name}: there is no such bucket") from error
        raise StoreUnavailable(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Say in one line what went wrong; obstore adds a page of debugging below it."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return first.partition(": <?xml")[0][:300] or type(error).__name__
