"""The corpus: what the checker says of small policies, as data in `corpus/*.route`.

A file is a list of chunks, separated by lines `---`. A chunk is a policy; the diagnostics that it wants stand on the
line where their span begins, behind `###`:

    rule short { when prompt_token < 500 then mini }   ### unknown-name "prompt_token" no signal is named ; help: tokens

that is: the code, the text under the span (with the escapes of JSON), a regular expression that the message has to
contain, and one that the help has to contain (it may be left out). Several marks on one line are each begun with `###`.
A chunk without marks has to be accepted. Exactly the wanted diagnostics are found: none more, none less. Marks are cut
off before the text is checked.

A file that begins with a line `# prelude` has its first chunk put around each of the others, which stand where the
prelude says `# <chunk>`. A chunk that begins with `# whole` stands alone.

`== models.route ==` begins another file of the chunk, which `use` and `words ... from` can read; `policy.route` is the
chunk's first. To write a chunk, leave the marks out, run the test, and copy what its failure prints, if it is right.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from policyroute.language import check_text
from policyroute.language.codes import CODES
from policyroute.language.diagnostics import Diagnostic
from policyroute.language.load import Checked

CORPUS = Path(__file__).parent / "corpus"
_MARK = re.compile(r'([a-z0-9-]+) ("(?:[^"\\]|\\.)*") *(.*?)(?: *; help: (.*))?')
_FILE = re.compile(r"^== (\S+) ==\n", re.MULTILINE)
_HOLE = "# <chunk>\n"


@dataclass(frozen=True)
class Wanted:
    """One mark; `line` counts from 1 in the file `file` of the checked chunk."""

    file: str
    line: int
    code: str
    text: str
    message: str
    help: str


@dataclass(frozen=True)
class Chunk:
    """A chunk with its marks cut off: the text of each of its files, and what is wanted of it."""

    place: str
    files: dict[str, str]
    wanted: tuple[Wanted, ...]


def chunks(path: Path) -> Iterator[Chunk]:
    """The chunks of a corpus file."""
    before, after, line = "", "", 1
    for number, text in enumerate(path.read_text("utf-8").split("\n---\n")):
        text = text.rstrip("\n") + "\n"
        if number == 0 and text.startswith("# prelude\n"):
            before, after = text.split(_HOLE)
        else:
            yield _chunk(f"{path.stem}:{line}", text, *(("", "") if text.startswith("# whole\n") else (before, after)))
        line += text.count("\n") + 1


def _chunk(place: str, text: str, before: str, after: str) -> Chunk:
    main, *others = _FILE.split(text)
    parts = {"policy.route": before + main + after} | dict(zip(others[::2], others[1::2], strict=True))
    wanted = tuple(mark for name, part in parts.items() for mark in _marks(name, part))
    return Chunk(place, {name: re.sub(r" *###.*", "", part) for name, part in parts.items()}, wanted)


def _marks(file: str, text: str) -> Iterator[Wanted]:
    for number, line in enumerate(text.split("\n"), 1):
        for mark in line.split("###")[1:]:
            found = _MARK.fullmatch(mark.strip())
            assert found, f"not a mark: {mark.strip()}"
            yield Wanted(file, number, found[1], json.loads(found[2]), found[3] or "", found[4] or "")


def check(chunk: Chunk) -> Checked:
    """The chunk checked; its files are read from memory."""

    def read(path: Path) -> str:
        name = os.path.normpath(path)
        if name not in chunk.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return chunk.files[name]

    return check_text(chunk.files["policy.route"], "policy.route", Path(), read)


def _wants(checked: Checked, wanted: Wanted, found: Diagnostic) -> bool:
    source = checked.sources[found.span.file]
    return (
        (wanted.file, wanted.code, wanted.text) == (source.name, found.code, source.text[found.span.start : found.span.end])
        and wanted.line == source.position(found.span.start)[0]
        and re.search(wanted.message, found.message) is not None
        and re.search(wanted.help, found.help) is not None
    )


def written(checked: Checked, found: Diagnostic) -> str:
    """A diagnostic as a mark, with its place."""
    source = checked.sources[found.span.file]
    line, _ = source.position(found.span.start)
    text = json.dumps(source.text[found.span.start : found.span.end], ensure_ascii=False)
    return f"{source.name}:{line}  ### {found.code} {text} {_plain(found.message)} ; help: {_plain(found.help)}"


def _plain(text: str) -> str:
    return re.sub(r"[\\.^$*+?{}\[\]|()]", ".", text)


CHUNKS = [chunk for path in sorted(CORPUS.glob("*.route")) for chunk in chunks(path)]


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk.place)
def test_chunk(chunk: Chunk) -> None:
    """Exactly the wanted diagnostics are found, at their places, with code, message and help."""
    checked = check(chunk)
    left = list(chunk.wanted)
    surplus: list[str] = []
    for found in checked.diagnostics:
        mark = next((wanted for wanted in left if _wants(checked, wanted, found)), None)
        if mark is None:
            surplus.append(written(checked, found))
        else:
            left.remove(mark)
    assert not surplus and not left, "\n".join(["", *(f"not wanted: {one}" for one in surplus), *(f"not found: {m}" for m in left)])
    assert checked.failed == bool(chunk.wanted)


def test_every_code_is_provoked() -> None:
    """Each code of the checker has a chunk that wants it."""
    elsewhere = {"price-not-found", "signal-not-in-trace", "not-replayed"}  # found with the price library, or in a replay
    elsewhere |= {code for code, row in CODES.items() if row.number.startswith("PR7")}  # test_analysis_corpus.py
    assert {wanted.code for chunk in CHUNKS for wanted in chunk.wanted} == CODES.keys() - elsewhere


def test_corpus_is_read() -> None:
    """The corpus has accepted and refused chunks, and no mark was lost, such as one in a prelude."""
    assert len(CHUNKS) >= 80
    assert sum(not chunk.wanted for chunk in CHUNKS) >= 20
    marks = sum(path.read_text("utf-8").count("### ") for path in CORPUS.glob("*.route"))
    assert marks == sum(len(chunk.wanted) for chunk in CHUNKS)
