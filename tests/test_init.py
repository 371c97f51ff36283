"""`policyroute init` in an empty folder: what it writes works, and nothing is overwritten. And shell completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyroute.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
WRITTEN = {"policyroute.toml", "policies/assistant.route", "traces/sample.jsonl", ".github/workflows/policyroute.yml"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_works(place: Path) -> None:
    """The commands that it names, and those of the workflow, all succeed; without z3 too."""
    assert run("init").exit_code == 0 and names(place) == WRITTEN
    for command in (
        "check",
        "check --no-proofs",
        "fmt --check policies",
        "test --coverage",
        "simulate traces/sample.jsonl --json",
        "doctor traces/sample.jsonl",
    ):
        found = run(*command.split())
        assert found.exit_code == 0, found.output
    checked = run("check", "--notes")
    assert "2 guarantees proved" in checked.stderr or "proofs skipped" in checked.stderr


def test_in_a_folder_of_its_own(place: Path) -> None:
    found = run("init", "desk/routing")
    assert found.exit_code == 0 and names(place / "desk" / "routing") == WRITTEN and "cd desk/routing" in found.stdout


@pytest.mark.parametrize("there", sorted(WRITTEN))
def test_nothing_is_overwritten(place: Path, there: str) -> None:
    """One file that is there keeps all from being written."""
    (place / there).parent.mkdir(parents=True, exist_ok=True)
    (place / there).write_text("mine", "utf-8")
    found = run("init")
    assert found.exit_code == 2 and f"`{there}` is there already" in found.stderr
    assert names(place) == {there} and (place / there).read_text("utf-8") == "mine"


def test_a_place_that_can_not_be_written(place: Path) -> None:
    (place / "policies").write_text("a file where a folder should be", "utf-8")
    found = run("init")
    assert found.exit_code == 2 and "can't be written to" in found.stderr
    assert names(place) == {"policies"} and not list(place.glob(".policyroute*"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    found = run("completion", shell)
    assert found.exit_code == 0 and "_POLICYROUTE_COMPLETE" in found.stdout


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (["policyroute", "sim"], ["simulate"]),
        (["policyroute", "check", "--form"], ["--format"]),
        (["policyroute", ""], list(COMMANDS)),
    ],
)
def test_completion_in_bash(tmp_path: Path, typed: list[str], wanted: list[str]) -> None:
    """What the script asks of the program, and a real bash that has loaded it."""
    program = tmp_path / "policyroute"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m policyroute "$@"\n', "utf-8")
    program.chmod(0o755)
    words = " ".join(f"'{word}'" for word in typed)
    script = f"""
source <(policyroute completion bash)
COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}
_policyroute_completion policyroute; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stdout.splitlines() if line in wanted] == wanted, done
