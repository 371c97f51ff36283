"""The access log: what a line holds and doesn't hold, that it can be replayed, and that no sink is waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from policyroute.proxy import access_log
from policyroute.proxy.access_log import AccessLog
from policyroute.proxy.journal.columns import CANONICAL
from policyroute.proxy.journal.rows import row_of
from policyroute.proxy.served import Served
from policyroute.proxy.settings import ServeError
from policyroute.replay.traces.schema import NAMES
from tests.served_support import CANARY, ROOT, served

PROMISED = (
    "ts", "request_id", "user_id", "provider", "model", "requested_model", "response_model", "api", "input_tokens", "cached_tokens", "output_tokens",
    "stream", "status_code", "finish_reason", "latency_ms", "ttft_ms", "overhead_ms", "cost_usd", "verdict", "policy_digest", "decision_rule",
    "decision_tier", "attempts", "caller",
)  # fmt: skip
TEXTS = (
    "Where is my order no 123456?", "My lawyer will sue", "Our shop is down since nine, an outage", "What are your opening hours?", "word " * 5_000,
    "word " * 1_500, "Hi", "Please compare both offers for me",
)  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, parsed."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line(tmp_path: Path) -> None:
    """The names are those of a trace, money is exact text, times are UTC."""
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    log.write(served())
    log.close()
    [line] = lines(path)
    assert [name for name in PROMISED if name not in line] == []
    assert set(CANONICAL) <= set(NAMES)
    assert (
        line["ts"] == "2026-11-20T12:00:00.123456Z"
        and line["cost_usd"] == "0.000195600000"
        and line["decision_rule"] == "order_lookup"
    )
    assert log.written == 1 and log.lost == 0


@pytest.mark.parametrize(
    "found",
    [
        served(CANARY, prompt=CANARY.encode(), answer=CANARY.encode(), headers={"authorization": CANARY, "x-api-key": CANARY}),
        served("x"),
    ],
)
def test_nothing_private(tmp_path: Path, found: Served) -> None:
    """No prompt, answer or header is in a line, not even of a row that has content."""
    log = AccessLog(tmp_path / "log")
    log.write(found)
    log.append(row_of(found, prompts=True))
    log.close()
    text = (tmp_path / "log").read_text("utf-8")
    assert text.count("\n") == 2 and CANARY not in text
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_strange_texts(tmp_path: Path) -> None:
    """Line feeds, halves of surrogate pairs and huge numbers stay within one line of valid UTF-8."""
    log = AccessLog(tmp_path / "log")
    log.write(served(user="a\nb\u2028\ud800", requested='"}\n{"x":1', reasoning=10**30))
    log.close()
    [line] = [json.loads(line) for line in (tmp_path / "log").read_bytes().decode("utf-8").split("\n")[:-1]]
    assert line["requested_model"] == '"}\n{"x":1'


def test_it_can_be_replayed(tmp_path: Path) -> None:
    """`policyroute simulate access.jsonl` decides each request as it was decided live, without an importer and without prompts."""
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    asked = [
        served(text, id=f"pr_{number}", user=f"user_{number}", headers={"x-user-plan": ("free", "pro", "enterprise")[number % 3]})
        for number, text in enumerate(TEXTS * 6)
    ]
    for found in asked:
        log.write(found)
    log.close()
    live = {found.id: (found.decision.rule, found.decision.chain) for found in asked if found.decision}
    assert len({rule for rule, _ in live.values()}) >= 6
    output = tmp_path / "decisions.parquet"
    run("simulate", path, "--policy", ROOT / "policies" / "support.route", "--output", output, "--json")
    replayed = duckdb.read_parquet(str(output)).select("request_id", "rule", "chain").fetchall()
    assert {request: (rule, tuple(chain.split(",")) if chain else ()) for request, rule, chain in replayed} == live


def run(*words: object) -> dict[str, Any]:
    """A command's JSON result."""
    command = [sys.executable, "-m", "policyroute", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rotation(tmp_path: Path) -> None:
    """A log that was moved away is opened anew; so is one that is asked to be."""
    path, moved = tmp_path / "log", tmp_path / "log.1"
    log = AccessLog(path)
    log.write(served(id="first"))
    log.close()
    path.rename(moved)
    log.write(served(id="second"))
    log.close()
    log.reopen()
    log.write(served(id="third"))
    log.close()
    assert [line["request_id"] for line in lines(moved)] == ["first"]
    assert [line["request_id"] for line in lines(path)] == ["second", "third"]


def test_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing goes on at once; lines beyond the limit are counted, and what was taken is written when somebody reads."""
    monkeypatch.setattr(access_log, "MOST", 500)
    reading, writing = os.pipe()
    log = AccessLog(f"/dev/fd/{writing}")
    found = row_of(served())
    for _ in range(2_000):
        log.append(found)
    assert log.lost >= 1_000 and log.written == 0
    taken = 2_000 - log.lost
    pieces: list[bytes] = []
    reader = threading.Thread(target=lambda: pieces.extend(iter(lambda: os.read(reading, 65_536), b"")))
    reader.start()
    log.close(10)
    os.close(writing)
    log._descriptor = os.close(log._descriptor) or -1
    reader.join(10)
    os.close(reading)
    assert log.written == taken and b"".join(pieces).count(b"\n") == taken


def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    """No request notices; lines are counted as lost, and the log says it once."""
    log = AccessLog("/dev/full")
    for _ in range(3):
        log.write(served())
        log.close()
    assert (log.written, log.lost) == (0, 3)
    assert [record.message for record in caplog.records] == ["the access log can't be written: No space left on device"]


TORN = """
import resource, sys
from policyroute.proxy.access_log import AccessLog

log = AccessLog(sys.argv[1])
row = {"padding": "x" * 900}
log.append(row | {"request_id": "whole"})
log.close()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
for number in range(5):
    log.append(row | {"request_id": f"some_{number}"})
log.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log.append(row | {"request_id": "after"})
log.close()
sys.stdout.write(f"{log.written} {log.lost}")
"""


def test_a_disk_that_fills_in_mid_line(tmp_path: Path) -> None:
    """What was cut off stays alone on its line; the lines before and after it are whole."""
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", TORN, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = path.read_text("utf-8").split("\n")[:-1]
    names = [whole(line) for line in found]
    assert names[0] == "whole" and names[-1] == "after" and names.count("") == 1
    assert done.stdout == f"{len(names) - 1} {7 - (len(names) - 1)}"


def whole(line: str) -> str:
    """The id in a line, "" where it is no JSON."""
    try:
        return str(json.loads(line)["request_id"])
    except ValueError:
        return ""


FORKED = """
import os, sys
from policyroute.proxy.access_log import AccessLog

log = AccessLog(sys.argv[1])  # before the fork, as a preloading server makes it
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for place in range(3_000):
            log.append({"request_id": f"{number}-{place}", "padding": "x" * 1_000})
        log.close(10)
        os._exit(log.written != 3_000)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_workers_share_a_file(tmp_path: Path) -> None:
    """Three forked workers write at once: every line is whole and there once."""
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", FORKED, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    found = [line["request_id"] for line in lines(path)]
    assert sorted(found) == sorted(f"{number}-{place}" for number in range(3) for place in range(3_000))


@pytest.mark.parametrize(("target", "stream"), [("-", "stdout"), ("stdout", "stdout"), ("stderr", "stderr")])
def test_standard_streams(target: str, stream: str) -> None:
    """A line goes to the stream that is named, at the latest when the process ends."""
    code = "import sys; from policyroute.proxy.access_log import AccessLog; AccessLog(sys.argv[1]).append({'request_id': 'pr_1'})"
    command: Sequence[str] = (sys.executable, "-c", code, target)
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert json.loads(getattr(done, stream))["request_id"] == "pr_1"


def test_a_file_that_cant_be_opened(tmp_path: Path) -> None:
    """That is said at start."""
    with pytest.raises(ServeError, match="no such file or directory"):
        AccessLog(tmp_path / "nowhere" / "log")
