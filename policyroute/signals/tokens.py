"""Exact counts of byte-pair tokens, without network.

Rules of this module
- A count is the length of tiktoken's `encode_ordinary`: text such as `<|endoftext|>` is plain text. A lone surrogate (a JSON
  body may hold `"\\ud800"`) counts as U+FFFD, as tiktoken counts it.
- The vocabulary is rebuilt from the tables that the quicktok-v1 package carries and is used only when its SHA-256 is the one
  that OpenAI publishes. tiktoken is given these ranks; it would download them otherwise.
- Three counters, fastest first: gigatoken (extra `fast`), quicktok, tiktoken (the reference). A young library is used only
  after it has reproduced the recorded counts of `probes.PROBES`; otherwise the next one is, and `Counter.reason` says why.
- `POLICYROUTE_TOKENIZER` (gigatoken, quicktok or tiktoken) forces one; it is an error if that one can't be used.
- A counter is loaded on first use, once per process and encoding.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from policyroute.signals.probes import PROBES

if TYPE_CHECKING:
    import tiktoken

Encoding = Literal["o200k_base", "cl100k_base"]
Name = Literal["gigatoken", "quicktok", "tiktoken"]

ENCODING: Encoding = "o200k_base"  # the unit of the signal `tokens`
VARIABLE = "POLICYROUTE_TOKENIZER"
LONGEST = 128  # bytes of the longest token of either encoding (a run of spaces)


class TokenizerError(Exception):
    """No counter can be used, or the forced one can't."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What defines an encoding besides its ranks: their number, the file's SHA-256, the split pattern, gigatoken's name for it."""

    size: int
    sha256: str
    pattern: str
    gigatoken: str


