"""Findings in SARIF 2.1.0 (OASIS), as code scanning reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import policyroute
from policyroute.language.codes import CODES
from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.source import Source, Span

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
Json = dict[str, Any]


def sarif(found: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """One run with the rules that were found and a result for each diagnostic; lines and columns count from 1."""
    codes = sorted({diagnostic.code for diagnostic in found}, key=lambda code: CODES[code].number)
    driver = {
        "name": "policyroute",
        "semanticVersion": policyroute.__version__,
        "rules": [_rule(code) for code in codes],
    }
    results = [_result(diagnostic, sources, codes.index(diagnostic.code)) for diagnostic in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=2) + "\n"


def _rule(code: str) -> Json:
    row = CODES[code]
    return {
        "id": row.number,
        "name": row.name,
        "shortDescription": {"text": row.what},
        "fullDescription": {"text": row.why},
        "help": {"text": f"{row.what}\n\n{row.why}\n\nInstead:\n{row.instead}"},
    }


def _result(diagnostic: Diagnostic, sources: Sequence[Source], rule: int) -> Json:
    said = [diagnostic.message, *diagnostic.notes, *([diagnostic.help] if diagnostic.help else [])]
    text = "\n".join(said) + (f"\n\n{diagnostic.witness}" if diagnostic.witness else "")
    result: Json = {
        "ruleId": diagnostic.number,
        "ruleIndex": rule,
        "level": LEVELS[diagnostic.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": _place(diagnostic.span, sources)}],
        "partialFingerprints": {"policyroute/v1": fingerprint(diagnostic, sources)},
    }
    if diagnostic.labels:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _place(label.span, sources), "message": {"text": label.text}}
            for number, label in enumerate(diagnostic.labels)
        ]
    return result


def _place(span: Span, sources: Sequence[Source]) -> Json:
    source = sources[span.file]
    (line, column), (end_line, end_column) = source.position(span.start), source.position(span.end)
    region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
    return {"artifactLocation": {"uri": source.name.replace(" ", "%20")}, "region": region}


def fingerprint(diagnostic: Diagnostic, sources: Sequence[Source]) -> str:
    """The same for the same finding when lines above it come and go: from its code, file and words."""
    parts = (diagnostic.number, sources[diagnostic.span.file].name, diagnostic.message)
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
