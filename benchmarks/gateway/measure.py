"""The cells, and how one is measured.

A cell is one kind of load at one size:
- `plain N`: N connections, each asks again as soon as it has its answer (closed loop); the upstream answers at once.
- `low N`: N requests a second whatever comes back (open loop), an upstream that takes 20 ms.
- `burst N`: N connections in a closed loop; streams of 50 chunks that the upstream writes at once, ten at a time.
- `slow N`: N streams held at the same time, 100 chunks each, one each 100 ms.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .contestants import MODEL, PATH, Contestant, Launch, Setting
from .native import Client, Outcome
from .tree import Tree

Figures = dict[str, float]
WARM, SETTLED, GROUP = 0.5, 2.0, 10
STARTS_WITHIN = 180.0  # seconds

_SYSTEM = (
    "You answer for the support desk of an online shop. Be brief, be friendly, and say what happens next. Never promise a refund."
)
_ASKED = (
    "Ticket ########: my invoice of last month was sent to me twice and the second one names another amount. "
    "Which of the two am I to pay, and by when? I'd like to hear from you before Friday, since our books close then."
)


class DidNotStartError(Exception):
    """A contestant gave no good answer, with the last lines that it wrote."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load at one size; see the module's text. `chunks` and `every` (ms) describe the upstream's streams."""

    kind: str
    size: int
    delay: int = 0
    chunks: int = 0
    every: int = 0

    @property
    def key(self) -> str:
        return f"{self.kind} {self.size}"

    def seconds(self, seconds: float) -> float:
        """How long it runs; low rates run longer, so that a p99 means something."""
        if self.kind == "slow":
            return self.chunks * self.every / 1000 + 2
        return seconds * {"low": 3.0 if self.size < 100 else 2.0}.get(self.kind, 1.0)

    def options(self, seconds: float) -> dict[str, float]:
        """For the load client."""
        if self.kind == "slow":
            return {"connections": self.size, "total": self.size, "ramp": 2, "seconds": 60, "limit": 60, "chunks": self.chunks}
        if self.kind == "low":
            return {"connections": 256, "rate": self.size, "seconds": seconds}
        return {"connections": self.size, "seconds": seconds, "chunks": self.chunks}


def cells(smoke: bool, streams: int) -> tuple[Cell, ...]:
    """What a contestant that can hold `streams` slow streams is measured with."""
    if smoke:
        return Cell("plain", 64), Cell("low", 200, delay=20), Cell("burst", 16, chunks=50), Cell("slow", 50, chunks=10, every=100)
    return (
        *(Cell("plain", size) for size in (1, 16, 64, 256)),
        *(Cell("low", size, delay=20) for size in (20, 200)),
        *(Cell("burst", size, chunks=50) for size in (1, 16, 64, 256)),
        Cell("slow", streams, chunks=100, every=100),
    )


def warm_up(target: Target, client: Client, smoke: bool) -> None:
    """Load that isn't counted: compilers of the running code, pools and caches are warm after it."""
    for cell, seconds in ((Cell("plain", 64), 3.0), (Cell("burst", 16, chunks=50), 1.0)):
        lasts = WARM if smoke else seconds
        client.run(target.port, _request(cell, target.headers), cell.options(lasts))


def body(cell: Cell) -> bytes:
    """A request of about half a kilobyte. Eight `#` become its number, so that no two texts are the same."""
    asked = f"{_ASKED} mock(delay={cell.delay},chunks={cell.chunks},every={cell.every},group={GROUP})"
    fields: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}],
        "max_tokens": 200,
        "temperature": 0.2,
        "user": "caller-########",
    }
    if cell.chunks:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(fields).encode()


def _request(cell: Cell, headers: Mapping[str, str]) -> bytes:
    content = body(cell)
    sent = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
    lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    return "\r\n".join(lines).encode() + content


@dataclass(frozen=True, slots=True)
class Target:
    """A server that answers; `tree` is None for the mock itself."""

    port: int
    headers: Mapping[str, str]
    tree: Tree | None = None
    cold: float = 0.0  # seconds from its start to the first good answer
    idle: float = 0.0  # MB after it


def measure(cell: Cell, target: Target, client: Client, seconds: float) -> tuple[Figures, str]:
    """The figures of one cell, and the first error in words."""
    lasts, request = cell.seconds(seconds), _request(cell, target.headers)
    if cell.kind != "slow":
        client.run(target.port, request, cell.options(min(WARM, seconds)))
    memory = [0.0]

    def watch() -> None:
        for _ in range(2):
            time.sleep(0.4 * lasts)
            memory.append(target.tree.memory() if target.tree else 0.0)

    before = target.tree.cpu() if target.tree else 0.0
    outcome = client.run(target.port, request, cell.options(lasts), watch)
    used = target.tree.cpu() - before if target.tree else 0.0
    return _figures(cell, outcome, used, max(memory)), outcome.complaint


def _figures(cell: Cell, outcome: Outcome, cpu: float, memory: float) -> Figures:
    found: Figures = {"ok": outcome.ok, "errors": outcome.failed, "rate": outcome.per_second, "cpu": 0.0, "memory": memory}
    found["chunks"] = outcome.per_second * cell.chunks
    if outcome.ok:
        found["cpu"] = cpu / outcome.ok * 1e6
    for name in ("latency", "first", "lag"):
        spread: tuple[float, ...] = getattr(outcome, name)
        found |= {f"{name}_{share}": value for share, value in zip(("p50", "p90", "p99", "most"), spread, strict=False)}
    return found


# -- a contestant's life -------------------------------------------------------------------------------------------------------


@contextmanager
def started(contestant: Contestant, home: Path, upstream: int, ended: Callable[[Path], object]) -> Iterator[Target]:
    """A contestant that answers, until the `with` block ends; `ended` is then called with its folder. Raises DidNotStartError."""
    with tempfile.TemporaryDirectory(prefix="policyroute-gateway-") as place, Path(place, "log").open("wb") as log:
        folder, port = Path(place), _free_port()
        launch = contestant.launch(Setting(home, folder, upstream, port))
        tree = Tree(launch.command, launch.environment, folder, log)
        try:
            cold = _first_answer(tree, port, launch, folder / "log")
            time.sleep(SETTLED)  # its other workers
            yield Target(port, launch.headers, tree, cold, tree.memory())
            tree.stop()
            ended(folder)
        finally:
            tree.stop()


def _free_port() -> int:
    """A free port below those that outgoing connections take: a server that starts slowly would lose one of theirs."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise DidNotStartError("no port is free between 20000 and 30000")


def _first_answer(tree: Tree, port: int, launch: Launch, log: Path) -> float:
    """Seconds from the start to the first good answer."""
    said = "no answer"
    while tree.running and time.monotonic() - tree.began < STARTS_WITHIN:
        said = _answer(port, launch.headers) or said
        if said == "good":
            return time.monotonic() - tree.began
        time.sleep(0.01)
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    state = f"no good answer in {STARTS_WITHIN:g} s" if tree.running else "it ended"
    raise DidNotStartError(f"{state}: {(lines or [said])[-1] if said == 'no answer' else said}"[:300])


def _answer(port: int, headers: Mapping[str, str]) -> str:
    """`good`, or how the server answered; nothing where it didn't."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", PATH, body(Cell("plain", 1)), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    if answer.status == 200 and b'"usage"' in content:
        return "good"
    return f"status {answer.status}: {content[:150].decode('utf-8', 'replace')}"
