"""API keys: made once, shown once, kept as hashes in ``HOME/keys/api-keys.json``.

A key is ``fl_{id}_{secret}``. Its secret has 256 random bits, so that one SHA-256 is hash enough;
the id names it in lists and finds it without a search.
"""

import fcntl
import hmac
import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import msgspec

from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import TenantId

Scope = Literal["completions", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_DEFAULT_TENANT = TenantId("default")


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key: all but the key.

    Attributes:
        id: Its public part.
        digest: SHA-256 of the whole key, as hex.
        created_at: In UTC.
    """

    id: str
    digest: str
    tenant: TenantId
    scopes: tuple[Scope, ...]
    created_at: datetime


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as far as the API key says.

    Attributes:
        key: Id of the API key; empty where none is needed.
    """

    tenant: TenantId
    scopes: tuple[Scope, ...]
    key: str = ""


ANYONE = Caller(tenant=_DEFAULT_TENANT, scopes=SCOPES)
"""The caller where ``keys.required`` is false."""

_decoder = msgspec.json.Decoder(list[ApiKey])


class ApiKeys:
    """The keys in one file; reads it again when it has changed."""

    def __init__(self, path: Path, *, required: bool) -> None:
        self._path = path
        self._required = required
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def caller(self, authorization: str, scope: Scope) -> Caller:
        """Say who holds the bearer key of an ``Authorization`` header.

        Raises:
            RequestError: 401 if the key is missing or unknown, 403 if it lacks ``scope``.
        """
        if not self._required:
            return ANYONE
        key = self._find(authorization)
        if key is None:
            raise RequestError("incorrect or missing API key", status=401, code="invalid_api_key")
        if scope not in key.scopes:
            raise RequestError(
                f"this API key lacks the scope {scope}", status=403, code="missing_scope"
            )
        return Caller(tenant=key.tenant, scopes=key.scopes, key=key.id)

    def _find(self, authorization: str) -> ApiKey | None:
        kind, _, text = authorization.partition(" ")
        if kind.lower() != "bearer":
            return None
        text = text.strip()
        self._refresh()
        key = self._keys.get(_id(text))
        # An unknown id costs the same comparison as a wrong secret.
        expected = key.digest if key is not None else "0" * 64
        same = hmac.compare_digest(sha256(text.encode()).hexdigest(), expected)
        return key if same else None

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._keys = {key.id: key for key in listed(self._path)}
            self._stamp = stamp


def create(
    path: Path, *, tenant: TenantId, scopes: Sequence[Scope], created_at: datetime
) -> tuple[str, ApiKey]:
    """Make a key and keep its hash; the key itself is returned here and never again."""
    public = secrets.token_hex(4)
    text = f"fl_{public}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=public,
        digest=sha256(text.encode()).hexdigest(),
        tenant=tenant,
        scopes=tuple(scopes),
        created_at=created_at,
    )
    with _alone(path):
        _write(path, [*listed(path), key])
    return text, key


def listed(path: Path) -> Sequence[ApiKey]:
    """Return what is kept, oldest first; empty if there is no file yet.

    Raises:
        SettingsError: If the file is damaged.
    """
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: not a list of API keys: {error}") from error


def revoke(path: Path, key_id: str) -> bool:
    """Forget a key; False if there was none with this id."""
    with _alone(path):
        keys = listed(path)
        rest = [key for key in keys if key.id != key_id]
        if len(rest) < len(keys):
            _write(path, rest)
    return len(rest) < len(keys)


def _id(text: str) -> str:
    parts = text.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "fl" else ""  # noqa: PLR2004  # fl, id, secret


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Let one process at a time change the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file in one step, so that a reader sees the old list or the new one."""
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(keys), indent=2))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
