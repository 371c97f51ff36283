"""The pytest plugin, in real runs of pytest: collection, -k, --lf, xdist, JUnit, and what a failure looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
POLICY = """edition 1
policy desk
model mini   { id "a" in $1 out $2 }
model strong { id "b" in $3 out $9 }
rule short { when tokens < 500 then mini }
otherwise  { then strong }
test "short is cheap" {
  given tokens 499
  expect short -> mini
}
test "long is strong" {
  given tokens 500
  expect otherwise -> strong
}
"""
WRONG = POLICY.replace("given tokens 500", "given tokens 400")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "desk.route").write_text(POLICY, "utf-8")
    (tmp_path / "models.route").write_text('edition 1\nmodel mini { id "a" in $1 out $2 }\n', "utf-8")
    (tmp_path / "test_other.py").write_text("def test_python():\n    pass\n", "utf-8")
    return tmp_path


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "policyroute.testing.plugin", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_each_test_is_an_item(place: Path) -> None:
    told = run(place, "--collect-only", "-q").stdout
    assert [line for line in told.splitlines() if "::" in line] == [
        "desk.route::short is cheap", "desk.route::long is strong", "test_other.py::test_python",
    ]  # fmt: skip
    done = run(place, "-v")
    assert done.returncode == 0 and "desk.route::long is strong PASSED" in done.stdout and "3 passed" in done.stdout


def test_a_failure_is_explained(place: Path) -> None:
    (place / "desk.route").write_text(WRONG, "utf-8")
    done = run(place)
    assert done.returncode == 1 and "1 failed, 2 passed" in done.stdout
    assert "expected otherwise -> strong" in done.stdout and "got      short -> mini" in done.stdout
    assert "Traceback" not in done.stdout and "plugin.py" not in done.stdout
    again = run(place, "--lf", "-v", "-p", "cacheprovider")
    assert "1 failed" in again.stdout and "passed" not in again.stdout


def test_chosen_by_name_and_by_id(place: Path) -> None:
    assert "1 passed, 2 deselected" in run(place, "-k", "cheap").stdout
    assert "1 passed" in run(place, "desk.route::long is strong").stdout


def test_over_workers_and_into_junit(place: Path) -> None:
    (place / "desk.route").write_text(WRONG, "utf-8")
    done = run(place, "-p", "xdist.plugin", "-n", "2", "--junitxml", "report.xml")
    assert "1 failed, 2 passed" in done.stdout
    (suite,) = ElementTree.parse(place / "report.xml").getroot()
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {"short is cheap", "long is strong", "test_python"}
    failure = cases["long is strong"].find("failure")
    assert failure is not None and "expected otherwise -> strong" in (failure.text or "")


def test_what_is_not_run_is_skipped(place: Path) -> None:
    asking = 'classifier mood : good | bad { ask mini prompt "?" on failure good }\nrule angry { when mood is bad then mini }\n'
    (place / "desk.route").write_text(POLICY.replace("otherwise  {", f"{asking}otherwise  {{", 1), "utf-8")
    done = run(place, "-rs")
    assert done.returncode == 0 and "1 skipped" in done.stdout and "evaluation reaches `classifier mood`" in done.stdout


def test_a_policy_that_does_not_load_is_an_error(place: Path) -> None:
    (place / "desk.route").write_text(POLICY.replace("then mini", "then mimi"), "utf-8")
    done = run(place)
    assert done.returncode == 2 and "no model or tier is named `mimi`" in done.stdout and "did you mean `mini`?" in done.stdout
    assert "Traceback" not in done.stdout


def test_it_can_be_turned_off(place: Path) -> None:
    assert "1 passed" in run(place, "--no-policyroute").stdout
    (place / "pytest.ini").write_text("[pytest]\npolicyroute = false\n", "utf-8")
    assert "1 passed" in run(place).stdout


def test_it_costs_nothing_where_there_is_no_policy(place: Path) -> None:
    """Loading the plugin imports neither the engine nor the parser."""
    (place / "desk.route").unlink()
    (place / "models.route").unlink()
    (place / "test_other.py").write_text(
        "import sys\n\ndef test_python():\n"
        "    assert not {'duckdb', 'lark', 'z3', 'policyroute.testing.run', 'policyroute.language.parser'} & set(sys.modules)\n",
        "utf-8",
    )
    assert "1 passed" in run(place).stdout
