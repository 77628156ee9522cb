"""Runs and the leader's lease in SQLite or PostgreSQL, every change a compare-and-set."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from feedbackloop.errors import StaleEpoch, StateUnavailable
from feedbackloop.events import Alias, RunId
from feedbackloop.training.port import Lease
from feedbackloop.training.run import FINAL, Run, may_move

_T = TypeVar("_T")
METADATA = MetaData()

RUNS = Table(
    "runs",
    METADATA,
    Column("run", String(64), primary_key=True),
    Column("alias", String(64), nullable=False),
    Column("slot", String(128), nullable=False),
    Column("state", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("alias", "slot"),
)
LEASE = Table(
    "lease",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)
_LEADER = "leader"


class SqlRuns:
    """Runs in one database, through an engine that its maker configured."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        METADATA.create_all(engine)

    async def acquire(self, owner: str, *, now: datetime, seconds: float) -> Lease | None:
        return await self._do(lambda: self._acquire(owner, now, now + timedelta(seconds=seconds)))

    async def resign(self, lease: Lease) -> None:
        await self._do(lambda: self._resign(lease))

    async def create(self, run: Run) -> Run:
        return await self._do(lambda: self._create(run))

    async def get(self, run: RunId) -> Run | None:
        return await self._do(lambda: self._get(run))

    async def list(self, alias: Alias | None = None, *, limit: int = 100) -> Sequence[Run]:
        query = select(RUNS.c.document).order_by(RUNS.c.created_at.desc(), RUNS.c.run)
        if alias is not None:
            query = query.where(RUNS.c.alias == alias)
        return await self._do(lambda: self._runs(query.limit(limit)))

    async def unfinished(self, alias: Alias) -> Sequence[Run]:
        ended = [state.value for state in FINAL]
        query = (
            select(RUNS.c.document)
            .where(RUNS.c.alias == alias, RUNS.c.state.not_in(ended))
            .order_by(RUNS.c.created_at, RUNS.c.run)
        )
        return await self._do(lambda: self._runs(query))

    async def replace(self, before: Run, after: Run) -> Run:
        if after.state is not before.state and not may_move(before.state, after.state):
            raise ValueError(f"a run cannot go from {before.state} to {after.state}")
        return await self._do(lambda: self._replace(before, after))

    async def _do(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(work)
        except OperationalError as error:
            raise StateUnavailable(str(error.orig)) from error

    def _acquire(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        try:
            with self._engine.begin() as connection:
                epoch = _take_lease(connection, owner, now, until)
        except IntegrityError:
            return None  # somebody else inserted the first lease
        return None if epoch is None else Lease(owner=owner, epoch=epoch, expires_at=until)

    def _resign(self, lease: Lease) -> None:
        with self._engine.begin() as connection:
            # The owner goes and the row stays: the next epoch has to be higher.
            connection.execute(
                update(LEASE)
                .where(LEASE.c.name == _LEADER)
                .where(LEASE.c.owner == lease.owner, LEASE.c.epoch == lease.epoch)
                .values(owner="")
            )

    def _create(self, run: Run) -> Run:
        try:
            with self._engine.begin() as connection:
                _fence(connection, run)
                connection.execute(insert(RUNS).values(**_row(run)))
        except IntegrityError:
            with self._engine.begin() as connection:
                query = select(RUNS.c.document).where(
                    RUNS.c.alias == run.alias, RUNS.c.slot == run.slot
                )
                return _run(connection.execute(query).scalar_one())
        return run

    def _get(self, run: RunId) -> Run | None:
        with self._engine.begin() as connection:
            found = connection.execute(select(RUNS.c.document).where(RUNS.c.run == run))
            document = found.scalar_one_or_none()
        return None if document is None else _run(document)

    def _runs(self, query: Select[bytes]) -> Sequence[Run]:
        with self._engine.begin() as connection:
            return [_run(document) for document in connection.execute(query).scalars()]

    def _replace(self, before: Run, after: Run) -> Run:
        grown = msgspec.structs.replace(after, version=before.version + 1)
        with self._engine.begin() as connection:
            _fence(connection, after)
            moved = connection.execute(
                update(RUNS)
                .where(RUNS.c.run == before.run, RUNS.c.version == before.version)
                .where(RUNS.c.epoch <= after.epoch)
                .values(**_row(grown))
            )
            if moved.rowcount != 1:
                raise StaleEpoch(f"{before.run} was changed by somebody else since")
        return grown


def _take_lease(connection: Connection, owner: str, now: datetime, until: datetime) -> int | None:
    """Take or renew the lease; return its epoch, or None if somebody else holds it."""
    row = connection.execute(select(LEASE).where(LEASE.c.name == _LEADER)).one_or_none()
    if row is None:
        first = insert(LEASE).values(name=_LEADER, owner=owner, epoch=1, expires_at=until)
        connection.execute(first)
        return 1
    if row.owner not in ("", owner) and _utc(row.expires_at) > now:
        return None
    epoch: int = row.epoch if row.owner == owner else row.epoch + 1
    taken = connection.execute(
        update(LEASE)
        .where(LEASE.c.name == _LEADER)
        .where(LEASE.c.owner == row.owner, LEASE.c.epoch == row.epoch)
        .where(LEASE.c.expires_at == row.expires_at)
        .values(owner=owner, epoch=epoch, expires_at=until)
    )
    return epoch if taken.rowcount == 1 else None


def _fence(connection: Connection, run: Run) -> None:
    """Hold the lease still for the rest of the transaction, and refuse whoever lost it.

    Raises:
        StaleEpoch: If the lease was taken under a higher epoch.
    """
    query = select(LEASE.c.epoch).where(LEASE.c.name == _LEADER).with_for_update(read=True)
    epoch = connection.execute(query).scalar_one_or_none()
    if epoch is not None and epoch > run.epoch:
        raise StaleEpoch(f"lease {run.epoch} is over: {epoch} is in force")


def _row(run: Run) -> dict[str, object]:
    return {
        "run": run.run,
        "alias": run.alias,
        "slot": run.slot,
        "state": run.state.value,
        "version": run.version,
        "epoch": run.epoch,
        "created_at": run.created_at,
        "document": msgspec.json.encode(run),
    }


def _run(document: bytes) -> Run:
    return msgspec.json.decode(document, type=Run)


def _utc(moment: datetime) -> datetime:
    # SQLite keeps no time zone; what we wrote was UTC.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
