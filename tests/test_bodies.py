"""Reading a request's body: lengths that lie, clients that leave, and what is compressed."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.proxy.bodies import PIECE, BodyError, read_body

BODY = json.dumps({"messages": [{"role": "user", "content": "héllo " * 300}]}).encode()
LIMIT = 10_000


class Input:
    """A body as a server gives it: in pieces, and at its end nothing more, or an error."""

    def __init__(self, data: bytes, piece: int = 1 << 30, error: Exception | None = None) -> None:
        self.file, self.piece, self.error, self.taken = io.BytesIO(data), piece, error, 0

    def read(self, size: int) -> bytes:
        found = self.file.read(min(size, self.piece))
        self.taken += len(found)
        if not found and self.error is not None:
            raise self.error
        return found


def environ(data: bytes | Input, length: object = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"wsgi.input": Input(data) if isinstance(data, bytes) else data, **more}
    return found if length is None else found | {"CONTENT_LENGTH": str(length)}


def failing(found: dict[str, Any], limit: int = LIMIT, inflated: int = LIMIT) -> tuple[int, str]:
    with pytest.raises(BodyError) as caught:
        read_body(found, limit, inflated)
    return caught.value.status, caught.value.code


def bare(data: bytes) -> bytes:
    making = zlib.compressobj(wbits=-15)
    return making.compress(data) + making.flush()


ENDS = {"wsgi.input_terminated": True}
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked"}

READ = [
    (environ(BODY, len(BODY)), BODY),
    (environ(BODY + b"next request", len(BODY)), BODY),
    (environ(BODY, **ENDS), BODY),
    (environ(BODY, **CHUNKED), BODY),
    (environ(BODY, 3, **CHUNKED), BODY),
    (environ(BODY), b""),
    (environ(BODY, ""), b""),
    (environ(BODY, 0), b""),
    (environ(b"", **ENDS), b""),
    (environ(Input(BODY, 7), len(BODY)), BODY),
    (environ(Input(BODY, 7), **ENDS), BODY),
    (environ(b"x" * LIMIT, LIMIT), b"x" * LIMIT),
    (environ(BODY, len(BODY), HTTP_CONTENT_ENCODING=" Identity, "), BODY),
]


@pytest.mark.parametrize(("found", "wanted"), READ)
def test_bodies(found: dict[str, Any], wanted: bytes) -> None:
    assert read_body(found, LIMIT, LIMIT) == wanted


REFUSED = [
    (environ(BODY, len(BODY) + 1), (400, "body_cut")),
    (environ(b"", 5), (400, "body_cut")),
    (environ(Input(BODY, error=ConnectionResetError()), len(BODY) + 1), (400, "body_cut")),
    (environ(Input(BODY, error=OSError("bad chunk")), **CHUNKED), (400, "body_cut")),
    (environ(Input(BODY, error=TimeoutError()), **CHUNKED), (408, "body_timeout")),
    (environ(BODY, "-1"), (400, "invalid_length")),
    (environ(BODY, "+5"), (400, "invalid_length")),
    (environ(BODY, "5, 5"), (400, "invalid_length")),
    (environ(BODY, "٣"), (400, "invalid_length")),
    (environ(BODY, "9" * 5_000), (400, "invalid_length")),
    (environ(b"x" * (LIMIT + 1), LIMIT + 1), (413, "request_too_large")),
    (environ(b"x" * (LIMIT + 1), **CHUNKED), (413, "request_too_large")),
    (environ(Input(b"x" * (LIMIT + 1), 9, ConnectionResetError()), **CHUNKED), (413, "request_too_large")),
    (environ(b"x", LIMIT * 99), (413, "request_too_large")),
    (environ(BODY, len(BODY), HTTP_CONTENT_ENCODING="br"), (415, "unsupported_encoding")),
    (environ(BODY, len(BODY), HTTP_CONTENT_ENCODING="zstd"), (415, "unsupported_encoding")),
    (environ(BODY, len(BODY), HTTP_CONTENT_ENCODING="gzip, gzip"), (415, "unsupported_encoding")),
]


@pytest.mark.parametrize(("found", "wanted"), REFUSED)
def test_refused(found: dict[str, Any], wanted: tuple[int, str]) -> None:
    assert failing(found) == wanted


def test_a_servers_own_error_for_bad_chunks() -> None:
    errors = pytest.importorskip("gunicorn.http.errors", reason="gunicorn is not installed")
    for error in (errors.InvalidChunkSize(b"zz"), errors.ChunkMissingTerminator(b"zz")):
        assert failing(environ(Input(BODY, error=error), **CHUNKED)) == (400, "body_cut")


@pytest.mark.parametrize(
    ("size", "more", "taken"),
    [
        (LIMIT + 500, {}, LIMIT + 500),  # read to its end, so that the client sees the answer
        (LIMIT * 3, {}, 0),  # no end in sight
        (LIMIT + 500, {"HTTP_EXPECT": "100-continue"}, 0),  # the client waits for our word
    ],
)
def test_what_is_read_of_a_body_that_is_too_large(size: int, more: dict[str, Any], taken: int) -> None:
    sent = Input(b"x" * size)
    assert failing(environ(sent, size, **more)) == (413, "request_too_large")
    assert sent.taken == taken


def test_a_body_without_an_end_is_not_read_for_ever() -> None:
    sent = Input(b"x" * (LIMIT * 50), 100)
    assert failing(environ(sent, **CHUNKED)) == (413, "request_too_large")
    assert LIMIT < sent.taken <= 2 * LIMIT + 200


ENCODED = [
    ("gzip", gzip.compress(BODY, mtime=0)),
    ("x-gzip", gzip.compress(BODY, mtime=0)),
    ("GZIP", gzip.compress(BODY, mtime=0)),
    ("deflate", zlib.compress(BODY)),
    ("deflate", bare(BODY)),
]


@pytest.mark.parametrize(("name", "data"), ENCODED)
@pytest.mark.parametrize("piece", [1, 2, 1 << 30])
def test_compressed(name: str, data: bytes, piece: int) -> None:
    more = {"HTTP_CONTENT_ENCODING": name}
    assert read_body(environ(Input(data, piece), len(data), **more), LIMIT, LIMIT) == BODY
    assert failing(environ(Input(data, piece), len(data), **more), inflated=len(BODY) - 1) == (413, "request_too_large")
    assert read_body(environ(Input(data, piece), len(data), **more), LIMIT, len(BODY)) == BODY
    for cut in (1, len(data) // 2, len(data) - 1):
        assert failing(environ(Input(data[:cut], piece), cut, **more)) == (400, "invalid_encoding")
    longer = data + b"x"
    assert failing(environ(Input(longer, piece), len(longer), **more)) == (400, "invalid_encoding")


@pytest.mark.parametrize(
    "data",
    [
        BODY[:99],
        gzip.compress(BODY, mtime=0)[:-8] + bytes(8),
        gzip.compress(BODY, mtime=0) * 2,
        gzip.compress(b"", mtime=0) * 1_000,
    ],
)
def test_corrupt(data: bytes) -> None:
    assert failing(environ(data, len(data), HTTP_CONTENT_ENCODING="gzip"), 1 << 20, 1 << 20) == (400, "invalid_encoding")


def test_an_empty_body_is_no_broken_one() -> None:
    assert read_body(environ(b"", 0, HTTP_CONTENT_ENCODING="gzip"), LIMIT, LIMIT) == b""


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    try:
        assert failing(environ(bomb, len(bomb), HTTP_CONTENT_ENCODING="gzip"), 1 << 20, 1 << 20) == (413, "request_too_large")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=600), st.sampled_from(["", "gzip", "deflate"]), st.integers(1, 50), st.booleans())
def test_any_bytes_are_a_body_or_a_body_error(data: bytes, encoding: str, piece: int, chunked: bool) -> None:
    found = environ(
        Input(data, piece), None if chunked else len(data), HTTP_CONTENT_ENCODING=encoding, **(CHUNKED if chunked else {})
    )
    try:
        assert len(read_body(found, 500, 700)) <= 700
    except BodyError as error:
        assert error.status in (400, 413)


@given(st.binary(max_size=2_000), st.sampled_from(["gzip", "deflate", "bare"]), st.integers(1, 300))
def test_what_was_compressed_comes_back(data: bytes, how: str, piece: int) -> None:
    sent = gzip.compress(data, mtime=0) if how == "gzip" else zlib.compress(data) if how == "deflate" else bare(data)
    found = environ(Input(sent, piece), len(sent), HTTP_CONTENT_ENCODING="gzip" if how == "gzip" else "deflate")
    assert read_body(found, PIECE, PIECE) == data
