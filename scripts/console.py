"""Runs the blocks of a Markdown page: `console` blocks are run anew in a copy of the examples, and their output written down.

A `console` block is a session of a POSIX shell: a line that begins with `$ ` is a command, lines behind it that begin with
`> ` belong to it, all others are what it prints on stdout and stderr. `...` alone on a line stands for any lines, `...` at
the end of one for the rest of it. A command that fails makes the page wrong, unless the page prints the exit code itself
(`; echo $?`). The blocks of a page run in their order and in one folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("policies", "traces", "policyroute.toml", "tests/traces_samples")
_FENCE = re.compile(r"^```(?P<tag>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page: its tag, its text, and the line that it begins on."""

    tag: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(found["tag"], found["text"], page.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(page)]


class CommandError(Exception):
    """A command of a page ended with an exit code other than 0."""


class Workplace:
    """A folder with the examples, in which commands run with the source tree's `policyroute` and a cache of their own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)
        self.environment = {
            "PATH": f"{_commands(cache)}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(cache), "XDG_CACHE_HOME": str(cache),
            "POLICYROUTE_CACHE": str(cache / "policyroute"), "COLUMNS": "80", "LC_ALL": "C.UTF-8", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def run(self, command: str) -> str:
        """What a shell command prints on stdout and stderr, lines without the blanks at their ends."""
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self.folder, env=self.environment, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise CommandError(f"`{command}` ended with exit code {done.returncode}:\n{done.stdout}")
        return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def _commands(cache: Path) -> Path:
    """A folder with the commands `policyroute` and `python`, as an installed environment has them."""
    folder = cache / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    entry = "from policyroute.cli import main\n\nif __name__ == '__main__':\n    main()\n"
    for name, text in (("policyroute", f"#!{sys.executable}\n{entry}"), ("python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')):
        path = folder / name
        path.write_text(text, "utf-8")
        path.chmod(0o755)
    return folder


def rerun(page: str, workplace: Workplace) -> str:
    """The page with the output of all its `console` blocks made anew."""
    return _FENCE.sub(
        lambda found: f"```console\n{_session(found['text'], workplace)}```" if found["tag"] == "console" else found[0], page
    )


def _session(text: str, workplace: Workplace) -> str:
    lines = []
    for command, expected in _steps(text):
        printed = workplace.run("\n".join(line[2:] for line in command))
        lines += [*command, *(expected if _matches(expected, printed) else printed.splitlines())]
    return "".join(f"{line}\n" for line in lines)


def _steps(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The commands of a session, each with the lines that it is said to print."""
    command: list[str] = []
    expected: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = [line], []
        elif line.startswith("> ") and not expected:
            command.append(line)
        else:
            expected.append(line)
    if command:
        yield command, expected


def _matches(expected: list[str], printed: str) -> bool:
    """Whether the lines, with their elisions, are what was printed."""
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*")
        elif line.endswith("..."):
            parts.append(re.escape(line[:-3]) + r".*\n")
        else:
            parts.append(re.escape(line) + r"\n")
    return re.fullmatch("".join(parts), printed) is not None
