"""The command line: what each command prints, how it ends, and that a mistake is answered with a reason and a remedy.

`UPDATE_SNAPSHOTS=1 pytest tests/test_cli.py` writes tests/snapshots/ anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from policyroute.cli import COMMANDS, cli
from policyroute.language.codes import CODES
from policyroute.replay import extraction
from tests.simulate_support import ROOT, Json

SNAPSHOTS = Path(__file__).parent / "snapshots"

GOOD = """edition 1
policy good
model mini   { id "gpt-4o-mini" }
model strong { id "gpt-4o" }
rule short { when tokens < 500 then mini }
otherwise  { then strong }

test "short" {
  given tokens 499
  expect short -> mini
}
test "long" {
  given tokens 501
  expect otherwise
}
"""
BROKEN = """edition 1
policy broken
model mini { id "gpt-4o-mini" }
tier cheap = mini, nano
rule short { when prompt_token < 500 then mini }
rule short { when tokens < 1k then cheap }
otherwise  { then mini }
"""
STATEFUL = GOOD + "quota few { 5 per day by user of strong when tokens > 5 then mini }\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all commands, so that prices are flattened once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder."""
    monkeypatch.setenv("POLICYROUTE_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(call) + "\n" for call in CALLS), "utf-8")
    (tmp_path / "good.route").write_text(GOOD, "utf-8")
    yield tmp_path


CALLS = [
    {"ts": f"2026-05-0{day}T10:00:00Z", "model": model, "provider": "openai", "input_tokens": tokens, "output_tokens": 50, "cost_usd": cost,
     "user_id": user, "messages": [{"role": "user", "content": "hello " * day}]}
    for day, model, tokens, cost, user in (
        (1, "gpt-4o", 400, 0.0015, "ann"), (2, "gpt-4o", 4_000, 0.0105, "[/bold]"), (3, "gpt-4o-mini", 100, 0.000045, ":rocket:"),
        (4, "no-such-model", 700, None, None),
    )
]  # fmt: skip


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """One command in this process. Nothing but an exit is let through, so that a traceback fails the test."""
    found = CliRunner().invoke(cli, list(arguments), input=stdin, prog_name="policyroute")
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def result(*arguments: str) -> Json:
    found = run("simulate", *arguments, "--json")
    assert found.exit_code == 0, found.stderr
    read: Json = json.loads(found.stdout)
    return read


# -- mistakes ------------------------------------------------------------------------------------------------------


def damaged(place: Path) -> None:
    """Files that are no good, each in its way."""
    (place / "empty.jsonl").write_bytes(b"")
    pq.write_table(pa.table({"input_tokens": list(range(10_000)), "messages": ["x" * 50] * 10_000}), place / "whole.parquet")
    whole = (place / "whole.parquet").read_bytes()
    (place / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (place / "scratched.parquet").write_bytes(whole[:20] + b"\xff" * 400 + whole[420:])
    (place / "other.csv").write_text("a,b\n1,2\n", "utf-8")
    (place / "bytes.route").write_bytes(b"\xff\xfe")
    (place / "broken.route").write_text(BROKEN, "utf-8")
    (place / "stateful.route").write_text(STATEFUL, "utf-8")
    (place / "timeless.csv").write_text("model,input_tokens,output_tokens\ngpt-4o,5,5\n", "utf-8")
    (place / "several").mkdir()
    for name in ("one", "two"):
        (place / "several" / f"{name}.route").write_text(GOOD, "utf-8")


SIMULATE = "simulate trace.jsonl --policy good.route"
MISTAKES = [  # command, what stderr says, and the remedy
    ("simulate trace.jsonl", "there is no policy here", "name a `.route` file, or put one into `policies/`"),
    ("simulate trace.jsonl --policy several", "there are 2 policies: several/one.route, several/two.route", "say which"),
    ("simulate trace.jsonl --policy nothing.route", "there is no file `nothing.route`", "give a `.route` file"),
    ("simulate trace.jsonl --policy bytes.route", "`bytes.route` can't be read: it is not UTF-8", "a policy is a UTF-8 text file"),
    (
        "simulate trace.jsonl --policy broken.route",
        "`broken.route` has 3 errors and was not loaded",
        "choose another name, or remove one of them",
    ),
    (
        "simulate timeless.csv --policy stateful.route",
        "`quota few` can't be replayed: the trace has no times",
        "`--without sticky,quota,budget`",
    ),
    ("simulate nothing.parquet --policy good.route", "nothing.parquet: there is no such file", "check the path"),
    ("simulate empty.jsonl --policy good.route", "the file is empty", "name a file that holds calls"),
    ("simulate cut.parquet --policy good.route", "the Parquet file is cut off", "copy or download it again"),
    ("simulate scratched.parquet --policy good.route", "scratched.parquet", "check that the"),
    ("simulate other.csv --policy good.route", "no column tells tokens, messages or cost", "columns found: `a`, `b`"),
    ("simulate trace.jsonl other.csv --policy good.route", "other.csv", "--trace-format"),
    (
        f"{SIMULATE} --baseline gpt-5",
        "there is no baseline `gpt-5`",
        "recorded, requested, a `.route` file, or a model: mini, strong",
    ),
    (f"{SIMULATE} --baseline nothing.route", "there is no file `nothing.route`", "give a `.route` file"),
    (f"{SIMULATE} --baseline broken.route", "`broken.route` has 3 errors", "choose another name, or remove one of them"),
    (f"{SIMULATE} --assume tokns=5", "no signal is named `tokns`", "did you mean `tokens`?"),
    (f"{SIMULATE} --assume tokens=many", "`tokens` is a number from 0 to 100000000", "write `--assume tokens=0`"),
    (f"{SIMULATE} --assume tokens=²", "`tokens` is a number from 0 to 100000000", "write `--assume tokens=0`"),
    (f"{SIMULATE} --assume tokens", "`--assume tokens` is not a name and a value", "write `--assume NAME=VALUE`"),
    (f"{SIMULATE} --assume code=maybe", "`code` is true or false", "write `--assume code=false`"),
    (f"{SIMULATE} --assume weekday=funday", "`weekday` has no member `funday`", "its members are mon, tue"),
    (f"{SIMULATE} --map model=engine", "there is no field `engine` to map to `model`", "fields found: "),
    (f"{SIMULATE} --map model=", "`--map model=` is not a name and a value", "write `--map NAME=VALUE`"),
    (f"{SIMULATE} --trace-format tape", "there is no format `tape`", "formats: "),
    (f"{SIMULATE} --by colour", "the trace has no column `colour`", "columns with values: `cost_usd`"),
    (f"{SIMULATE} --without stikky", "there is no `stikky` to leave out", "`--without` takes sticky, quota, budget, escalate"),
    (f"{SIMULATE} --output nowhere/out.parquet", "`nowhere/out.parquet` can't be written", "check the folder"),
    (f"{SIMULATE} --prices nothing.json", "can't read the price file `nothing.json`", "name a readable file"),
    (f"{SIMULATE} --memory lots", "`lots` is not an amount of memory", "write it as `--memory 400MB`"),
    (f"{SIMULATE} --threads 0", "Invalid value for '--threads'", "policyroute simulate --help"),
    ("simulate --policy good.route", "there is no trace to replay", "policyroute simulate TRACE"),
    ("import nothing.parquet -o out.parquet", "there is no such file", "check the path"),
    ("import trace.jsonl", "Missing option '--output'", "policyroute import --help"),
    ("import trace.jsonl -o out.parquet --map model=engine", "there is no field `engine`", "fields found: "),
    ("import trace.jsonl -o good.route/out.parquet", "good.route", "= help: "),
    ("check nothing.route", "there is no file `nothing.route`", "give a `.route` file"),
    ("check --format xml", "Invalid value for '--format'", "'full', 'concise', 'json', 'github'"),
    ("fmt broken", "there is no file `broken`", "give a `.route` file"),
    ("fmt bytes.route", "`bytes.route` can't be read: it is not UTF-8", "a policy is a UTF-8 text file"),
    ("test broken.route", "`broken.route` has 3 errors and was not loaded", "choose another name, or remove one of them"),
    ("explain PR99999", "no diagnostic is called `PR99999`", "= help: "),
    ("explain duplicate-nmae", "no diagnostic is called `duplicate-nmae`", "did you mean `duplicate-name`?"),
    ("simulat", "no command is named `simulat`", "did you mean `simulate`?"),
    ("vocabulary --yaml", "No such option", "policyroute vocabulary --help"),
]


@pytest.mark.parametrize(("command", "said", "remedy"), MISTAKES, ids=[command for command, *_ in MISTAKES])
def test_mistake(place: Path, command: str, said: str, remedy: str) -> None:
    """Exit code 2, a reason and a remedy on stderr, and nothing on stdout."""
    damaged(place)
    found = run(*command.split())
    assert found.exit_code == 2
    assert found.stdout == ""
    assert said in found.stderr
    assert remedy in found.stderr


def test_an_unwritable_output_leaves_nothing_behind(place: Path) -> None:
    (place / "out.parquet").mkdir()
    found = run("simulate", "trace.jsonl", "--policy", "good.route", "--output", "out.parquet")
    assert found.exit_code == 2
    assert "out.parquet" in found.stderr
    assert not [path.name for path in place.iterdir() if "partial" in path.name]


# -- the program ---------------------------------------------------------------------------------------------------


def test_as_a_program(place: Path, cache: Path) -> None:
    """`python -m policyroute` ends with the same codes, and help needs nothing."""
    environment = {**os.environ, "POLICYROUTE_CACHE": str(cache), "PYTHONPATH": str(ROOT)}

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "policyroute", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    shown = program("--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in COMMANDS)
    wrong = program("check", "nothing.route")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(place: Path, name: str) -> None:
    found = run(name, "--help")
    assert found.exit_code == 0
    assert f"policyroute {name}" in found.stdout
    for option in re.findall(r"^  (--?[\w, -]+)", found.stdout, re.MULTILINE):
        assert option


def test_version_and_no_command(place: Path) -> None:
    assert run("--version").stdout.startswith("policyroute, version ")
    assert "simulate" in run().output


# -- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["full", "concise", "json", "github"])
def test_check_prints(place: Path, form: str) -> None:
    """Findings of two files in each format, as kept in tests/snapshots/."""
    (place / "broken.route").write_text(BROKEN, "utf-8")
    (place / "late.route").write_text(
        'edition 1\npolicy late\nmodel mini { id "gpt-4o-mini" }\nrule r { when code then mini }\n', "utf-8"
    )
    found = run("check", "broken.route", "late.route", "--output-format", form)
    assert found.exit_code == 1
    snapshot(f"check.{form}.txt", found.stdout)
    if form == "json":
        assert {each["filename"] for each in json.loads(found.stdout)} == {"broken.route", "late.route"}


def snapshot(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize(("form", "printed"), [("full", ""), ("concise", ""), ("json", "[]\n"), ("github", "")])
def test_check_of_a_clean_policy(place: Path, form: str, printed: str) -> None:
    found = run("check", "good.route", "--output-format", form)
    assert (found.exit_code, found.stdout) == (0, printed)


def test_check_takes_a_folder(place: Path) -> None:
    found = run("check", *(str(path) for path in sorted((ROOT / "policies").glob("*.route"))))
    assert found.exit_code == 0
    assert "4 policies: nothing found, 8 guarantees proved for every possible request, 9 notes" in found.stderr
    # those that compare models or repeat published tables take what comes, and keep a model for the comparison
    found = run("check", str(ROOT / "policies"), "--allow", "dead-end", "--allow", "PR740")
    assert found.exit_code == 0
    assert "14 policies: nothing found" in found.stderr
    wrong = run("check", "good.route", "--allow", "dead-ends")
    assert wrong.exit_code == 2 and "did you mean `dead-end`?" in wrong.stderr


# -- fmt -----------------------------------------------------------------------------------------------------------

MESSY = 'edition 1\npolicy messy\nmodel mini {id "gpt-4o-mini"}   # small\notherwise {then   mini}'


def test_fmt(place: Path) -> None:
    path = place / "messy.route"
    path.write_text(MESSY, "utf-8")
    checked = run("fmt", "--check", "messy.route", "good.route")
    assert (checked.exit_code, checked.stdout) == (1, "would format messy.route\n")
    diff = run("fmt", "--diff", "messy.route")
    assert diff.exit_code == 1
    assert "\n-otherwise {then   mini}\n\\ No newline at end of file\n+" in diff.stdout
    assert path.read_text("utf-8") == MESSY
    written = run("fmt", "messy.route", "good.route")
    assert (written.exit_code, written.stdout) == (0, "formatted messy.route\n")
    assert "# small" in path.read_text("utf-8")
    assert [run("fmt", *flags, "messy.route").stdout for flags in ((), ("--check",), ("--diff",))] == ["", "", ""]
    assert run("fmt", "--check", "messy.route").exit_code == 0


def test_fmt_of_standard_input(place: Path) -> None:
    found = run("fmt", "-", stdin=MESSY)
    assert found.exit_code == 0
    assert run("fmt", "-", stdin=found.stdout).stdout == found.stdout
    for wrong in ("rule {", b"\xff\xfe"):
        found = run("fmt", "-", stdin=wrong)
        assert (found.exit_code, found.stdout) == (2, "")
        assert "help: " in found.stderr


def test_fmt_leaves_a_broken_policy_alone(place: Path) -> None:
    (place / "broken.route").write_text("rule {", "utf-8")
    assert run("fmt", "broken.route").exit_code == 2
    assert (place / "broken.route").read_text("utf-8") == "rule {"


# -- test ----------------------------------------------------------------------------------------------------------


def test_test(place: Path) -> None:
    found = run("test", "good.route")
    assert (found.exit_code, found.stdout) == (0, "good.route\n  ✓ short\n  ✓ long\n2 passed\n")


def test_test_that_fails(place: Path) -> None:
    (place / "bad.route").write_text(GOOD.replace("tokens 499", "tokens 500"), "utf-8")
    found = run("test", "good.route", "bad.route")
    assert found.exit_code == 1
    assert (
        "  ✗ short\n      expected short -> mini\n      got      otherwise -> strong\n        tried short\n            tokens < 500\n            500\n"
        in found.stdout
    )
    assert "3 passed, 1 failed" in found.stdout


def test_test_of_nothing_shows_nothing(place: Path) -> None:
    (place / "bare.route").write_text(GOOD.split("\ntest")[0], "utf-8")
    found = run("test", "bare.route")
    assert (found.exit_code, found.stdout) == (1, "bare.route\nno tests: nothing was shown\n")
    classifier = (
        'classifier mood : good | bad { ask mini prompt "?" on failure good }\nrule bad_mood { when mood is bad then strong }\n'
    )
    (place / "asking.route").write_text(GOOD.replace("otherwise", f"{classifier}otherwise", 1), "utf-8")
    found = run("test", "asking.route", "--untested", "ok")
    assert "  - long\n      evaluation reaches `classifier mood`, whose answer is not given" in found.stdout
    assert "1 passed, 1 not run" in found.stdout


# -- explain, vocabulary -------------------------------------------------------------------------------------------


def test_explain(place: Path) -> None:
    listed = run("explain").stdout
    assert [line.split()[1] for line in listed.splitlines()] == list(CODES)
    by_number, by_name = run("explain", "pr101"), run("explain", "duplicate-name")
    assert by_number.stdout == by_name.stdout
    assert by_number.stdout.startswith("PR101 duplicate-name\n")


def test_vocabulary(place: Path) -> None:
    rows = json.loads(run("vocabulary", "--json").stdout)
    assert {row["kind"] for row in rows} >= {"signal", "operator"}
    text = run("vocabulary").stdout
    assert [row["name"] for row in rows if f"  {row['name']} " not in text] == []


# -- simulate ------------------------------------------------------------------------------------------------------


def test_simulate_prints_everything_that_is_asked_for(place: Path) -> None:
    """Names that rich would take for markup or an emoji stand as they are."""
    found = run("simulate", "trace.jsonl", "--policy", "good.route", "--details")
    assert found.exit_code == 0
    for piece in (
        "4 requests",
        "By rule",
        "From model to model",
        "By user_id",
        "Self-test",
        "Assumed",
        "[/bold]",
        ":rocket:",
        "unpriceable: no price",
    ):
        assert piece in found.stdout
    assert found.stderr == ""


def test_simulate_json(place: Path) -> None:
    """One JSON value, the same bytes each time, with the exact figures."""
    first, second = (run("simulate", "trace.jsonl", "--policy", "good.route", "--json").stdout for _ in range(2))
    assert first == second
    found = json.loads(first)
    assert found["schema"] == "policyroute.simulation/1"
    head = found["headline"]
    assert (head["rows"], head["baseline_usd"], head["routed_usd"]) == (3, "0.012045000000", "0.010635000000")
    assert set(found["digests"]) == {"policy", "trace", "prices", "engine"}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found["digests"].values())


def test_simulate_baselines(place: Path) -> None:
    def baseline(name: str) -> str:
        return str(result("trace.jsonl", "--policy", "good.route", "--baseline", name)["headline"]["baseline_usd"])

    assert baseline("recorded") == baseline("requested") == "0.012045000000"
    assert baseline("strong") == "0.015000000000"
    assert baseline("mini") == "0.000900000000"
    assert result("trace.jsonl", "--policy", "good.route", "--baseline", "good.route")["headline"]["saving_usd"] == "0.000000000000"


def test_simulate_takes_assumptions_as_policies_write_numbers(place: Path) -> None:
    (place / "bare.csv").write_text("model,output_tokens\ngpt-4o,5\n", "utf-8")
    found = result("bare.csv", "--policy", "good.route", "--assume", "tokens=0.4k")
    assert [rule["takes"] for rule in found["rules"]] == [1, 0]
    assert "where the trace doesn't tell, `tokens` is taken as 400" in found["assumptions"]


def test_simulate_without_state_says_so(place: Path) -> None:
    (place / "stateful.route").write_text(STATEFUL, "utf-8")
    for name in ("quota", "quota few"):
        found = result("trace.jsonl", "--policy", "stateful.route", "--without", name)
        assert "the policy is replayed without quota few" in found["assumptions"]
    found = result("trace.jsonl", "--policy", "good.route", "--baseline", "stateful.route", "--without", "quota")
    assert any("baseline" in text and "quota few" in text for text in found["assumptions"])


def test_output_has_a_row_for_each_request(place: Path) -> None:
    result("trace.jsonl", "--policy", "good.route", "--output", "out.parquet")
    rows = pq.read_table(place / "out.parquet").to_pylist()
    assert [(row["rule"], row["class"]) for row in rows] == [
        ("short", "exact"), ("otherwise", "exact"), ("short", "exact"), ("otherwise", "unpriceable"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["support", "coding", "saas"])
def test_imported_traces_simulate_as_their_source(place: Path, name: str) -> None:
    source, policy = str(ROOT / "traces" / f"{name}.parquet"), str(ROOT / "policies" / f"{name}.route")
    found = run("import", source, "-o", f"{name}.parquet")
    assert found.exit_code == 0
    assert found.stdout.endswith(f"written to {name}.parquet\n")
    before, after = result(source, "--policy", policy), result(f"{name}.parquet", "--policy", policy)
    for part in ("headline", "rules", "flows", "accounting", "segments", "self_test"):
        assert after[part] == before[part], part


# -- configuration -------------------------------------------------------------------------------------------------


def configured(place: Path, text: str, name: str = "policyroute.toml") -> Result:
    (place / name).write_text(text, "utf-8")
    return run("simulate", "trace.jsonl", "--json")


def policy_in(found: Result) -> str:
    assert found.exit_code == 0, found.stderr
    return str(json.loads(found.stdout)["policy"])


def test_the_only_policy_in_the_folder_is_taken(place: Path) -> None:
    (place / "policies").mkdir()
    (place / "policies" / "only.route").write_text(GOOD.replace("policy good", "policy only"), "utf-8")
    assert policy_in(run("simulate", "trace.jsonl", "--json")) == "only"
    (place / "policies" / "second.route").write_text(GOOD, "utf-8")
    found = run("simulate", "trace.jsonl")
    assert found.exit_code == 2
    assert "there are 2 policies: policies/only.route, policies/second.route" in found.stderr


@pytest.mark.parametrize(
    "named",
    [
        'policy = "good.route"',
        'policies = ["good.route"]',
        'policy = "own"',
        'signals-cache = "off"\npolicy = "good.route"',
        'signals-cache = false\npolicy = "good.route"',
    ],
)
def test_configuration_names_the_policy(place: Path, named: str) -> None:
    (place / "own").mkdir()
    (place / "own" / "good.route").write_text(GOOD, "utf-8")
    assert policy_in(configured(place, named)) == "good"


def test_configuration_in_pyproject(place: Path) -> None:
    assert policy_in(configured(place, '[tool.policyroute]\npolicy = "good.route"\n', "pyproject.toml")) == "good"
    (place / "other.route").write_text(GOOD.replace("policy good", "policy other"), "utf-8")
    assert policy_in(configured(place, 'policy = "other.route"')) == "other"


def test_configuration_holds_in_folders_below(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "policyroute.toml").write_text('policy = "good.route"\nsignals-cache = "kept"\n', "utf-8")
    (place / "words.route").write_text(WORDED, "utf-8")
    (place / "below" / "deep").mkdir(parents=True)
    monkeypatch.chdir(place / "below" / "deep")
    assert policy_in(run("simulate", "../../trace.jsonl", "--json")) == "good"
    assert run("simulate", "../../trace.jsonl", "--policy", "../../words.route").exit_code == 0
    assert list((place / "kept").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy = [", "policyroute.toml is not valid TOML"), ("policy = 5", "`policy` in the configuration names no file"),
        ('policy = ["a.route", 3]', "`policy` in the configuration names no file"), ('policy = "nothing.route"', "nothing.route"),
        ('policy = "good.route"\nsignals-cache = 3', "`signals-cache` in the configuration names no folder"),
    ],
)  # fmt: skip
def test_configuration_that_is_wrong(place: Path, text: str, said: str) -> None:
    found = configured(place, text)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr


# -- kept signals --------------------------------------------------------------------------------------------------

WORDED = """edition 1
policy worded
words greeting = "hello hello hello"
model mini   { id "gpt-4o-mini" }
model strong { id "gpt-4o" }
rule greeted { when last has greeting then mini }
rule short   { when last_tokens < 2 then mini }
otherwise    { then strong }
"""


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each batch that is extracted."""
    batches: list[int] = []
    real = extraction.work

    def counted(batch: pa.RecordBatch, plan: object, answers: bool) -> pa.Table:
        batches.extend([batch.num_rows] if batch.num_rows else [])
        return real(batch, plan, answers)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "work", counted)
    return batches


def worded(place: Path, cache: str = "kept", text: str = WORDED) -> str:
    (place / "worded.route").write_text(text, "utf-8")
    found = run("simulate", "trace.jsonl", "--policy", "worded.route", "--json", "--signals-cache", cache)
    assert found.exit_code == 0, found.stderr
    return found.stdout


def test_the_second_run_extracts_nothing(place: Path, extractions: list[int]) -> None:
    first = worded(place)
    assert extractions == [4]
    assert worded(place) == first
    assert extractions == [4]
    assert worded(place, "off") == first
    assert extractions == [4, 4]


def test_another_policy_extracts_only_what_is_new(place: Path, extractions: list[int]) -> None:
    worded(place)
    files = {path: path.stat().st_mtime_ns for path in (place / "kept").rglob("*.parquet")}
    renamed = WORDED.replace("greeting", "salute").replace("last_tokens < 2", "last_tokens < 3")
    worded(place, text=renamed)
    assert extractions == [4]
    worded(place, text=WORDED.replace("last_tokens < 2", "turns > 1"))
    assert extractions == [4, 4]
    assert {path: path.stat().st_mtime_ns for path in files} == files
    worded(place, text=WORDED.replace("hello hello hello", "hello hello"))
    assert extractions == [4, 4, 4]


def test_a_changed_trace_is_extracted_anew(place: Path, extractions: list[int]) -> None:
    worded(place)
    with (place / "trace.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**CALLS[0], "ts": "2026-05-09T10:00:00Z"}) + "\n")
    worded(place)
    assert extractions == [4, 5]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "scratched", "rows"])
def test_a_damaged_kept_file_is_ignored(place: Path, extractions: list[int], damage: str) -> None:
    first = worded(place)
    (path,) = (place / "kept").rglob("*.parquet")
    whole = path.read_bytes()
    match damage:
        case "rows":
            pq.write_table(pq.read_table(path).slice(0, 2), path)
        case "scratched":
            path.write_bytes(whole[:8] + b"\xff" * 60 + whole[68:])
        case _:
            path.write_bytes({"cut": whole[:-20], "empty": b"", "garbage": b"no parquet at all"}[damage])
    assert worded(place) == first
    assert extractions == [4, 4]


def test_a_cache_that_cannot_be_written_is_done_without(place: Path, extractions: list[int]) -> None:
    (place / "file").write_text("in the way", "utf-8")
    assert worded(place, "file") == worded(place, "off")
    assert extractions == [4, 4]
