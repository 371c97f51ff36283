"""What runs in other people's CI: `review` on a real git repository, the action's steps, the pre-commit hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from policyroute.cli import COMMANDS, cli
from policyroute.cli.review_command import MARKER

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]


def git(folder: Path, *arguments: str) -> None:
    config = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *config, *arguments], cwd=folder, check=True, capture_output=True)


def review(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["review", *arguments])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit of what `init` writes."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    git(folder, "init")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "one")
    return folder


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "policies" / "assistant.route"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_good_change_is_told_in_one_comment(repository: Path) -> None:
    edit(repository, "int 20..4k = 300", "int 20..4k = 500")
    found = review("--base", "main", "--traces", "traces/*.jsonl", "--output", "comment.md")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith(MARKER) and (repository / "comment.md").read_text("utf-8") == found.stdout
    for part in (
        "policyroute check: nothing found",
        "policyroute test: 5 passed",
        "Coverage",
        "policyroute diff:",
        "tunable short changed",
        "saved",
    ):
        assert part in found.stdout
    assert "1 pair of rules disagrees" in found.stdout or "Proofs skipped" in found.stdout


def test_a_broken_guarantee_and_a_failed_test_fail_it(repository: Path) -> None:
    edit(repository, "when prompt has urgent and plan is pro then best", "when prompt has urgent then cheap")
    edit(repository, "guarantee answered : never refused when tokens + max_output <= 128k", "guarantee answered : never refused")
    found = review("--base", "HEAD")
    assert found.exit_code == 1
    assert "`answered`" in found.stdout.replace("'answered'", "`answered`") and "4 passed, 1 failed" in found.stdout


def test_a_policy_that_does_not_load_is_told_too(repository: Path) -> None:
    edit(repository, "then best }\nrule question", "then bset }\nrule question")
    found = review("--base", "main")
    assert found.exit_code == 1 and "no model or tier is named" in found.stdout and "could not run" in found.stdout


def test_a_new_policy_has_nothing_to_be_compared_with(repository: Path) -> None:
    (repository / "policies" / "other.route").write_text((repository / "policies" / "assistant.route").read_text("utf-8"), "utf-8")
    found = review("policies/other.route", "--base", "main")
    assert found.exit_code == 0 and "`policies/other.route` is new" in found.stdout


@pytest.mark.parametrize("base", ["nowhere", "--output=x"])
def test_a_base_that_is_none(repository: Path, base: str) -> None:
    found = review("--base", base)
    assert found.exit_code == 2 and ("git says" in found.stderr or "is no commit" in found.stderr)


# -- the action ------------------------------------------------------------------------------------------------------------

GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in *--jq*) [ -n "$THERE" ] && echo 41 || true ;; esac
"""


def steps(path: Path) -> list[dict[str, Any]]:
    loaded = yaml.safe_load(path.read_text("utf-8"))
    return loaded["runs"]["steps"] if "runs" in loaded else loaded["jobs"]["review"]["steps"]


def run_step(step: dict[str, Any], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A step's script in bash, as the runner starts it (`bash -eo pipefail`)."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in (("gh", GH), ("policyroute", f'#!/bin/sh\nexec "{sys.executable}" -m policyroute "$@"\n')):
        (programs / name).write_text(text, "utf-8")
        (programs / name).chmod(0o755)
    whole = (
        os.environ
        | {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "PULL": "7", "REPOSITORY": "o/r"}
        | env
    )
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]], cwd=folder, env=whole, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("there", ["", "yes"])
@pytest.mark.parametrize(
    "source", [ROOT / "action.yml", ROOT / "policyroute" / "cli" / "init" / "workflow.yml"], ids=["action", "workflow"]
)
def test_one_comment_is_written_and_then_kept_current(repository: Path, source: Path, there: str) -> None:
    """The first run makes the comment, the next ones change it: never a second one. (`gh` is a stand-in that writes its calls down.)"""
    found = {step["name"]: step for step in steps(source) if "name" in step}
    report = "policyroute-review.md" if source.name == "action.yml" else "review.md"
    (repository / report).write_text(MARKER, "utf-8")
    done = run_step(found["Comment"], repository, THERE=there)
    calls = (repository / "calls").read_text("utf-8").splitlines()
    assert done.returncode == 0 and len(calls) == 2 and f"body=@{report}" in calls[1]
    assert ("-X PATCH repos/o/r/issues/comments/41" in calls[1]) == bool(there)
    assert there or "repos/o/r/issues/7/comments -F" in calls[1]


def test_the_action_reviews(repository: Path) -> None:
    """Its step in a real repository: the comment's file, the summary of the job, and the exit code."""
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    step = next(step for step in steps(ROOT / "action.yml") if step["name"] == "Review")
    env = {"FILES": "", "TRACES": "traces/*.jsonl", "BASE": "main", "GITHUB_STEP_SUMMARY": str(repository / "summary")}
    done = run_step(step, repository, **env)
    assert done.returncode == 0, done.stderr
    assert (repository / "summary").read_text("utf-8") == (repository / "policyroute-review.md").read_text("utf-8")
    edit(repository, "expect code", "expect question")
    assert run_step(step, repository, **env).returncode == 1


def test_what_the_action_asks_for_is_there() -> None:
    """Each input that a step uses is declared, and each command that it runs exists."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    used = json.dumps(action["runs"])
    assert {name for name in action["inputs"] if f"inputs.{name} " in used or f"inputs.{name}}}" in used.replace(" ", "")} == set(
        action["inputs"]
    )
    assert all(step["shell"] == "bash" for step in action["runs"]["steps"])
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert len(hooks) == 3
    for hook in hooks:
        program, command = hook["entry"].split()
        assert program == "policyroute" and command in COMMANDS and hook["language"] == "python" and hook["files"] == r"\.route$"
