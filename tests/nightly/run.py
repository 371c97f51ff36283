"""Clients that are too large for CI, run against the gateway: the npm packages `openai` and `ai`, and aider where it is installed.

`python -m tests.nightly.run FOLDER`: FOLDER holds `node_modules` and the `.mjs` files of this folder beside them, and, for aider,
`aider/bin/aider`. Each client talks to a model that speaks its API, and to one that speaks another. Ends with 1 where anything differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.clients_support import in_front_of
from tests.gateway_support import TEXT, Gateway, Provider

UPSTREAMS = ("chat,responses,messages", "messages")
CALL = ["get_weather", {"location": "Paris"}]


class DifferenceError(Exception):
    """A client that did not see what it should."""


def main(folder: Path) -> int:
    """Run all clients; the number of those that saw something else."""
    clients: dict[str, Callable[[Gateway, Provider], str]] = {
        "openai (npm)": lambda gateway, _: _node(folder / "openai.mjs", gateway, texts=4, calls=1),
        "ai (npm)": lambda gateway, _: _node(folder / "ai.mjs", gateway, texts=2, calls=2),
    }
    if (folder / "aider/bin/aider").exists():
        clients["aider"] = lambda gateway, upstream: _aider(folder, gateway, upstream)
    failures = 0
    for spoken in UPSTREAMS:
        for name, run in clients.items():
            try:
                saw = run_client(run, spoken)
            except (DifferenceError, subprocess.TimeoutExpired) as error:
                failures += 1
                saw = f"FAILED: {error}"
            sys.stdout.write(f"{name:13} upstream {spoken:24} {saw}\n")
            sys.stdout.flush()
    return failures


def run_client(run: Callable[[Gateway, Provider], str], spoken: str) -> str:
    """What a client says it saw of a gateway whose models speak the APIs `spoken`."""
    with tempfile.TemporaryDirectory() as place, in_front_of(spoken, Path(place)) as (gateway, upstream):
        saw = run(gateway, upstream)
        streams = sum(fields.get("stream") is True for _, _, fields in upstream.seen)
        return f"{saw}; the upstream saw {len(upstream.seen)} requests, {streams} streamed"


def _node(script: Path, gateway: Gateway, texts: int, calls: int) -> str:
    found = json.loads(_out(["node", str(script), gateway.url], {}))
    wanted: dict[str, Any] = {"texts": [TEXT] * texts, "tools": [CALL] * calls, "tokens": [7, 7], "rule": "otherwise"}
    if off := {name: found[name] for name, value in wanted.items() if found[name] != value}:
        raise DifferenceError(f"saw {off}")
    if found["models"] is not None and not {"auto", "first", "second"} <= set(found["models"]):
        raise DifferenceError(f"saw the models {found['models']}")
    return f"texts: {texts}, tool calls: {calls}, plain and streamed"


def _aider(folder: Path, gateway: Gateway, upstream: Provider) -> str:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    base = {"OPENAI_API_BASE": f"{gateway.url}/v1", "OPENAI_API_KEY": "none", "HOME": str(home)}
    flags = "--model openai/auto --no-git --yes-always --no-pretty --no-check-update --no-show-model-warnings --no-show-release-notes --no-analytics --no-gitignore --chat-mode ask"
    for stream in ("--stream", "--no-stream"):
        before = len(upstream.seen)
        said = _out([str(folder / "aider/bin/aider"), *flags.split(), stream, "--message", "Capital of France?"], base, home)
        asked = upstream.seen[before:]
        if TEXT not in said or not asked or any((fields.get("stream") is True) != (stream == "--stream") for _, _, fields in asked):
            raise DifferenceError(f"with {stream}: {said[-1000:]}")
    return "answers streamed and not"


def _out(command: list[str], env: Mapping[str, str], folder: Path | None = None) -> str:
    run = subprocess.run(command, env=os.environ | env, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    if run.returncode:
        raise DifferenceError(f"{Path(command[0]).name} ended with {run.returncode}: {(run.stderr or run.stdout)[-2000:]}")
    return run.stdout


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]).resolve()) else 0)