# Patterns and digests as tiktoken's `openai_public` has them (MIT); a test compares them.
_TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SCHEMES: dict[Encoding, Scheme] = {
    "o200k_base": Scheme(
        199_998,
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "|".join(
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _TAIL,
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _TAIL,
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        "o200k",
    ),
    "cl100k_base": Scheme(
        100_256,
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "cl100k",
    ),
}


@dataclass(frozen=True, slots=True)
class Counter:
    """A loaded tokenizer. `count` takes any string; `reason` says why it was taken and why those before it were not."""

    name: Name
    encoding: Encoding
    reason: str
    count: Callable[[str], int]


def count(text: str, encoding: Encoding = ENCODING) -> int:
    """Number of tokens of `text`, exact.

    Raises TokenizerError when no tokenizer can be used.
    """
    return counter(encoding).count(text)


def counter(encoding: Encoding = ENCODING) -> Counter:
    """The counter of this process for `encoding`. Raises TokenizerError when none can be used."""
    loaded = _loaded.get(encoding)
    if loaded is not None:
        return loaded
    with _lock:
        if encoding not in _loaded:
            _loaded[encoding] = choose(encoding, os.environ.get(VARIABLE, ""))
        return _loaded[encoding]


def choose(encoding: Encoding, forced: str = "") -> Counter:
    """Load the first counter that passes its check, or the one that is `forced`. Raises TokenizerError."""
    if forced and forced not in get_args(Name):
        raise TokenizerError(f"{VARIABLE} is {forced!r}; it can be {', '.join(get_args(Name))}")
    refused: list[str] = []
    for name, load in _LOADERS.items():
        if forced and name != forced:
            continue
        try:
            candidate = tolerant(load(encoding))
            wrong = mismatch(candidate, encoding)
        except (ImportError, OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, TokenizerError) as error:
            refused.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if not wrong:
            return Counter(name, encoding, "; ".join([*refused, f"{name} reproduces {len(PROBES)} recorded counts"]), candidate)
        refused.append(f"{name}: {wrong}")
    raise TokenizerError(f"no tokenizer for {encoding} ({'; '.join(refused)})")


def mismatch(candidate: Callable[[str], int], encoding: Encoding) -> str:
    """The first recorded count that `candidate` does not reproduce, in words; empty where it reproduces all."""
    column = get_args(Encoding).index(encoding)
    for text, *counts in PROBES:
        if (found := candidate(text)) != counts[column]:
            return f"counts {found} for {text[:24]!r}, which has {counts[column]} tokens"
    return ""


def tolerant(exact: Callable[[str], int]) -> Callable[[str], int]:
    """`exact` for any string: libraries refuse lone surrogates."""

    def counted(text: str) -> int:
        try:
            return exact(text)
        except (UnicodeError, TypeError):
            return exact(sanitise(text))

    return counted


def sanitise(text: str) -> str:
    """`text` as valid Unicode: surrogate pairs joined, a lone surrogate replaced by U+FFFD (tiktoken's rule)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def size(text: str) -> int:
    """Bytes of `text` in UTF-8, as they are counted."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return len(sanitise(text).encode())


def vocabulary(encoding: Encoding) -> bytes:
    """The rank file of `encoding`, byte for byte as OpenAI publishes it: base64 of a token's bytes, a space, its rank.

    Raises TokenizerError when the rebuilt file's SHA-256 is not the published one, ImportError without quicktok-v1.
    """
    import quicktok

    scheme = SCHEMES[encoding]
    table = quicktok.get_encoding(encoding)
    ranks = b"".join(b"%b %d\n" % (b64encode(table.decode_single_token_bytes(rank)), rank) for rank in range(scheme.size))
    if hashlib.sha256(ranks).hexdigest() != scheme.sha256:
        raise TokenizerError(f"the tables of quicktok-v1 are not {encoding} as OpenAI publishes it")
    return ranks


def reference(encoding: Encoding = ENCODING) -> tiktoken.Encoding:
    """tiktoken's encoding without special tokens, built from `vocabulary`. Takes about half a second; keep it."""
    import tiktoken
    import tiktoken.load

    with tempfile.TemporaryDirectory() as folder:
        ranks = tiktoken.load.load_tiktoken_bpe(str(_written(folder, encoding)))
    return tiktoken.Encoding(encoding, pat_str=SCHEMES[encoding].pattern, mergeable_ranks=ranks, special_tokens={})


def _written(folder: str, encoding: Encoding) -> Path:
    path = Path(folder) / f"{encoding}.tiktoken"
    path.write_bytes(vocabulary(encoding))
    return path


def _gigatoken(encoding: Encoding) -> Callable[[str], int]:
    import gigatoken

    with tempfile.TemporaryDirectory() as folder:
        path = _written(folder, encoding)
        # Named special tokens would be found in plain text and counted as one; hence none.
        encode = gigatoken.Tokenizer.from_tiktoken(path, pretokenizer=SCHEMES[encoding].gigatoken, special_tokens={}).encode
    return lambda text: len(encode(text))


def _quicktok(encoding: Encoding) -> Callable[[str], int]:
    import quicktok

    counted: Callable[[str], int] = quicktok.get_encoding(encoding).count
    return counted


def _tiktoken(encoding: Encoding) -> Callable[[str], int]:
    encode = reference(encoding).encode_ordinary
    return lambda text: len(encode(text))


_LOADERS: dict[Name, Callable[[Encoding], Callable[[str], int]]] = {
    "gigatoken": _gigatoken,
    "quicktok": _quicktok,
    "tiktoken": _tiktoken,
}
_loaded: dict[Encoding, Counter] = {}
_lock = threading.Lock()


class Remembered:
    """Counts of texts that come again, as a conversation's do, within bounds.

    Texts below `SHORT` characters are counted each time: that is as fast as finding them. Others are known by 16 bytes of
    BLAKE2b, so that the memory holds no text. Two generations of at most `limit` counts: a full one replaces the older.
    """

    SHORT = 256
    __slots__ = ("_count", "_limit", "_older", "_younger")

    def __init__(self, counted: Callable[[str], int], limit: int = 50_000) -> None:
        self._count = counted
        self._limit = limit
        self._younger: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}

    def __call__(self, text: str) -> int:
        if len(text) < self.SHORT:
            return self._count(text)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        younger, older = self._younger, self._older  # one reading each: another thread may turn them over
        found = younger.get(key)
        if found is None:
            found = older.get(key)
            found = self._count(text) if found is None else found
            if len(younger) >= self._limit:
                self._older, self._younger = younger, {}
            self._younger[key] = found
        return found

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)


counted = Remembered(count)  # the count of ENCODING, remembered for this process
