"""Manages sessions of the warehouse server: checks logins, and rolls back transactions whose client has disconnected.

A client that is killed leaves an open transaction, and with it locks on the rows that it changed; its successor's statements would fail
forever. The server rolls such a transaction back when the client's connections close, or when the client has been idle for too long (a
stopped process keeps its connections open). If the client returns, its statements fail until it sends ROLLBACK, so that the second half of
a transaction never takes effect without the first.
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
    """One login. Statements of a session run one at a time, under `lock`."""

    token: str
    connection: FakeSnowflakeConnection
    lock: threading.Lock = field(default_factory=threading.Lock)
    peers: set[Peer] = field(default_factory=set)
    """The open TCP connections over which the session was used."""
    last_used: float = field(default_factory=time.monotonic)
    aborted: str = ""
    """Why the server rolled its transaction back; empty if it did not."""
    abandoned: bool = False
    """Its client disconnected during a statement: roll back as soon as the statement ends."""
    last_request: str = ""
    last_reply: tuple[int, bytes] = (0, b"")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self.connection._in_transaction)  # noqa: SLF001 - `fixes.execute` keeps it correct

    def roll_back(self, reason: str) -> None:
        """Roll back the open transaction, if any. The caller holds the lock."""
        if not self.in_transaction:
            return
        try:
            self.connection._duck_conn.rollback()  # noqa: SLF001 - what fakesnow's ROLLBACK does, without parsing a statement
        except duckdb.Error as error:
            log.warning("a transaction could not be rolled back: %s", error)
        self.connection._in_transaction = False  # noqa: SLF001
        self.aborted = reason
        log.warning("a transaction was rolled back: %s", reason)


class Sessions:
    """All sessions of the server. Their number is limited."""

    def __init__(self, warehouse: PersistentFakeSnow, user: str, password: str, limit: int, idle_s: float) -> None:
        self._warehouse, self._user, self._password = warehouse, user, password
        self._limit, self._idle_s = limit, idle_s
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def authentic(self, user: object, password: object) -> bool:
        """Returns whether this is the server's user and password. Compares in constant time."""
        same_user = hmac.compare_digest(str(user).upper().encode(), self._user.upper().encode())
        return hmac.compare_digest(str(password).encode(), self._password.encode()) and same_user

    def open(self, database: str | None, schema: str | None, *, autocommit: bool) -> Session:
        """Returns a new session with a random token. At the limit, the least recently used session is closed."""
        session = Session(secrets.token_urlsafe(32), self._warehouse.open(database, schema, autocommit=autocommit))
        with self._lock:
            surplus = [self._sessions.popitem(last=False)[1]] if len(self._sessions) >= self._limit else []
            self._sessions[session.token] = session
        for old in surplus:
            _close(old)
        return session

    def get(self, token: str) -> Session | None:
        """Returns the session with this token; None if there is none."""
        with self._lock:
            session = self._sessions.get(token)
            if session is not None:
                self._sessions.move_to_end(token)
                session.last_used = time.monotonic()
            return session

    def connections(self) -> "Connections":
        """Returns the sessions in the form that fakesnow's handler needs."""
        return Connections(self)

    def close(self, token: str) -> None:
        """Close a session and roll back its open transaction."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            _close(session)

    def close_all(self) -> None:
        """Close every session."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            _close(session)

    def disconnected(self, peer: Peer) -> None:
        """Handle a closed connection: roll back the transactions of sessions that have no connection left."""
        with self._lock:
            left = [session for session in self._sessions.values() if peer in session.peers]
        for session in left:
            session.peers.discard(peer)
            if not session.peers:
                _abandon(session, "its client disconnected")

    def end_idle_transactions(self) -> None:
        """Roll back the transactions of clients that have been idle for too long."""
        now = time.monotonic()
        with self._lock:
            idle = [s for s in self._sessions.values() if s.in_transaction and now - s.last_used > self._idle_s]
        for session in idle:
            if session.lock.acquire(blocking=False):
                try:
                    session.roll_back(f"its client was idle for {self._idle_s:.0f} s")
                finally:
                    session.lock.release()


class Connections(dict[str, FakeSnowflakeConnection]):
    """Fakesnow's table of sessions: connections by token."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self._sessions = sessions

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the connection of the session with this token."""
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
