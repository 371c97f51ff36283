"""JUnit's XML, as test reporters of CI systems read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Case:
    """One test case: `message` and `text` say why it didn't pass; `file` and `line` where it stands."""

    suite: str
    name: str
    status: Status
    message: str = ""
    text: str = ""
    file: str = ""
    line: int = 0


def xml(name: str, cases: Sequence[Case]) -> str:
    """All cases, in suites in the order of their first case."""
    suites = dict.fromkeys(case.suite for case in cases)
    root = ElementTree.Element("testsuites", {"name": name} | _counts(cases))
    for suite in suites:
        inside = [case for case in cases if case.suite == suite]
        element = ElementTree.SubElement(root, "testsuite", {"name": suite} | _counts(inside))
        for case in inside:
            _case(element, case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, case: Case) -> None:
    place = {"file": case.file, "line": str(case.line)} if case.file else {}
    element = ElementTree.SubElement(suite, "testcase", {"classname": _legal(case.suite), "name": _legal(case.name)} | place)
    if case.status == "failed":
        ElementTree.SubElement(element, "failure", message=_legal(case.message)).text = _legal(case.text)
    elif case.status == "skipped":
        ElementTree.SubElement(element, "skipped", message=_legal(case.message))


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    listed = list(cases)
    failed, skipped = (sum(case.status == status for case in listed) for status in ("failed", "skipped"))
    return {"tests": str(len(listed)), "failures": str(failed), "skipped": str(skipped), "errors": "0"}


def _legal(text: str) -> str:
    """Without what XML 1.0 can't hold."""
    return "".join(sign if sign in "\t\n\r" or (sign >= " " and not "\ud800" <= sign <= "\udfff") else "�" for sign in text)
