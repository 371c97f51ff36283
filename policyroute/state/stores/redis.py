"""State in a Redis server: for gateways on several machines.

Rules of this module
- A step reads, decides here, and then lets one script compare what was read with what is there: where another gateway was quicker,
  nothing is written, and the step is made again. So all stores share the one transition, which is Python's.
- The script writes, numbers the step and tells the store's id at once. An emptied server is another store, with another id.
- A server that is out of reach costs a request half a second at most; for a second after that, requests don't try it again.
- All keys of a step lie on one node of a cluster: they share a hash tag.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from policyroute.state.stores.store import Change, Kept, Key, Result, StoreUnreachableError

TIMEOUT = 0.5  # seconds for a connection, and for an answer
PATIENCE = 2.0  # seconds in which a step that others overtake is made again
REST = 1.0  # seconds for which an unreachable server isn't asked
SLACK = 86_400_000  # milliseconds for which what is over is kept: clocks differ
PREFIX = "{policyroute}:"

# KEYS: the id, the number, then the step's keys. ARGV: a new id, then of each key what was read, what it becomes ("" for as before), and when
# it may be forgotten (milliseconds). Gives the step's number and the id, or 0 where a key has changed meanwhile.
SCRIPT = """
for place = 3, #KEYS do
    local read = ARGV[2 + (place - 3) * 3]
    if (redis.call('GET', KEYS[place]) or '') ~= read then return {0, ''} end
end
for place = 3, #KEYS do
    local value = ARGV[3 + (place - 3) * 3]
    if value ~= '' then redis.call('SET', KEYS[place], value, 'PXAT', ARGV[4 + (place - 3) * 3]) end
end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return {redis.call('INCR', KEYS[2]), redis.call('GET', KEYS[1])}
"""


class RedisStore:
    """A store on the server that `url` names (`redis://:password@host:6379/0`). Nothing is connected before the first step.

    Raises ValueError where the package `redis` isn't installed, or the URL is none.
    """

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        try:
            import redis
        except ImportError:
            raise ValueError("state in Redis needs the package `redis`: pip install 'policyroute[redis]'") from None
        self._errors: type[Exception] = redis.RedisError
        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True, retry=None
        )
        self._script: Any = self._client.register_script(SCRIPT)
        options = self._client.connection_pool.connection_kwargs
        self._where = f"{options.get('host', options.get('path', 'redis'))}:{options.get('port', '')}".rstrip(":")
        self.id = ""
        self._prefix = prefix
        self._resting = 0.0
        self._lock = threading.Lock()

    def step(self, keys: Sequence[Key], change: Change[Result], now: int) -> tuple[int, Result]:
        """Read, change and keep as one step; made again where another one was quicker. Raises StoreUnreachableError."""
        names = [f"{self._prefix}{key.name}" for key in keys]
        until = time.monotonic() + PATIENCE
        while True:
            read: list[str | None] = self._asked(lambda: self._client.mget(names)) if names else []
            new, result = change([None if value is None else json.loads(value) for value in read])
            arguments = [f"redis-{uuid.uuid4().hex[:12]}"]
            for key, old, value in zip(keys, read, new, strict=True):
                arguments += [old or "", "" if value is None else json.dumps(value), str(_milliseconds(key, now))]
            own = [f"{self._prefix}id", f"{self._prefix}number", *names]
            number, id_ = self._asked(lambda: self._script(own, arguments))  # noqa: B023 - called at once
            if number:
                self.id = id_
                return int(number), result
            if time.monotonic() > until:
                raise StoreUnreachableError(f"Redis at {self._where}: others change the same keys without end")
            time.sleep(random.uniform(0.0, 0.005))

    def read(self, keys: Sequence[Key]) -> list[Kept | None]:
        """What is kept under the keys. Raises StoreUnreachableError."""
        names = [f"{self._prefix}{key.name}" for key in keys]
        found = self._asked(lambda: self._client.mget(names)) if names else []
        return [None if value is None else json.loads(value) for value in found]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _asked(self, ask: Any) -> Any:
        if time.monotonic() < self._resting:
            raise StoreUnreachableError(f"Redis at {self._where} was out of reach a moment ago")
        try:
            return ask()
        except self._errors as error:
            self._resting = time.monotonic() + REST
            reason = str(error).split("\n", 1)[0] or type(error).__name__
            raise StoreUnreachableError(f"Redis at {self._where}: {reason}") from None


def _milliseconds(key: Key, now: int) -> int:
    """When a key may be forgotten by the server's clock; requests' own times may lie far from it (tests, replays)."""
    del now
    return max(key.until // 1_000, int(time.time() * 1_000)) + SLACK
