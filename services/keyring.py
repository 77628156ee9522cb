"""The secrets of every tenant: made at the first start, kept in one file that only we can read.

Receipts, pseudonyms, conversations and the holdout each have a key of their own. Losing the file
makes old receipts worthless and people strangers: it belongs into the backup, and in a cluster
into a mounted secret that all sidecars share.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from feedbackloop.capture.identity import TenantKeys
from feedbackloop.errors import SettingsError
from feedbackloop.events import TenantId

DEFAULT = TenantId("default")
_KEY_BYTES = 32


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    tenants: dict[TenantId, TenantKeys]


def path(home: Path) -> Path:
    """Return where the keyring lies under the home folder."""
    return home / "keys" / "keyring.json"


def load(home: Path) -> dict[TenantId, TenantKeys]:
    """Read the keyring; make one for the default tenant if there is none.

    Raises:
        SettingsError: If the file cannot be read, or others than its owner can.
    """
    file = path(home)
    if not file.exists():
        _create(file, KeyFile(tenants={DEFAULT: new_keys()}))
    try:
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"{file} can be read by others: run chmod 600 on it")
        return dict(msgspec.json.decode(file.read_bytes(), type=KeyFile).tenants)
    except (OSError, msgspec.DecodeError) as error:
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
    """The keyring as it is in the file, for a process that runs while keys are added.

    Looking up costs what a dictionary costs; ``refresh`` costs one look at the file's date.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._tenants = load(home)
        self._seen = _stamp(home)

    def refresh(self) -> bool:
        """Read the file again if it changed; say whether it did.

        Raises:
            SettingsError: As ``load``; the keys that were known stay in use.
        """
        stamp = _stamp(self._home)
        if stamp == self._seen:
            return False
        self._tenants = load(self._home)
        self._seen = stamp
        return True

    def __getitem__(self, tenant: TenantId) -> TenantKeys:
        return self._tenants[tenant]

    def __iter__(self) -> Iterator[TenantId]:
        return iter(self._tenants)

    def __len__(self) -> int:
        return len(self._tenants)


def add(home: Path, tenant: TenantId) -> TenantKeys:
    """Return a tenant's secrets; make them if it has none yet."""
    load(home)
    with _locked(home):
        tenants = load(home)
        if tenant not in tenants:
            tenants[tenant] = new_keys()
            _replace(path(home), KeyFile(tenants=tenants))
    return tenants[tenant]


def rotate(home: Path, tenant: TenantId) -> str:
    """Sign new receipts with a new key; the old ones go on to verify. Return the new key's id.

    Raises:
        SettingsError: If there is no such tenant.
    """
    load(home)
    with _locked(home):
        tenants = load(home)
        if tenant not in tenants:
            raise SettingsError(f"no tenant {tenant}: the keyring has {', '.join(sorted(tenants))}")
        keys = tenants[tenant]
        current = secrets.token_hex(2)
        while current in keys.receipts:
            current = secrets.token_hex(2)
        receipts = {**keys.receipts, current: secrets.token_bytes(_KEY_BYTES)}
        tenants[tenant] = msgspec.structs.replace(keys, current=current, receipts=receipts)
        _replace(path(home), KeyFile(tenants=tenants))
    return current


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
