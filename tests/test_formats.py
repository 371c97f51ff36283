"""What machines read of `check` and `test`: SARIF by its schema, JUnit by a reader of JUnit, GitLab, GitHub, Markdown.

schemas/sarif-2.1.0.json is the schema of OASIS (as Microsoft's SARIF tools ship it, white space aside).
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from policyroute.cli import cli
from policyroute.render.diagnostics import FORMATS

HERE = Path(__file__).parent
POLICY = """edition 1
policy <odd> "with | `odd` & names"
model mini   { id "gpt-4o-mini" }
model strong { id "gpt-4o" }
rule too_long { when tokens + max_output > 128k then refuse "no" }
rule short    { when tokens < 500 then mini }
rule tiny     { when tokens < 50 then strong }
otherwise     { then strong }
guarantee cheap : never strong when code
test "the ```first``` <b>" {
  given tokens 499
  expect short -> mini
}
test "wrong\x01" {
  given tokens 500
  expect short -> mini
}
""".replace("<odd>", "odd")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "odd name.route").write_text(POLICY, "utf-8")
    (tmp_path / "good.route").write_text(POLICY.split("rule tiny")[0] + "otherwise { then strong }\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_sarif_by_its_schema(place: Path) -> None:
    """Valid by the schema of OASIS, with places, witnesses and a rule for each code."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    found = run("check", "odd name.route", "good.route", "--format", "sarif")
    assert found.exit_code == 1
    log = json.loads(found.stdout)
    schema = json.loads((HERE / "schemas" / "sarif-2.1.0.json").read_text("utf-8"))
    assert [error.message for error in validator(schema).iter_errors(log)] == []
    (one,) = log["runs"]
    assert [rule["name"] for rule in one["tool"]["driver"]["rules"]] == ["dead-rule", "guarantee-broken"]
    dead, broken = one["results"]
    assert dead["relatedLocations"][0]["physicalLocation"]["region"]["startLine"] == 6
    assert broken["level"] == "error" and 'test "cheap does not hold' in broken["message"]["text"]
    assert broken["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "odd%20name.route"
    assert dead["partialFingerprints"] != broken["partialFingerprints"]


def test_a_fingerprint_outlives_lines(place: Path) -> None:
    before = json.loads(run("check", "odd name.route", "--format", "gitlab").stdout)
    (place / "odd name.route").write_text("# a comment\n\n" + POLICY, "utf-8")
    after = json.loads(run("check", "odd name.route", "--format", "gitlab").stdout)
    assert [row["fingerprint"] for row in before] == [row["fingerprint"] for row in after]
    assert [row["location"]["lines"]["begin"] + 2 for row in before] == [row["location"]["lines"]["begin"] for row in after]
    assert {row["severity"] for row in before} == {"critical", "major"}


@pytest.mark.parametrize(("command", "counts"), [("check", (3, 2, 0)), ("test", (2, 1, 0))])
def test_junit_by_a_reader(place: Path, command: str, counts: tuple[int, int, int]) -> None:
    """Read by a library for JUnit: counts, names, files; what XML can't hold is replaced."""
    junitparser: Any = pytest.importorskip("junitparser")
    found = run(command, "odd name.route", "good.route", "--format", "junit")
    assert found.exit_code == 1
    suites = junitparser.JUnitXml.fromstring(found.stdout.encode())
    assert (suites.tests, suites.failures, suites.skipped) == counts
    cases = [case for suite in suites for case in suite]
    failed = [case for case in cases if not case.is_passed]
    assert {case.classname for case in failed} == {"odd name.route"} and all(case.result[0].message for case in failed)
    assert command == "check" or [case.name for case in cases] == ["the ```first``` <b>", "wrong\ufffd"]


def test_markdown_shows_names_as_text(place: Path) -> None:
    """No name of a policy ends a block or becomes markup."""
    for command in ("check", "test"):
        told = run(command, "odd name.route", "--format", "markdown").stdout
        assert told.count("```") % 2 == 0 and told.count("<details>") == told.count("</details>") >= 1
        outside = re.sub(r"```text\n.*?```", "", told, flags=re.DOTALL)
        assert "<b>" not in outside


def test_github_annotations_are_one_line_each(place: Path) -> None:
    for command, lines in (("check", 2), ("test", 3)):
        told = run(command, "odd name.route", "--format", "github").stdout.splitlines()
        assert len(told) == lines and all(
            re.match(r"::(error|warning|notice) title=[^:,]+,file=odd name\.route,line=\d+", line) for line in told
        )


def test_json_of_tests(place: Path) -> None:
    told = json.loads(run("test", "odd name.route", "--format", "json", "--coverage").stdout)
    assert [(test["name"], test["status"]) for test in told["tests"]] == [
        ("the ```first``` <b>", "passed"),
        ("wrong\x01", "failed"),
    ]
    assert {finding["name"] for finding in told["findings"]} == {"untested-rule"} and "odd name.route" in told["coverage"]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_of_nothing_and_of_much(place: Path, form: str) -> None:
    """A clean policy is said to be clean, and a broken one can be rendered, whatever the format."""
    clean = POLICY.split("rule tiny")[0] + "otherwise { then strong }\n"
    shutil.copy(place / "good.route", place / "clean.route")
    assert (place / "clean.route").read_text("utf-8") == clean
    assert run("check", "clean.route", "--format", form).exit_code == 0
    (place / "broken.route").write_text("rule { nonsense \n" * 3, "utf-8")
    found = run("check", "broken.route", "--format", form)
    assert found.exit_code == 1 and found.stdout
