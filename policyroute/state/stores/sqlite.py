"""State in a SQLite file: for all workers of one machine; it outlives them, whatever ends them.

Rules of this module
- A step is one transaction that locks the file for writing before it reads. WAL lets others read meanwhile.
- A step that has returned outlives a killed process. A machine that loses its power may lose the last ones, and no more
  (`synchronous = NORMAL`): of a budget, what these steps reserved.
- Connections belong to one thread of one process: after a fork, new ones are opened.
- The file holds hashes of keys and amounts. It is its owner's alone (mode 0600).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from policyroute.state.stores.store import Change, Kept, Key, Result, StoreUnreachableError

PATIENCE = 2.0  # seconds that a step waits for others
SWEEP = 4_096  # steps between two looks for what is over
TABLES = """
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, id TEXT NOT NULL);
"""
KEEP = (
    "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value, until = max(until, excluded.until)"
)


class SqliteStore:
    """A store in the file `path`, which is made if need be. Nothing is opened before the first step."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.id = ""
        self._local = threading.local()

    def step(self, keys: Sequence[Key], change: Change[Result], now: int) -> tuple[int, Result]:
        """Read, change and keep as one transaction. Raises StoreUnreachableError."""
        with self._reaching():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                new, result = change(_read(connection, keys))
                changed = [(k.name, json.dumps(v), k.until) for k, v in zip(keys, new, strict=True) if v is not None]
                connection.executemany(KEEP, changed)
                ((number, self.id),) = connection.execute("UPDATE steps SET number = number + 1 RETURNING number, id").fetchall()
                if number % SWEEP == 0:
                    connection.execute("DELETE FROM kept WHERE until < ?", (now,))
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
            return int(number), result

    def read(self, keys: Sequence[Key]) -> list[Kept | None]:
        """What is kept under the keys. Raises StoreUnreachableError."""
        with self._reaching():
            return _read(self._connection(), keys)

    def close(self) -> None:
        """Close this thread's connection; those of other threads end with them."""
        held = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid():
            held[1].close()
        self._local.held = None

    def _connection(self) -> sqlite3.Connection:
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is None or held[0] != os.getpid():
            held = self._local.held = (os.getpid(), self._opened())
        return held[1]

    def _opened(self) -> sqlite3.Connection:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(TABLES)
            connection.execute("INSERT OR IGNORE INTO steps VALUES (1, 0, ?)", (f"sqlite-{uuid.uuid4().hex[:12]}",))
            ((self.id,),) = connection.execute("SELECT id FROM steps").fetchall()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """What goes wrong with the file is said with its path."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnreachableError(f"`{self.path}`: {error}") from None
        except OSError as error:
            raise StoreUnreachableError(f"`{self.path}`: {(error.strerror or str(error)).lower()}") from None


def _read(connection: sqlite3.Connection, keys: Sequence[Key]) -> list[Kept | None]:
    if not keys:
        return []
    marks = ", ".join("?" * len(keys))
    found = dict(connection.execute(f"SELECT name, value FROM kept WHERE name IN ({marks})", [key.name for key in keys]).fetchall())
    return [json.loads(found[key.name]) if key.name in found else None for key in keys]
