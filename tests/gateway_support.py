"""The gateway as a process, in front of a provider on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.provider_support import TEXT, Provider, chat, chat_events, provider

__all__ = ["POLICY", "ROOT", "TEXT", "Gateway", "Provider", "chat", "chat_events", "events", "free_port", "provider", "serving"]

ROOT = Path(__file__).parents[1]
POLICY = """edition 1
policy desk
signal plan : free | pro = free  from header "x-user-plan", metadata "plan", column "user_plan"
words urgent = "outage", "data loss"
model mini   {{ provider openai  id "gpt-4o-mini"  url "{url}"  in $0.15  out $0.60  context 128k  can tools, images, json }}
model strong {{ provider openai  id "gpt-4o"       url "{url}"  in $2.50  out $10.00 context 128k  can tools, images, json }}
tier cheap = mini, strong
tier best  = strong
order cheap < best
rule long     {{ when tokens > 20k then refuse "Too long. Please shorten it." }}
rule incident {{ when prompt has urgent and plan is pro then best }}
otherwise     {{ then cheap }}
{more}
test "short ones are cheap" {{ given tokens 10 expect otherwise -> mini, strong }}
"""


@dataclass
class Gateway:
    """A running gateway: its base URL without `/v1`, its process, its folder."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of the answer, whatever the status."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **(headers or {})})
        return _fetched(asked)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        return _fetched(urllib.request.Request(self.url + path, headers=dict(headers or {})))

    def stop(self, within: float = 30.0) -> int:
        """End it as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)


def _fetched(asked: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    policy: str, folder: Path, *options: str, env: Mapping[str, str] | None = None, server: str = "serve", workers: int = 1
) -> Iterator[Gateway]:
    """The gateway in a process of its own, under `policyroute serve` (granian), gunicorn or waitress."""
    file, port = folder / "desk.route", free_port()
    file.write_text(policy)
    command = {
        "serve": [sys.executable, "-m", "policyroute", "serve", str(file), "--port", str(port), "--workers", str(workers), "--journal", "journal", *options],
        "gunicorn": [
            sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "16", "-w", str(workers), "-b", f"127.0.0.1:{port}",
            f"policyroute.proxy.app:create({str(file)!r})",
        ],
        "waitress": [sys.executable, "-c", _WAITRESS, str(file), str(port)],
    }[server]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
            | dict(env or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    gateway = Gateway(f"http://127.0.0.1:{port}", process, folder)
    try:
        _until_ready(gateway)
        yield gateway
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_WAITRESS = """
import sys
from waitress import serve
from policyroute.proxy.app import create
serve(create(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), threads=8)
"""


def _until_ready(gateway: Gateway, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if gateway.process.poll() is not None:
            raise AssertionError(f"the gateway ended: {gateway.log}")
        try:
            if gateway.get("/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway did not get ready: {gateway.log}")


def events(body: bytes) -> list[Any]:
    """The JSON of a stream's `data:` lines."""
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
