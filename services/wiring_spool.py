"""The sidecar's spool, written by it and read by its child."""

import errno
import secrets
import stat
import threading
import time
from functools import partial
from pathlib import Path

import structlog

from feedbackloop.errors import SettingsError
from feedbackloop.log import spools
from feedbackloop.log.port import Outlet, Spool
from feedbackloop.log.share import FarBell, Handles, Share
from feedbackloop.log.spool import SEGMENT_BYTES, SpoolLimits, SpoolQueue
from feedbackloop.log.tmpfs import TmpfsMarks
from services.settings import Settings

log = structlog.get_logger()

# A sidecar that was killed leaves a child, which ends as soon as it notices.
_PATIENCE_SECONDS = 10.0
# Of a path that no disk will ever have.
_NO_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


def require_folder(settings: Settings, name: str) -> None:
    """Tell a wrong setting from a disk that fails: the first ends the start, the second does not.

    Raises:
        SettingsError: If something that is no folder is where the spool of ``name`` or a folder
            above it is to be, or the path can be none.
    """
    folder = settings.home.absolute() / "spool" / name
    for place in (folder, *folder.parents):
        try:
            is_folder = stat.S_ISDIR(place.stat().st_mode)
        except OSError as error:
            if error.errno in _NO_PATH:
                raise SettingsError(f"FEEDBACKLOOP_HOME: {error.strerror}: {folder}") from error
            continue  # not there yet, or the disk's own business
        if not is_folder:
            raise SettingsError(
                f"FEEDBACKLOOP_HOME is {settings.home}, and the spool is to be in {folder}: "
                f"{place} is no folder"
            )


def open_spool(settings: Settings, name: str, *, share: Share | None = None) -> SpoolQueue:
    """Open the spool of the process called ``name``, with what it left there before.

    Args:
        settings: Where it is, and how large it may become.
        name: Of the process.
        share: Lets a child read and release it: see ``open_outlet``.

    Returns:
        A spool, also if its disk fails: it takes records once the disk does.

    Raises:
        SettingsError: If another process has it open.
    """
    folder = settings.home / "spool" / name
    marks = _marks(settings, folder)
    spool = spools.open_spool(
        folder,
        producer=secrets.token_hex(16),
        limits=_spool_limits(settings),
        now_ns=time.time_ns,
        marks=marks,
        share=share,
        patience_seconds=_PATIENCE_SECONDS,
    )
    if spool.unmarked:
        log.warning("spool_not_marked", reason=spool.unmarked)
    # Beside: somebody else's home may lie on a file system that does not answer.
    threading.Thread(target=marks.sweep, name="marks", daemon=True).start()
    return spool


def open_outlet(settings: Settings, name: str, handles: Handles, bell: FarBell) -> Outlet:
    """Open the spool of the process called ``name``, our parent, to read and release it."""
    return spools.open_outlet(settings.home / "spool" / name, handles, bell=bell)


def adopt_spool(settings: Settings, name: str) -> Spool | None:
    """Take over a spool that a dead process has left beside that of ``name``, if there is one."""
    return spools.adopt(
        settings.home / "spool",
        own=name,
        limits=_spool_limits(settings),
        untouched_since=time.time() - settings.sidecar.adopt_after_seconds,
        now_ns=time.time_ns,
        marks=partial(_marks, settings),
    )


def _marks(settings: Settings, spool: Path) -> TmpfsMarks:
    return TmpfsMarks(settings.sidecar.marks, spool=spool, home=settings.home)


def _spool_limits(settings: Settings) -> SpoolLimits:
    return SpoolLimits(
        memory_bytes=settings.sidecar.spool_memory_bytes,
        disk_bytes=settings.sidecar.spool_disk_bytes,
        # Two are reserved, and the disk is given back one at a time.
        segment_bytes=min(SEGMENT_BYTES, max(2**16, settings.sidecar.spool_disk_bytes // 16)),
    )


def spool_behind_bytes(settings: Settings, name: str) -> int:
    """Say how much of a process' spool is not yet in the log, whether or not it runs."""
    return spools.spool_behind_bytes(settings.home / "spool" / name)
