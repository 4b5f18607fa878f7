"""Sessions of the warehouse server: who may open one, and what becomes of its transaction when its client goes away.

A client that is killed leaves an open transaction behind, and with it locks on the rows it changed: its successor would be refused for
ever. Here such a transaction is rolled back when the client's connections close, or when it has been silent for too long (a stopped
process keeps its connections open). Whoever then comes back to it is told so until it says ROLLBACK: nothing of the second half of a
transaction may take effect without the first.
"""

import hmac
import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import duckdb
from fakesnow.conn import FakeSnowflakeConnection

from app.local.stack.warehouse_server.instance import PersistentFakeSnow

log = logging.getLogger("warehouse")

Peer = tuple[str, int]


@dataclass(eq=False)
class Session:
    """One login. Statements of a session run one at a time: hold `lock`."""

    token: str
    connection: FakeSnowflakeConnection
    lock: threading.Lock = field(default_factory=threading.Lock)
    peers: set[Peer] = field(default_factory=set)
    """Open TCP connections that it was used over."""
    last_used: float = field(default_factory=time.monotonic)
    aborted: str = ""
    """Why its transaction was rolled back from outside; empty if it was not."""
    abandoned: bool = False
    """Its client went away in the middle of a statement: roll back as soon as that ends."""
    last_request: str = ""
    last_reply: tuple[int, bytes] = (0, b"")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self.connection._in_transaction)  # noqa: SLF001 - `fixes.execute` keeps it true to its name

    def roll_back(self, reason: str) -> None:
        """Undo the open transaction. The caller holds the lock."""
        if not self.in_transaction:
            return
        try:
            self.connection._duck_conn.rollback()  # noqa: SLF001 - fakesnow's own way, without its statement parsing
        except duckdb.Error as error:
            log.warning("a transaction could not be rolled back: %s", error)
        self.connection._in_transaction = False  # noqa: SLF001
        self.aborted = reason
        log.warning("a transaction was rolled back: %s", reason)


class Sessions:
    """All sessions of the server, bounded in number."""

    def __init__(self, warehouse: PersistentFakeSnow, user: str, password: str, limit: int, idle_s: float) -> None:
        self._warehouse, self._user, self._password = warehouse, user, password
        self._limit, self._idle_s = limit, idle_s
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def authentic(self, user: object, password: object) -> bool:
        """Whether this login is ours. Compares in constant time."""
        same_user = hmac.compare_digest(str(user).upper().encode(), self._user.upper().encode())
        return hmac.compare_digest(str(password).encode(), self._password.encode()) and same_user

    def open(self, database: str | None, schema: str | None, *, autocommit: bool) -> Session:
        """A new session with a random token. Past the limit the one unused for longest is closed."""
        session = Session(secrets.token_urlsafe(32), self._warehouse.open(database, schema, autocommit=autocommit))
        with self._lock:
            surplus = [self._sessions.popitem(last=False)[1]] if len(self._sessions) >= self._limit else []
            self._sessions[session.token] = session
        for old in surplus:
            _close(old)
        return session

    def get(self, token: str) -> Session | None:
        """The session with this token."""
        with self._lock:
            session = self._sessions.get(token)
            if session is not None:
                self._sessions.move_to_end(token)
                session.last_used = time.monotonic()
            return session

    def connections(self) -> "Connections":
        """The view that fakesnow's handler needs."""
        return Connections(self)

    def close(self, token: str) -> None:
        """End a session; an open transaction is rolled back."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            _close(session)

    def close_all(self) -> None:
        """End every session."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            _close(session)

    def disconnected(self, peer: Peer) -> None:
        """A client closed a connection: roll back what it leaves behind."""
        with self._lock:
            left = [session for session in self._sessions.values() if peer in session.peers]
        for session in left:
            session.peers.discard(peer)
            if not session.peers:
                _abandon(session, "its client went away")

    def end_idle_transactions(self) -> None:
        """Roll back transactions of clients that have been silent for too long."""
        now = time.monotonic()
        with self._lock:
            idle = [s for s in self._sessions.values() if s.in_transaction and now - s.last_used > self._idle_s]
        for session in idle:
            if session.lock.acquire(blocking=False):
                try:
                    session.roll_back(f"its client said nothing for {self._idle_s:.0f} s")
                finally:
                    session.lock.release()


class Connections(dict[str, FakeSnowflakeConnection]):
    """Looks like fakesnow's table of sessions: connections by token."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self._sessions = sessions

    def get(self, key: str, default: Any = None) -> Any:
        """The connection of the session with this token."""
        session = self._sessions.get(key)
        return default if session is None else session.connection


def _abandon(session: Session, reason: str) -> None:
    session.abandoned = True
    if session.lock.acquire(blocking=False):
        try:
            session.roll_back(reason)
            session.abandoned = False
        finally:
            session.lock.release()


def _close(session: Session) -> None:
    connection: Any = session.connection._duck_conn  # noqa: SLF001
    connection.interrupt()
    with session.lock:
        session.roll_back("its session was closed")
        connection.close()
