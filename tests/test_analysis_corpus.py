"""The corpus of findings: what an analysis says of small policies, as data in `corpus/analysis/*.route` (see test_corpus.py).

A chunk with a line `# overlaps`, `# declarations` or `# owners` asks for these too. Each witness is a test that the policy passes.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from policyroute.analysis.analyse import Analysis, Asked, analyse
from policyroute.cli import cli
from policyroute.language import check_text
from policyroute.language.codes import CODES
from policyroute.language.diagnostics import Severity
from policyroute.language.load import Checked
from policyroute.prices.catalog import complete, load_catalog
from policyroute.proxy.crossings import crossings
from policyroute.testing.run import Suite
from tests.test_corpus import CORPUS, Chunk, Wanted, _wants, check, chunks, written
from tests.test_reference_docs import LACKS
from tests.test_reference_docs import checked as framed

CHUNKS = [chunk for path in sorted((CORPUS / "analysis").glob("*.route")) for chunk in chunks(path)]
ELSEWHERE = {"not-proven", "untested-rule", "crossing-apis"}
ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 25, tzinfo=UTC)


@dataclass(frozen=True)
class Found:
    checked: Checked
    analysis: Analysis


def analysed(checked: Checked, folder: Path, *marks: str) -> Found:
    """The analysis, with what marks ask for: `overlaps`, `declarations` of the file, `owners`."""
    assert not checked.failed, [found.message for found in checked.diagnostics]
    catalog = load_catalog()
    policy, _ = complete(checked.policy, catalog)
    asked = Asked(
        pairs="overlaps" in marks,
        owners="owners" in marks,
        source=checked.sources[0] if "declarations" in marks else None,
        folder=folder,
    )
    return Found(checked, analyse(policy, catalog.for_policy(policy), asked, NOW))


def marks(text: str) -> list[str]:
    return re.findall(r"^# (overlaps|declarations|owners)$", text, re.MULTILINE)


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk.place)
def test_chunk(chunk: Chunk, tmp_path: Path) -> None:
    """Exactly the wanted findings, at their places; and each witness passes as a test of the policy."""
    pytest.importorskip("z3")
    found = analysed(check(chunk), tmp_path, *marks(chunk.files["policy.route"]))
    left: list[Wanted] = list(chunk.wanted)
    surplus: list[str] = []
    for finding in found.analysis.findings:
        mark = next((wanted for wanted in left if _wants(found.checked, wanted, finding.diagnostic)), None)
        if mark is None:
            surplus.append(written(found.checked, finding.diagnostic))
        else:
            left.remove(mark)
    assert not surplus and not left, "\n".join(["", *(f"not wanted: {one}" for one in surplus), *(f"not found: {m}" for m in left)])
    _witnesses(chunk.files["policy.route"], found.analysis)


def _witnesses(text: str, analysis: Analysis) -> None:
    blocks = [finding.diagnostic.witness for finding in analysis.findings if finding.diagnostic.witness]
    assert len(blocks) == sum(bool(finding.values) for finding in analysis.findings)
    if not blocks:
        return
    catalog = load_catalog()
    checked = check_text("\n".join([text, *blocks]))
    assert not checked.failed, (blocks, checked.diagnostics)
    outcomes = list(Suite(complete(checked.policy, catalog)[0], Path()).run())
    assert [outcome.status for outcome in outcomes] == ["passed"] * len(blocks), outcomes


def test_every_finding_has_a_chunk() -> None:
    """Each code of an analysis is wanted by a chunk, but for those that tests of their own show."""
    wanted = {wanted.code for chunk in CHUNKS for wanted in chunk.wanted}
    assert wanted == {code for code, row in CODES.items() if row.number.startswith("PR7")} - ELSEWHERE


@pytest.mark.parametrize("code", sorted({code for code, row in CODES.items() if row.number.startswith("PR7")} - ELSEWHERE))
def test_examples_show_their_code(code: str, tmp_path: Path) -> None:
    """The example of a code is found to be so, and what stands instead is not."""
    pytest.importorskip("z3")
    row = CODES[code]
    example, instead = (
        check_text(text) if text.startswith("edition") else framed(text, LACKS.get(code, "")) for text in (row.example, row.instead)
    )
    asked = {"overlap": "overlaps", "owner-missing": "owners"}.get(code, "declarations")
    counts = [
        sum(finding.diagnostic.code == code for finding in analysed(checked, tmp_path, asked).analysis.findings)
        for checked in (example, instead)
    ]
    assert counts[0] > counts[1], "the frame of a fragment may show the code too, but then in both"


def test_a_question_without_time_is_not_proven(tmp_path: Path) -> None:
    """Where no time is left, each question is a finding, and none a proof."""
    pytest.importorskip("z3")
    policy = framed("rule hard { when code then opus }\nguarantee g : never opus when plan is free").policy
    found = analyse(policy, {}, Asked(seconds=0.0, folder=tmp_path), NOW)
    assert {finding.diagnostic.code for finding in found.findings} == {"not-proven"} and not found.proved
    assert all(finding.diagnostic.severity is Severity.ERROR for finding in found.findings)


def test_answers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run asks nothing; what is kept is only what was decided, and a file that is no JSON is none."""
    pytest.importorskip("z3")
    policy = framed("rule tiny { when tokens < 100 then strong }\nguarantee g : never opus").policy
    first = analyse(policy, {}, Asked(folder=tmp_path), NOW)
    assert len(list(tmp_path.glob("*.json"))) == 1 and first.proved == ("g",)
    monkeypatch.setattr("policyroute.analysis.remote.Remote._running", None)  # calling it would fail
    assert analyse(policy, {}, Asked(folder=tmp_path), NOW).findings == first.findings
    monkeypatch.undo()
    next(tmp_path.glob("*.json")).write_text("{")
    assert analyse(policy, {}, Asked(folder=tmp_path), NOW).findings == first.findings


