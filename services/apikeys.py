"""API keys: made once, shown once, kept as hashes in ``HOME/keys/api-keys.json``.

A key is ``fl_{id}_{secret}``. Its secret has 256 random bits, so that one SHA-256 is hash enough;
the id names it in lists and finds it without a search.
"""

import fcntl
import hmac
import os
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import msgspec
import structlog

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import TenantId

log = structlog.get_logger()

Scope = Literal["completions", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_DEFAULT_TENANT = TenantId("default")
_LOOK_SECONDS = 0.2  # a look at the file costs as much as all else that is asked of a request
_SPELLINGS = 4_096  # of headers that are known to be good; a client can write spaces into its own


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a key: all but the key.

    Attributes:
        id: Its public part.
        digest: SHA-256 of the whole key, as hex.
        created_at: In UTC.
        expires_at: From when on it is refused, in UTC; None for never.
        name: What it is for, in the operator's words.
        per_minute: Requests a minute, where the settings' limit for a key is not the right one.
    """

    id: str
    digest: str
    tenant: TenantId
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    name: str = ""
    per_minute: int | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as far as the API key says.

    Attributes:
        key: Id of the API key; empty where none is needed.
        until: Seconds since 1970 from which on this is no longer so.
        per_minute: The key's own limit, if it has one.
    """

    tenant: TenantId
    scopes: tuple[Scope, ...]
    key: str = ""
    until: float = float("inf")
    per_minute: int | None = None


ANYONE = Caller(tenant=_DEFAULT_TENANT, scopes=SCOPES)
"""The caller where ``keys.required`` is false."""

_decoder = msgspec.json.Decoder(list[ApiKey])


class ApiKeys:
    """The keys in one file; reads it again when it has changed.

    A new key works at once, a revoked one at most ``_LOOK_SECONDS`` longer. While the file cannot
    be read, the keys in hand stay good, and the log says so once.

    Args:
        path: The file.
        required: Whether a caller needs a key at all.
        clock: Seconds since 1970.

    Raises:
        SettingsError: If keys are required, and the file is there and cannot be read.
    """

    def __init__(
        self, path: Path, *, required: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._file = str(path)
        self._required = required
        self._clock = clock
        self._looked_at = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}
        self._known: dict[str, Caller] = {}
        self._trouble = ""
        if required:
            listed(path)

    def caller(self, authorization: str, scope: Scope) -> Caller:
        """Say who holds the bearer key of an ``Authorization`` header.

        Raises:
            RequestError: 401 if the key is missing or unknown, 403 if it lacks ``scope``.
        """
        if not self._required:
            return ANYONE
        now = self._clock()
        if not 0 <= now - self._looked_at < _LOOK_SECONDS:
            self._refresh()
            self._looked_at = now
        caller = self._known.get(authorization) or self._find(authorization)
        if caller is None or caller.until <= now:
            raise unauthorised("the API key has expired" if caller else "")
        if scope not in caller.scopes:
            require(caller, scope)
        return caller

    def _find(self, authorization: str) -> Caller | None:
        text = bearer(authorization)
        if text is None:
            return None
        self._refresh()
        key = self._keys.get(_id(text))
        # An unknown id costs the same comparison as a wrong secret.
        expected = key.digest if key is not None else "0" * 64
        same = hmac.compare_digest(sha256(text.encode()).hexdigest(), expected)
        if key is None or not same:
            return None
        caller = _caller(key)
        if len(self._known) >= _SPELLINGS:
            self._known.clear()
        self._known[authorization] = caller
        return caller

    def _refresh(self) -> None:
        try:
            status = os.stat(self._file)  # noqa: PTH116  # half the cost of Path.stat, every request
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._keys = {key.id: key for key in listed(self._path)}
                self._known, self._stamp = {}, stamp
            self._trouble = ""
        except FileNotFoundError:
            self._keys, self._known, self._stamp = {}, {}, None
        except (SettingsError, OSError) as error:
            # A file that cannot be read takes nobody's key away: that would be everybody's.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("api_keys_not_read", error=self._trouble)  # noqa: TRY400  # its message says it all


def unauthorised(message: str = "") -> RequestError:
    """Say to a caller that nobody knows who they are."""
    return RequestError(
        message or "incorrect or missing API key", status=401, code="invalid_api_key"
    )


def require(caller: Caller, scope: Scope) -> None:
    """Let a caller pass who may do this.

    Raises:
        RequestError: 403 if the caller lacks ``scope``.
    """
    if scope not in caller.scopes:
        raise RequestError(
            f"this API key lacks the scope {scope}", status=403, code="missing_scope"
        )


def bearer(authorization: str) -> str | None:
    """Return what follows ``Bearer`` in an ``Authorization`` header, if that is what it holds."""
    kind, _, text = authorization.partition(" ")
    return text.strip() if kind.lower() == "bearer" else None


def create(  # noqa: PLR0913  # one for each thing that a key is known by
    path: Path,
    *,
    tenant: TenantId,
    scopes: Sequence[Scope],
    created_at: datetime,
    expires_at: datetime | None = None,
    name: str = "",
    per_minute: int | None = None,
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
        expires_at=expires_at,
        name=name,
        per_minute=per_minute,
    )
    with _alone(path):
        _write(path, [*listed(path), key])
    return text, key


def listed(path: Path) -> Sequence[ApiKey]:
    """Return what is kept, oldest first; empty if there is no file yet.

    Raises:
        SettingsError: If the file is damaged, or cannot be read.
    """
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise SettingsError(f"{path}: not a list of API keys: {error}") from error


def replace(
    path: Path, key_id: str, *, grace: timedelta, now: datetime
) -> tuple[str, ApiKey] | None:
    """Make a key that may do what another may, which ends after ``grace``; None if there is none.

    The new one is returned as ``create`` does, and lasts as long as the old one was meant to.
    """
    public = secrets.token_hex(4)
    text = f"fl_{public}_{secrets.token_urlsafe(32)}"
    with _alone(path):
        keys = {key.id: key for key in listed(path)}
        old = keys.get(key_id)
        if old is None:
            return None
        ends = now + grace
        if old.expires_at is None or ends < old.expires_at:
            keys[key_id] = msgspec.structs.replace(old, expires_at=ends)
        digest = sha256(text.encode()).hexdigest()
        new = msgspec.structs.replace(old, id=public, digest=digest, created_at=now)
        _write(path, [*keys.values(), new])
    return text, new


def revoke(path: Path, key_id: str) -> bool:
    """Forget a key; False if there was none with this id."""
    with _alone(path):
        keys = listed(path)
        rest = [key for key in keys if key.id != key_id]
        if len(rest) < len(keys):
            _write(path, rest)
    return len(rest) < len(keys)


def _caller(key: ApiKey) -> Caller:
    until = float("inf") if key.expires_at is None else key.expires_at.timestamp()
    return Caller(
        tenant=key.tenant,
        scopes=key.scopes,
        key=key.id,
        until=until,
        per_minute=key.per_minute,
    )


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
