"""One host trades at a time: an advisory lock of a PostgreSQL database, with an epoch that each new holder raises.

Advisory locks belong to a connection: if the holder dies or its connection breaks, the server frees the lock.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from typing import Any

from pydantic import SecretStr

from sentio_kedro.trader.contract import Broker
from sentio_kedro.trader.orders import Order, Outcome

_TABLE = (
    "create table if not exists sentio_lease (trader text primary key, epoch bigint not null, holder text not null)"
)
_RAISE = (
    "insert into sentio_lease values (%s, 1, %s) on conflict (trader) "
    "do update set epoch = sentio_lease.epoch + 1, holder = excluded.holder returning epoch"
)
_MINE = "select epoch from sentio_lease where trader = %s"
_HOLDER = "select holder from sentio_lease where trader = %s"


class LeaseError(RuntimeError, ValueError):
    """Another host trades under this name, or it cannot be known whether one does."""


class Lease:
    """The right to trade under a name."""

    def __init__(self, address: SecretStr, trader: str) -> None:
        """Take a PostgreSQL address and the trader's name; ``take`` connects."""
        self._address, self._trader = address, trader
        self._key = int.from_bytes(hashlib.sha256(f"sentio {trader}".encode()).digest()[:8], "big", signed=True)
        self._connection: Any = None
        self.epoch = 0

    def take(self) -> int:
        """Take the lease and return its epoch, one more than any before.

        Raises:
            LeaseError: If another host holds it, or the database cannot be reached.
        """
        try:
            import psycopg  # noqa: PLC0415 - of the extra `trader`
        except ImportError as error:
            raise LeaseError("`trader.lease` needs psycopg; pip install 'sentio_kedro[trader]'.") from error
        try:
            self._connection = psycopg.connect(
                self._address.get_secret_value(),
                autocommit=True,
                connect_timeout=5,
                options="-c statement_timeout=2000",
            )
            mine = self._one("select pg_try_advisory_lock(%s)", self._key)
            self._one_of(_TABLE)
            if not mine:
                holder = self._one(_HOLDER, self._trader) or "another host"
                raise LeaseError(
                    f"`trader.lease` of `{self._trader}` must be free, is held by {holder}; stop that trader, or wait "
                    "until the database has noticed that it is gone."
                )
            self.epoch = int(self._one(_RAISE, self._trader, socket.gethostname()))
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        return self.epoch

    def require(self) -> None:
        """Refuse to go on without the lease, asked of the database each time.

        Raises:
            LeaseError: If it was lost, or the database does not answer: another host may trade by now.
        """
        import psycopg  # noqa: PLC0415

        try:
            epoch = self._one(_MINE, self._trader)
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        if epoch != self.epoch:
            raise LeaseError(
                f"`trader.lease` of `{self._trader}` was taken by another host (epoch {epoch}, ours was {self.epoch}); "
                "this trader stops."
            )

    def close(self) -> None:
        """Give the lease back."""
        if self._connection is not None:
            self._connection.close()

    def _one(self, query: str, *values: Any) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _one_of(self, statement: str) -> None:
        self._connection.execute(statement)

    def _unreachable(self, error: Exception) -> LeaseError:
        return LeaseError(
            f"`trader.lease` of `{self._trader}` must be known before an order is sent, and its database does not "
            f"answer ({type(error).__name__}); check the database, then start the trader again."
        )


class LeasedBroker:
    """A venue that is sent orders only while this host has the lease; all else is the venue's own."""

    def __init__(self, broker: Broker, lease: Lease) -> None:
        self._broker, self._lease = broker, lease

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def submit(self, order: Order) -> Outcome:
        """Send an order, after the database has said that the lease is ours.

        Raises:
            LeaseError: If it is not, or the database does not answer; the trader stops.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._lease.require)
        return await self._broker.submit(order)
