"""The secrets of every tenant: made at the first start, kept in one file that only we can read.

Receipts, pseudonyms, conversations and the holdout each have a key of their own. Losing the file
makes old receipts worthless and people strangers: it belongs into the backup, and in a cluster
into a mounted secret that all sidecars share.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.identity import TenantKeys, in_force
from feedbackloop.errors import SettingsError
from feedbackloop.events import TenantId

DEFAULT = TenantId("default")
_KEY_BYTES = 32

Now = Callable[[], datetime]


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    tenants: dict[TenantId, TenantKeys]


def path(home: Path) -> Path:
    """Return where the keyring lies under the home folder."""
    return home / "keys" / "keyring.json"


def _now() -> datetime:
    return datetime.now(UTC)


def load(home: Path, *, now: Now = _now) -> dict[TenantId, TenantKeys]:
    """Read the keyring as it counts now; make one for the default tenant if there is none.

    Raises:
        SettingsError: If the file cannot be read, or others than its owner can.
    """
    return _counting(_read(home), now())


def _counting(tenants: Mapping[TenantId, TenantKeys], now: datetime) -> dict[TenantId, TenantKeys]:
    return {tenant: in_force(keys, now=now) for tenant, keys in tenants.items()}


def _read(home: Path) -> dict[TenantId, TenantKeys]:
    file = path(home)
    try:
        if not file.exists():
            _create(file, KeyFile(tenants={DEFAULT: new_keys()}))
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"{file} can be read by others: run chmod 600 on it")
        return dict(msgspec.json.decode(file.read_bytes(), type=KeyFile).tenants)
    except (OSError, *UNREADABLE) as error:
        raise SettingsError(f"the keyring {file} cannot be read: {error}") from error


def new_keys() -> TenantKeys:
    """Make the secrets of a tenant."""
    current = secrets.token_hex(2)
    return TenantKeys(
        current=current,
        receipts={current: secrets.token_bytes(_KEY_BYTES)},
        pseudonym=secrets.token_bytes(_KEY_BYTES),
        chain=secrets.token_bytes(_KEY_BYTES),
        holdout=secrets.token_bytes(_KEY_BYTES),
    )


class LiveKeyring(Mapping[TenantId, TenantKeys]):
    """The keyring as it is in the file, for a process that runs while keys come and go.

    Looking up costs what a dictionary costs; ``refresh`` costs one look at the file's date.
    """

    def __init__(self, home: Path, *, now: Now = _now) -> None:
        self._home = home
        self._now = now
        self._stored = _read(home)
        self._tenants = _counting(self._stored, now())
        self._seen = _stamp(home)

    def refresh(self) -> bool:
        """Read the file again if it changed, and let time do its part; say whether it changed.

        Raises:
            SettingsError: As ``load``; the keys that were known stay in use.
        """
        stamp = _stamp(self._home)
        changed = stamp != self._seen
        if changed:
            self._stored = _read(self._home)
            self._seen = stamp
        self._tenants = _counting(self._stored, self._now())
        return changed

    def __getitem__(self, tenant: TenantId) -> TenantKeys:
        return self._tenants[tenant]

    def __iter__(self) -> Iterator[TenantId]:
        return iter(self._tenants)

    def __len__(self) -> int:
        return len(self._tenants)


def holdouts(tenants: Mapping[TenantId, TenantKeys]) -> dict[TenantId, bytes]:
    """Return the secret of each tenant that holds its people out."""
    return {tenant: keys.holdout for tenant, keys in tenants.items()}


def add(home: Path, tenant: TenantId) -> TenantKeys:
    """Return a tenant's secrets; make them if it has none yet."""
    _read(home)
    with _locked(home):
        tenants = _read(home)
        if tenant not in tenants:
            tenants[tenant] = new_keys()
            _replace(path(home), KeyFile(tenants=tenants))
    return tenants[tenant]


def rotate(
    home: Path, tenant: TenantId, *, lead: timedelta, grace: timedelta, now: datetime
) -> str:
    """Let a new key sign receipts; return its id.

    Args:
        home: Home folder.
        tenant: Whose receipts.
        lead: How long every process gets to learn the new key before it signs.
        grace: How long the old key verifies after that.
        now: In UTC.

    Raises:
        SettingsError: If there is no such tenant.
    """
    _read(home)
    with _locked(home):
        tenants = _read(home)
        keys = in_force(_of(tenants, tenant), now=now)
        new = secrets.token_hex(2)
        while new in keys.receipts or new in keys.retired:
            new = secrets.token_hex(2)
        signs_at = now + lead
        # A successor that waits is known as long already: it verifies too, and ends with the rest.
        ending = {name: signs_at + grace for name in keys.receipts if name not in keys.ends}
        tenants[tenant] = msgspec.structs.replace(
            keys,
            receipts={**keys.receipts, new: secrets.token_bytes(_KEY_BYTES)},
            successor=new,
            succeeds_at=signs_at,
            ends={**keys.ends, **ending},
        )
        _replace(path(home), KeyFile(tenants=tenants))
    return new


def revoke(home: Path, tenant: TenantId, key: str, *, now: datetime) -> bool:
    """Forget a receipt key: what it signed is unknown from then on. False if there is none.

    Raises:
        SettingsError: If there is no such tenant, or the key still signs.
    """
    _read(home)
    with _locked(home):
        tenants = _read(home)
        keys = in_force(_of(tenants, tenant), now=now)
        if key in (keys.current, keys.successor):
            raise SettingsError(
                f"{key} signs the receipts of {tenant}: rotate first, with --lead 0 if it leaked"
            )
        if key not in keys.receipts and key not in keys.retired:
            return False
        tenants[tenant] = msgspec.structs.replace(
            keys,
            receipts={name: secret for name, secret in keys.receipts.items() if name != key},
            ends={name: end for name, end in keys.ends.items() if name != key},
            retired=tuple(name for name in keys.retired if name != key),
        )
        _replace(path(home), KeyFile(tenants=tenants))
    return True


def _of(tenants: Mapping[TenantId, TenantKeys], tenant: TenantId) -> TenantKeys:
    if tenant not in tenants:
        raise SettingsError(f"no tenant {tenant}: the keyring has {', '.join(sorted(tenants))}")
    return tenants[tenant]


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold off everybody else who would change the keyring."""
    handle = os.open(path(home).with_name("lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stamp(home: Path) -> tuple[int, int]:
    found = path(home).stat()
    return found.st_mtime_ns, found.st_ino


def _create(file: Path, content: KeyFile) -> None:
    """Write the file unless somebody else did meanwhile: two processes may start at once."""
    unfinished = _write(file, content)
    with contextlib.suppress(FileExistsError):
        os.link(unfinished, file)
    unfinished.unlink()
    _sync_folder(file.parent)


def _replace(file: Path, content: KeyFile) -> None:
    _write(file, content).replace(file)
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(file: Path, content: KeyFile) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(content)))
        out.flush()
        os.fsync(out.fileno())
    return unfinished
