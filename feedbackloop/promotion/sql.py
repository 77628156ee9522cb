"""Release documents in SQLite or PostgreSQL: every one is kept, the newest is in force.

In a database of ours each edge owns its own tables: the runs and the lease stand beside this one
(``training/sql.py``) and share nothing with it but the file.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from feedbackloop.errors import StaleEpoch, StateUnavailable
from feedbackloop.events import Alias
from feedbackloop.promotion.release import ReleaseDocument, decode, encode

_T = TypeVar("_T")
_METADATA = MetaData()
_RELEASES = Table(
    "releases",
    _METADATA,
    Column("alias", String(40), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("lease_epoch", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
)


class SqlReleases:
    """Release documents in one table. Calls block in a thread, never in the event loop."""

    def __init__(self, url: str, *, busy_seconds: float = 10.0) -> None:
        """Reach the database at a SQLAlchemy URL; its table is made on first use.

        Args:
            url: ``sqlite:///path`` or ``postgresql+driver://...``.
            busy_seconds: SQLite: how long to wait for another process' transaction.
        """
        self._sqlite = url.startswith("sqlite")
        # NullPool: a connection belongs to the thread that made it, and to_thread has many.
        options: dict[str, Any] = {"poolclass": NullPool}
        if self._sqlite:
            options["connect_args"] = {"timeout": busy_seconds}
        self._engine = create_engine(url, **options)
        if self._sqlite:
            _lock_early(self._engine)
        self._made = False

    async def get(self, alias: Alias) -> ReleaseDocument:
        found = await self.history(alias, limit=1)
        return found[0] if found else ReleaseDocument(alias=alias)

    async def list(self) -> Sequence[ReleaseDocument]:
        newest = (
            select(_RELEASES.c.alias, func.max(_RELEASES.c.epoch).label("epoch"))
            .group_by(_RELEASES.c.alias)
            .subquery()
        )
        query = (
            select(_RELEASES.c.document)
            .join(
                newest,
                (_RELEASES.c.alias == newest.c.alias) & (_RELEASES.c.epoch == newest.c.epoch),
            )
            .order_by(_RELEASES.c.alias)
        )
        rows = await self._call(lambda connection: connection.scalars(query).all())
        return [decode(row) for row in rows]

    async def history(self, alias: Alias, *, limit: int = 100) -> Sequence[ReleaseDocument]:
        query = (
            select(_RELEASES.c.document)
            .where(_RELEASES.c.alias == alias)
            .order_by(_RELEASES.c.epoch.desc())
            .limit(limit)
        )
        rows = await self._call(lambda connection: connection.scalars(query).all())
        return [decode(row) for row in rows]

    async def put(self, document: ReleaseDocument, *, lease_epoch: int) -> None:
        await self._call(lambda connection: _append(connection, document, lease_epoch))

    async def _call(self, work: Callable[[Connection], _T]) -> _T:
        """Run ``work`` in one transaction, on a thread, and turn SQLAlchemy's errors into ours."""
        return await asyncio.to_thread(self._transact, work)

    def _transact(self, work: Callable[[Connection], _T]) -> _T:
        try:
            if not self._made:
                _METADATA.create_all(self._engine)
                self._made = True
            with self._engine.begin() as connection:
                return work(connection)
        except IntegrityError as error:
            raise StaleEpoch("another document has that epoch already") from error
        except DBAPIError as error:
            raise StateUnavailable(str(error.orig)) from error


def _append(connection: Connection, document: ReleaseDocument, lease_epoch: int) -> None:
    """Insert a document if it follows the newest one under a lease that is not older."""
    newest = connection.execute(
        select(_RELEASES.c.epoch, _RELEASES.c.lease_epoch)
        .where(_RELEASES.c.alias == document.alias)
        .order_by(_RELEASES.c.epoch.desc())
        .limit(1)
    ).first()
    epoch, lease = (newest.epoch, newest.lease_epoch) if newest is not None else (0, 0)
    if document.epoch != epoch + 1:
        raise StaleEpoch(f"{document.alias} is at epoch {epoch}, and {document.epoch} was put")
    if lease_epoch < lease:
        raise StaleEpoch(f"lease {lease_epoch} is over: {lease} wrote {document.alias} last")
    connection.execute(
        _RELEASES.insert().values(
            alias=document.alias,
            epoch=document.epoch,
            lease_epoch=lease_epoch,
            document=encode(document),
        )
    )


def _lock_early(engine: Engine) -> None:
    """Let SQLite take its write lock when a transaction begins.

    A transaction that reads first and wants to write later fails at once, whatever the busy
    timeout, if another one does the same.
    """

    @event.listens_for(engine, "connect")
    def _take_over(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
