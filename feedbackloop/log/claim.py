"""How the folder of a spool becomes ours alone, now or once its disk works."""

from typing import Protocol

from feedbackloop.log.folder import LocalDisk
from feedbackloop.log.share import Share


class Claim(Protocol):
    """The right to write to a folder."""

    def take(self) -> None:
        """Become the one writer.

        Raises:
            OSError: If the disk refuses. It may be called again.
            SettingsError: If another process is it already.
        """
        ...

    def keep(self) -> None:
        """Know that the folder is open, and ours from now on."""
        ...

    def check(self) -> None:
        """Look whether the folder that we took is still in its place.

        Raises:
            OSError: If it was removed, replaced, or a volume was mounted over it or taken away.
        """
        ...

    def give_back(self) -> None:
        """Let another process write. Safe to call twice."""
        ...


class Unclaimed:
    """Of a folder that nobody else knows."""

    def take(self) -> None:
        pass

    def keep(self) -> None:
        pass

    def check(self) -> None:
        pass

    def give_back(self) -> None:
        pass


class FolderClaim:
    """The lock of a folder.

    Args:
        disk: The folder; made if need be.
        share: Lets a child hold the lock with us.
        patience_seconds: How long its owner may take to let go of it, the first time.
    """

    def __init__(self, disk: LocalDisk, share: Share | None, *, patience_seconds: float) -> None:
        self._disk = disk
        self._share = share
        self._patience_seconds = patience_seconds

    def take(self) -> None:
        patience_seconds, self._patience_seconds = self._patience_seconds, 0.0
        self._disk.lock(patience_seconds=patience_seconds)

    def keep(self) -> None:
        if self._share is not None:
            self._share.hold(lock=self._disk.locked(), folder=self._disk.held())

    def check(self) -> None:
        self._disk.check()

    def give_back(self) -> None:
        self._disk.unlock()
