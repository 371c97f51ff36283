"""Token counts: equal to tiktoken's on any string, whichever library counts; published vocabulary; bounded memory."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
import tiktoken_ext.openai_public
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.signals import tokens
from policyroute.signals.probes import PROBES
from policyroute.signals.tokens import ENCODING, LONGEST, SCHEMES, Encoding, Name, Remembered, TokenizerError

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
LIBRARIES: tuple[Name, ...] = get_args(Name)
REFERENCE = {encoding: tokens.reference(encoding) for encoding in ENCODINGS}

# Strings on which tokenizers differ: all of Unicode with lone surrogates, and pieces that the split patterns treat apart.
PIECES = st.sampled_from(
    [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "'s", "'LL", "'\u017f", "\u212a", "<|endoftext|>", "<|im_start|>", "123",
     "4567", "a", "Ab", "ABc", "é", "e\u0301", "漢字", "한", "ไทย", "👩\u200d👧", "🇩🇪", "\ud800", "\udc00", "/", "//\n", "==", "_",
     "\x00", "\ufeff"]
)  # fmt: skip
HOSTILE = st.one_of(
    st.text(st.characters(codec=None)), st.lists(PIECES, max_size=40).map("".join), st.text(" \n\t\r", max_size=300)
)


def truth(text: str, encoding: Encoding) -> int:
    return len(REFERENCE[encoding].encode_ordinary(text))


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Name:
    if request.param == "gigatoken":
        pytest.importorskip("gigatoken", reason="extra `fast` is not installed")
    return request.param


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_vocabulary_is_the_published_file(encoding: Encoding) -> None:
    assert hashlib.sha256(tokens.vocabulary(encoding)).hexdigest() == SCHEMES[encoding].sha256


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_schemes_are_those_of_tiktoken(encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        asked.append(expected_hash)
        return {}

    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", load)
    constructed = getattr(tiktoken_ext.openai_public, encoding)()
    assert constructed["pat_str"] == SCHEMES[encoding].pattern
    assert asked == [SCHEMES[encoding].sha256]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_recorded_counts_are_those_of_tiktoken(encoding: Encoding) -> None:
    column = 1 + ENCODINGS.index(encoding)
    assert [row[column] for row in PROBES] == [truth(row[0], encoding) for row in PROBES]
    assert len(PROBES) >= 40


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_token_is_longer_than_the_bound_needs(encoding: Encoding) -> None:
    table = REFERENCE[encoding]
    assert max(map(len, table.token_byte_values())) == LONGEST


@settings(max_examples=300, deadline=None)
@given(text=HOSTILE)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_library_counts_as_tiktoken(library: Name, encoding: Encoding, text: str) -> None:
    assert _counter(library, encoding).count(text) == truth(text, encoding)


_COUNTERS: dict[tuple[Name, Encoding], tokens.Counter] = {}


def _counter(library: Name, encoding: Encoding) -> tokens.Counter:
    if (library, encoding) not in _COUNTERS:
        _COUNTERS[library, encoding] = tokens.choose(encoding, library)
    return _COUNTERS[library, encoding]


@pytest.mark.parametrize(
    "text", ["a" * 20_000, " " * 20_000, "ab" * 10_000, "\n" * 5_000, "漢" * 5_000], ids=lambda text: repr(text[:2])
)
def test_pathological_texts(library: Name, text: str) -> None:
    assert _counter(library, ENCODING).count(text) == truth(text, ENCODING)


@given(text=HOSTILE)
def test_size_bounds_the_count(text: str) -> None:
    size, count = tokens.size(text), truth(text, ENCODING)
    assert -(-size // LONGEST) <= count <= size


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("abc", 3), ("é", 2), ("\ud800", 3), ("\ud83d\ude00", 4), ("a\udc00", 4)], ids=ascii
)
def test_size(text: str, size: int) -> None:
    assert tokens.size(text) == size


# -- choice --------------------------------------------------------------------------------------------------------


def test_special_token_text_is_plain_text() -> None:
    assert tokens.count("<|endoftext|>") == truth("<|endoftext|>", ENCODING) > 1


def test_the_first_that_can_be_used_is_taken() -> None:
    counter = tokens.counter()
    assert counter is tokens.counter()
    assert "recorded counts" in counter.reason


def test_a_library_that_miscounts_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(encoding: Encoding) -> object:
        return lambda text: len(text) // 4

    monkeypatch.setitem(tokens._LOADERS, "gigatoken", short)
    counter = tokens.choose(ENCODING)
    assert counter.name == "quicktok"
    assert counter.reason.startswith("gigatoken: counts 0 for 'a', which has 1 tokens; quicktok")


def test_a_library_that_is_missing_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(encoding: Encoding) -> object:
        raise ImportError("No module named 'gigatoken'")

    monkeypatch.setitem(tokens._LOADERS, "gigatoken", missing)
    monkeypatch.setitem(tokens._LOADERS, "quicktok", missing)
    counter = tokens.choose(ENCODING)
    assert counter.name == "tiktoken"
    assert "gigatoken: ImportError" in counter.reason


def test_other_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tables:
        def decode_single_token_bytes(self, rank: int) -> bytes:
            return b"x"

    monkeypatch.setattr("quicktok.get_encoding", lambda name: Tables())
    with pytest.raises(TokenizerError, match="not o200k_base as OpenAI publishes it"):
        tokens.vocabulary(ENCODING)


@pytest.mark.parametrize("forced", ["quicktok", "tiktoken"])
def test_a_library_can_be_forced(forced: str) -> None:
    assert tokens.choose(ENCODING, forced).name == forced


def test_the_variable_forces_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_loaded", {})
    monkeypatch.setenv("POLICYROUTE_TOKENIZER", "quicktok")
    assert tokens.counter().name == "quicktok"


def test_an_unknown_library_is_an_error() -> None:
    with pytest.raises(TokenizerError, match="POLICYROUTE_TOKENIZER is 'bert'; it can be gigatoken, quicktok, tiktoken"):
        tokens.choose(ENCODING, "bert")


def test_a_forced_library_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens._LOADERS, "quicktok", lambda encoding: len)
    with pytest.raises(TokenizerError, match="no tokenizer for o200k_base"):
        tokens.choose(ENCODING, "quicktok")


def test_threads_share_one_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_loaded", {})
    texts = [f"text {number} " * (number % 50) for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        counters = set(map(id, pool.map(lambda _: tokens.counter(), range(16))))
        counts = list(pool.map(tokens.count, texts))
    assert len(counters) == 1
    assert counts == [truth(text, ENCODING) for text in texts]


# -- memory --------------------------------------------------------------------------------------------------------


def test_a_long_text_is_counted_once() -> None:
    asked: list[str] = []
    remembered = Remembered(lambda text: asked.append(text) or len(text))
    long = "word " * 100
    assert [remembered(long), remembered(long + ""), remembered("short"), remembered("short")] == [500, 500, 5, 5]
    assert asked == [long, "short", "short"]


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    asked: list[str] = []
    remembered = Remembered(lambda text: asked.append(text) or len(text), limit=10)
    used = "u" * 300
    for number in range(100):
        remembered(used)
        remembered(f"{number} " * 300)
        assert len(remembered) <= 20
    assert asked.count(used) <= 1


@given(text=HOSTILE)
def test_memory_takes_any_string(text: str) -> None:
    assert Remembered(len)(text * 60) == len(text) * 60