def test_findings_are_counted_in_a_trace(tmp_path: Path) -> None:
    """With a trace: as many requests as plain SQL over the decisions finds, their money, and a real request; nothing is asked twice."""
    pytest.importorskip("z3")
    text = (
        (ROOT / "policies" / "support.route")
        .read_text("utf-8")
        .replace('forbid flash  when region is eu  because "no EU endpoint"\n', "")
    )
    shutil.copytree(ROOT / "policies" / "words", tmp_path / "words")
    file, output, trace = tmp_path / "without.route", tmp_path / "rows.parquet", ROOT / "traces" / "support.parquet"
    file.write_text(text, "utf-8")
    found = CliRunner().invoke(cli, ["check", str(file), "--traces", str(trace), "--format", "json"])
    assert found.exit_code == 1
    (broken,) = json.loads(found.stdout)
    replayed = CliRunner().invoke(cli, ["simulate", str(trace), "--policy", str(file), "--output", str(output)])
    assert replayed.exit_code == 0, replayed.output
    ((rows,),) = duckdb.sql(f"SELECT count(*) FROM '{output}' WHERE rule = 'quick_question' AND region = 'eu'").fetchall()
    assert any(note.startswith(f"{rows:,} of the trace's 2,400 requests") and "as recorded" in note for note in broken["notes"])
    assert any("nearest real request: support-" in note and "region eu" in note for note in broken["notes"])
    late = CliRunner().invoke(cli, ["check", str(file), "--traces", str(tmp_path / "none.parquet")])
    assert late.exit_code == 2 and "no such file" in late.stderr


def test_crossing_apis_is_a_note() -> None:
    """Of the example and of what stands instead: only the former falls back between APIs; one without a known provider says nothing."""
    row = CODES["crossing-apis"]
    found = [list(crossings(framed(text).policy)) for text in (row.example, row.instead)]
    assert [len(each) for each in found] == [1, 0] and found[0][0].severity is Severity.INFO
    assert found[0][0].message == "`hard` falls back between APIs: `claude` speaks messages; `gpt` speaks chat and responses"
    text = 'model local { url "http://127.0.0.1:1/v1" id "l" in $0 out $0 }\nmodel gpt { provider openai id "g" in $1 out $2 }\nrule a { when code then local fallback gpt }'
    assert not list(crossings(framed(text).policy))
