"""Word sets and patterns: the stated meaning, in the live scanner and in DuckDB."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.policy import TextSet
from policyroute.signals.text import Scanner, ScannerError, expression, pattern_error

# phrase, text, whether it occurs
MEANING = [
    ("outage", "an outage", True),
    ("outage", "OUTAGE!", True),
    ("outage", "outages", False),
    ("outage", "out age", False),
    ("outage", "", False),
    ("outage", "x_outage", False),
    ("outage", "2outage", False),
    ("outage", "(outage)", True),
    ("outage", "pre-outage", True),
    ("data loss", "DATA\n\t loss", True),
    ("data loss", "data\u00a0loss", True),
    ("data loss", "data\u3000\u2028loss", True),
    ("data loss", "dataloss", False),
    ("data loss", "data-loss", False),
    ("data  loss", "data loss", True),
    (" data loss ", "data loss", True),
    ("c++", "I like C++.", True),
    ("c++", "c++11", True),
    ("c++", "ac++", False),
    ("c++", "c+", False),
    ("#bug", "a#bug here", True),
    ("#bug", "#bugs", False),
    (".net", "asp.net", True),
    ("a.b", "axb", False),
    ("a|b", "a", False),
    ("(x)", "f(X)", True),
    ("50%", "at 50%!", True),
    ("\\d", "5", False),
    ("\\d", "a \\D b", True),
    ("привет", "ПРИВЕТ, мир", True),
    ("привет", "приветик", False),
    ("éclair", "ÉCLAIR", True),
    ("éclair", "E\u0301CLAIR", False),  # nothing is normalised
    ("image", "éimage", False),
    ("σ", "ς", True),
    ("Σ", "σ", True),
    ("kelvin", "\u212aelvin", True),
    ("sum", "\u017fum", True),
    ("straße", "STRAẞE", True),
    ("strasse", "straße", False),
    ("istanbul", "İstanbul", False),
    ("日本", "これは日本です", True),
    ("カード", "クレジットカード番号", True),
    ("결제", "결제가안돼요", True),
    ("日本x", "日本xy", False),
    ("日本x", "これは日本x。", True),
    ("x日本", "ax日本", False),
    ("🔥", "x🔥x", True),
    ("_", "a _ b", True),
    ("_", "a_b", False),
    ("a\x00b", "a\x00b", True),
    ("\ufffd", "\ud800", True),
    ("ok", "\ud83d\ude00 ok", True),
]


def duck(text: str, source: str) -> bool:
    row = duckdb.execute("SELECT regexp_matches(?, ?)", [text, source]).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize(("phrase", "text", "occurs"), MEANING, ids=lambda value: ascii(value))
def test_meaning_of_words(phrase: str, text: str, occurs: bool) -> None:
    words = TextSet("w", (phrase,))
    assert Scanner([words]).mask(text) == int(occurs)


@pytest.mark.parametrize(
    ("phrase", "text", "occurs"), [row for row in MEANING if not re.search("[\ud800-\udfff]", row[1])], ids=ascii
)
def test_duckdb_reads_words_alike(phrase: str, text: str, occurs: bool) -> None:
    assert duck(text, expression(TextSet("w", (phrase,)))) == occurs


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"(?i)traceback|^\s+at .+\(.+:\d+\)", "Traceback (most recent call last)", True),
        (r"^\s+at .+\(.+:\d+\)", "  at f(a.js:10)", True),
        (r"^at", "x\nat", False),
        (r"(?m)^at", "x\nat", True),
        (r"a.b", "a\nb", False),
        (r"(?s)a.b", "a\nb", True),
        (r"ABC", "abc", False),
        (r"x$", "x\n", False),
        (r"\d{3}-\d{2}", "call 123-45", True),
        (r"^$", "", True),
        (r"^$", "a", False),
    ],
)
def test_patterns_are_re2_as_they_stand(pattern: str, text: str, matches: bool) -> None:
    found = Scanner([TextSet("p", pattern=pattern), TextSet("other", ("never",))]).mask(text)
    assert found == int(matches)
    assert duck(text, expression(TextSet("p", pattern=pattern))) == matches


def test_bits_are_in_the_order_of_the_sets() -> None:
    scanner = Scanner([TextSet("a", ("one", "uno")), TextSet("b", ("two",)), TextSet("c", pattern=r"\d")])
    assert [scanner.mask(text) for text in ("uno", "two", "3", "one two 3", "none")] == [1, 2, 4, 7, 0]
    assert scanner.names(5) == ("a", "c")


def test_no_sets_and_empty_sets() -> None:
    assert Scanner([]).mask("text") == 0
    assert Scanner([TextSet("e"), TextSet("blank", ("", "  "))]).mask("any text") == 0


def test_more_sets_than_a_machine_word() -> None:
    scanner = Scanner([TextSet(f"s{number}", (f"word{number}",)) for number in range(200)])
    assert scanner.mask("word199 and word0") == 1 | 1 << 199


@pytest.mark.parametrize("phrases", [500, 5_000])
def test_every_phrase_of_a_large_set_is_found(phrases: int) -> None:
    words = TextSet("large", tuple(f"needle{number} of hay" for number in range(phrases)))
    scanner = Scanner([TextSet("other", ("x",)), words])
    assert all(scanner.mask(f"a {phrase.upper()}.") == 2 for phrase in words.phrases[::97])
    assert scanner.mask("needle of hay") == 0


def test_threads_share_a_scanner() -> None:
    scanner = Scanner([TextSet(f"s{number}", (f"word{number}",)) for number in range(40)])
    with ThreadPoolExecutor(8) as pool:
        masks = list(pool.map(lambda number: scanner.mask(f"a word{number % 40} b"), range(2_000)))
    assert masks == [1 << number % 40 for number in range(2_000)]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [r"(?=a)", r"(a", r"\1", r"[z-a]", r"a**", r"(a{1000}){1000}", "\ud800"])
def test_what_re2_refuses_is_said(source: str) -> None:
    reason = pattern_error(source)
    assert reason
    assert "b'" not in reason


@pytest.mark.parametrize("source", ["a", r"\pL+", r"(?i)x|y", "", "é"])
def test_what_re2_takes(source: str) -> None:
    assert pattern_error(source) is None


def test_a_bad_pattern_names_its_set() -> None:
    with pytest.raises(ScannerError, match=r"RE2 refuses `broken`: missing \)"):
        Scanner([TextSet("fine", ("x",)), TextSet("broken", pattern="(a")])


def test_too_little_memory_is_an_error_not_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyroute.signals.text.MEMORY", 40_000)
    with pytest.raises(ScannerError):
        Scanner([TextSet("large", tuple(f"needle{number} of hay" for number in range(2_000)))])


def test_an_answer_without_the_sentinel_is_an_error() -> None:
    scanner = Scanner([TextSet("a", ("x",))])
    scanner._match = lambda text: None  # what the binding says when the automaton runs out of memory
    with pytest.raises(ScannerError, match="ran out of"):
        scanner.mask("x")


# -- agreement -----------------------------------------------------------------------------------------------------

LETTERS = st.sampled_from("aAbBkKsSıİéÉßẞσςΣ日ー한_1٣ \t\n\u00a0\u3000\u212a\u017f.+#|()[]\\^$*?-'\"%\x00🔥\u0301")
PHRASE = st.text(LETTERS, min_size=1, max_size=4)
BODY = st.text(LETTERS, max_size=12)


def plain(phrase: str, text: str) -> bool:
    """The meaning of `words` by Python's `re`, whose own case folding differs from RE2's only in İ and ı."""
    words = phrase.split()
    if not words:
        return False
    inner = r"[\s\x85]+".join(map(re.escape, words))
    word, unspaced = r"[^\W\u0300-\u036f]", "日ー한"
    left = "" if words[0][0] in unspaced or not re.match(word, words[0][0]) else r"(?<![^\W])"
    right = "" if words[-1][-1] in unspaced or not re.match(word, words[-1][-1]) else r"(?![^\W])"
    return re.search(left + inner + right, text, re.IGNORECASE) is not None


@given(phrases=st.lists(PHRASE, min_size=1, max_size=4), body=BODY)
def test_live_and_duckdb_agree(phrases: list[str], body: str) -> None:
    words = TextSet("w", tuple(phrases))
    text = body + phrases[0].swapcase() + body[:3]
    for probe in (body, text):
        assert bool(Scanner([words, TextSet("x", ("y",))]).mask(probe) & 1) == duck(probe, expression(words))


@given(phrase=PHRASE, body=BODY)
def test_words_agree_with_python(phrase: str, body: str) -> None:
    if set("İıi") & set(phrase + body):
        return
    text = body + phrase + body[::-1]
    assert Scanner([TextSet("w", (phrase,))]).mask(text) == int(plain(phrase, text))


@given(text=st.text(st.characters(codec=None)))
def test_any_text_can_be_scanned(text: str) -> None:
    scanner = Scanner([TextSet("p", pattern=r"(?s)^.*$"), TextSet("w", ("word",))])
    assert scanner.mask(text) == 1
    assert scanner.mask(text + " word") == 3
