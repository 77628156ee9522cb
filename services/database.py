"""The one database of runs and releases: SQLite on one machine, PostgreSQL in a cluster."""

from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event


def open_engine(url: str, *, busy_seconds: float = 10.0) -> Engine:
    """Reach the database at a SQLAlchemy URL, safely from several threads and processes.

    Args:
        url: ``sqlite:///path`` or ``postgresql+driver://...``.
        busy_seconds: SQLite: how long to wait for another process' transaction.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    # NullPool: a connection belongs to the thread that made it, and there are many.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": busy_seconds})
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin)
    return engine


def _leave_transactions_to_us(connection: Any, _record: object) -> None:  # noqa: ANN401  # any driver's
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes could not wait for another writer: it would
    # fail at once. So each takes the one write lock at its start, and waits for it there.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
