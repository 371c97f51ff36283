"""What the gateway is told at start. One value, so that it goes from `serve` to its workers as one piece of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

ENVIRONMENT = "POLICYROUTE_SETTINGS"  # where `serve` leaves the settings for its workers


class ServeError(Exception):
    """The gateway can't serve as asked: what is wrong, and the remedy."""

    def __init__(self, message: str, help_: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help_


@dataclass(frozen=True, slots=True)
class Settings:
    """Paths, limits in bytes, times in seconds.

    `keys`: the keys file, None to serve loopback without keys. `journal`: the folder of trace rows, None to keep none; at most
    `window` seconds of rows are lost when a worker is killed. `prompts` keeps bodies and answers in it, through `redact` (a hook
    `module:function`, or "" for the built-in one). `without` leaves constructs out by name, as `simulate` does. `apis` are the
    surfaces to serve, () for all that every model can be reached from. `connect`, `first_byte` and `idle` are how long an
    upstream may take to connect, to begin its answer, and between two pieces of it; `ping` is after how long a waiting stream is
    sent a comment. `watch` is how often the files are looked at for changes, 0 for never. `answers` is how long the answer cache
    keeps an answer, 0 for no cache. `state` is a folder that the workers of one server share. `store` is where conversations, quotas and
    budgets are kept: `memory` (one worker), a path (a SQLite file, for the workers of one machine) or `redis://HOST` (for several);
    `store_closed`: where it is out of reach, requests are refused instead of decided without it.
    """

    policy: Path
    keys: Path | None = None
    prices: Path | None = None
    shadow: Path | None = None
    without: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    journal: Path | None = None
    window: float = 1.0
    prompts: bool = False
    redact: str = ""
    access_log: str = ""
    spans: bool = False
    answers: float = 0.0
    body_limit: int = 32 << 20
    answer_limit: int = 64 << 20
    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 60.0
    ping: float = 10.0
    watch: float = 1.0
    headers: bool = True
    state: Path | None = None
    store: str = "policyroute-state.sqlite"
    store_closed: bool = False

    def written(self) -> str:
        """The settings as JSON text."""
        return json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()})


_PATHS = frozenset(field.name for field in fields(Settings) if "Path" in str(field.type))


def read_settings(text: str) -> Settings:
    """The settings in JSON text that `Settings.written` gave."""
    found: dict[str, Any] = json.loads(text)
    return Settings(**{name: _value(name, value) for name, value in found.items()})


def _value(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if name in _PATHS and value is not None else value
