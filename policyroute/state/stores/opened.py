"""Which store a word means: `memory`, a file's path (SQLite), or `redis://HOST`."""

from __future__ import annotations

from policyroute.state.stores.memory import MemoryStore
from policyroute.state.stores.store import Store


def open_store(where: str) -> Store:
    """The store that `where` names. Raises ValueError for what can't be meant."""
    if where == "memory":
        return MemoryStore()
    if where.startswith(("redis://", "rediss://")):
        from policyroute.state.stores.redis import RedisStore

        return RedisStore(where)
    if "://" in where:
        raise ValueError(f"`{where.partition('://')[0]}://` is no place where state can be kept")
    from policyroute.state.stores.sqlite import SqliteStore

    return SqliteStore(where.removeprefix("sqlite:"))
