"""Whatever the bytes: no watcher raises, no cut in transit changes what it does, and an edit of a body changes nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from policyroute.proxy.wire import body as bodies
from policyroute.proxy.wire.body import BadBody, parse
from policyroute.proxy.wire.errors import cause_of
from policyroute.proxy.wire.splice import _end_of_deep, members, with_model
from policyroute.proxy.wire.sse import Blocks, data_of, events
from policyroute.proxy.wire.surface import SURFACES, Watcher
from tests.wire_support import SAMPLES, cut, messages_blocks, values

# -- streams -----------------------------------------------------------------------------------------------------------

APIS = ("chat", "responses", "messages", "completions")
EVENTS = sorted({event + b"\n\n" for sample in SAMPLES.values() for event in sample.split(b"\n\n") if event})
ODD = st.sampled_from([
    b"data: [DONE]\n\n", b"data: {\n\n", b"data: [1]\n\n", b"data: null\n\n", b"data\n\n", b": ping\n\n", b"\n", b"\n\n", b"\r", b"\r\n",
    b"\r\n\r\n", b"\r\r", b"data: ", b"data:", b"event: error\n", b"id: 1\nretry: 3\n\n", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b'"error"',
    b'data: {"choices":[{"index":[],"delta":{"content":7},"finish_reason":{}}],"usage":{"prompt_tokens":-1}}\n\n',
    b'data: {"choices":{"0":1},"usage":[]}\n\n', b'data: {"choices":[null,1,{"delta":null}]}\n\n', b'data: {"error":{"code":true}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n',
    b'data: {"type":"message_start","message":[]}\n\n', b'data: {"type":"content_block_start","index":"x","content_block":7}\n\n',
    b'data: {"type":"content_block_start","index":3,"content_block":{"type":"text","text":"a"}}\n\n',
    b'data: {"type":"content_block_stop","index":9}\n\n', b'data: {"type":"message_delta","delta":[],"usage":{"output_tokens":1.5}}\n\n',
    b'data: {"type":[]}\n\n', b'data: {"type":"response.output_item.added","item":[]}\n\n', b'data: {"type":"response.created"}\n\n',
    b'data: {"type":"response.completed","response":{"usage":{"input_tokens":true}}}\n\n', b'data: {"type":"response.output_item.done"}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{}]}}]}\r\n\r\n', b'event: message_stop\ndata: {"type":"message_stop"}',
    b"data: " + b"[" * 3000 + b"\n\n",
])  # fmt: skip
PIECES = st.sampled_from(EVENTS) | ODD | st.binary(max_size=12)


@st.composite
def disturbed(draw: Any) -> bytes:
    """A recorded stream in which something was left out, put in or put elsewhere, with any kind of line ends."""
    found = list(events(draw(st.sampled_from(sorted(SAMPLES.values())))))
    for at in draw(st.lists(st.integers(0, 12), max_size=2)):
        found[at : at + draw(st.integers(0, 1))] = draw(st.lists(PIECES, max_size=2))
    return b"".join(found).replace(b"\n", draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])))


STREAMS = st.lists(PIECES, max_size=14).map(b"".join) | disturbed()
FIELDS = st.sampled_from([
    {}, {"n": 2}, {"n": True}, {"stream_options": {"include_usage": True}}, {"stream_options": 7}, {"n": 10**9},
])  # fmt: skip
FIRST = {"chat": b" capital", "responses": b'"Hello"', "messages": b"Hello", "completions": b"Hello"}


def watcher_of(api: str, fields: dict[str, Any], keep: bool, longest: int, mode: str) -> Watcher:
    """A watcher; with a mode, one that is joined to a stream that broke."""
    watcher = SURFACES[api].watcher(fields, keep_text=keep)
    watcher.longest = longest
    if mode and watcher.restartable:
        previous = SURFACES[api].watcher(fields, keep_text=keep)
        previous.feed(cut(SAMPLES.get(api, b"Hello\n\n"), FIRST[api]))
        watcher.join(previous, continued=mode == "continue")
    return watcher


def told(watcher: Watcher, pieces: Iterable[bytes]) -> tuple[object, ...]:
    """All that a watcher says of a stream that comes in pieces."""
    out = b"".join(watcher.feed(piece) for piece in pieces)
    ends = (watcher.ended, watcher.over)
    rest = watcher.rest()
    assert not watcher.failure or cause_of(watcher.failure).isidentifier() or cause_of(watcher.failure).isdecimal()
    return (
        out, rest, ends, watcher.usage, watcher.finish_reason, watcher.response_model, watcher.tool_begun, watcher.delivered,
        watcher.failure, watcher.error_event, watcher.begun, watcher.text,
    )  # fmt: skip


@given(
    st.sampled_from(APIS), STREAMS, FIELDS, st.booleans(), st.sampled_from([1 << 24, 700, 40]),
    st.sampled_from(["", "", "restart", "continue"]), st.lists(st.integers(0, 4000), max_size=6),
)  # fmt: skip
@example("chat", b'data: {"choices":[{"delta":{"content":"a"}}]}\r\r\n', {}, False, 1 << 24, "", [])
@example(
    "chat",
    b"".join(
        b'data: {"model":"%b","choices":[{"delta":{"content":"%b"}}]}\n\n' % pair
        for pair in ((b"a", b"x"), (b"a", b"[DONE]"), (b"b", b"y"))
    ),
    {},
    False,
    1 << 24,
    "",
    [],
)
def test_however_a_stream_is_cut(
    api: str, stream: bytes, fields: dict[str, Any], keep: bool, longest: int, mode: str, cuts: list[int]
) -> None:
    """One piece, any pieces, single bytes: the same is passed on, and the same is told."""
    places = sorted({0, *(place for place in cuts if place < len(stream)), len(stream)})
    pieces = [stream[low:high] for low, high in pairwise(places)]
    whole = told(watcher_of(api, fields, keep, longest, mode), [stream])
    assert told(watcher_of(api, fields, keep, longest, mode), pieces) == whole
    assert told(watcher_of(api, fields, keep, longest, mode), (stream[at : at + 1] for at in range(len(stream)))) == whole


@given(st.sampled_from(APIS), STREAMS, FIELDS)
def test_what_is_passed_on_is_the_upstreams(api: str, stream: bytes, fields: dict[str, Any]) -> None:
    """No byte is changed or added: what is passed on is the stream's events in order, some left out."""
    out = SURFACES[api].watcher(fields).feed(stream)
    sent = list(events(stream))
    for event in events(out):
        assert event in sent
        sent = sent[sent.index(event) + 1 :]


@given(st.sampled_from(APIS), STREAMS, st.sampled_from(["", "restart", "continue"]))
def test_a_cut_stream_can_always_be_ended(api: str, stream: bytes, mode: str) -> None:
    """`finishing` and `failing` never raise, and what they add is whole events of JSON."""
    watcher = watcher_of(api, {}, True, 1 << 24, mode)
    watcher.feed(stream)
    for event in values(watcher.failing("no \u2028 \ud83d", "cut")):
        assert "error" in json.dumps(event)
    list(events(watcher.finishing()))


@given(st.integers(0, 6), st.integers(0, 14), st.booleans())
def test_joined_messages_keep_the_order_of_events(first: int, second: int, continued: bool) -> None:
    """Wherever the first stream and then the second breaks, the client sees one well-formed message."""
    out, previous = b"", SURFACES["messages"].watcher({}, keep_text=True)
    out += previous.feed(b"".join(list(events(SAMPLES["messages"]))[: 4 + first % 3]))
    watcher = SURFACES["messages"].watcher({}, keep_text=True)
    watcher.join(previous, continued=continued)
    out += watcher.feed(b"".join(list(events(SAMPLES["messages_tools"]))[:second]))
    messages_blocks(out + (b"" if watcher.ended else watcher.finishing()))


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"\n", b"\r", b"data: x", b"\r\n"]), max_size=12).map(b"".join))
def test_events_are_cut_alike(stream: bytes) -> None:
    """Blocks of single bytes are the events of the whole, and data is found in any bytes."""
    blocks = Blocks()
    single = [block for at in range(len(stream)) if (block := blocks.feed(stream[at : at + 1]))]
    together = Blocks()
    assert single == list(events(together.feed(stream))) and blocks.tail == together.tail
    assert b"".join(single) + bytes(blocks.tail) == stream
    data_of(stream)


# -- bodies ------------------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters() | st.sampled_from('"\\{}[],:'), max_size=8) | st.sampled_from(["model", "auto", '"model":"auto"', "\ud83d", "\\u006d"])
)  # fmt: skip
NAMES = st.sampled_from(
    ["model", "model", "stream", "stream_options", "include_usage", 'k"model', "models", "\ud800", "é"]
) | st.text(max_size=3)


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may repeat."""


NESTED = st.recursive(
    SCALARS | st.just("auto"),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=3).map(Pairs),
    max_leaves=8,
)
OBJECTS = st.lists(
    st.tuples(NAMES, NESTED) | st.tuples(st.just("model"), st.just("auto")) | st.tuples(st.just("stream"), st.just(True)),
    max_size=5,
).map(Pairs)


@st.composite
def texts(draw: Any, value: Any) -> bytes:
    """JSON text of a value, in any of the ways to write it."""
    space = draw(st.sampled_from([b"", b"", b" ", b"\n\t"]))
    if isinstance(value, Pairs):
        parts = [space + draw(strings(key)) + space + b":" + space + draw(texts(inner)) for key, inner in value]
        return b"{" + b",".join(parts) + space + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(space + draw(texts(inner)) for inner in value) + space + b"]"
    return draw(strings(value)) if isinstance(value, str) else json.dumps(value).encode()


@st.composite
def strings(draw: Any, value: str) -> bytes:
    """A JSON string: plain, with escapes, or with all of it in escapes."""
    way = draw(st.sampled_from(["plain", "plain", "plain", "ascii", "all"]))
    if way == "plain" and not any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        return json.dumps(value, ensure_ascii=False).encode()
    if way == "all":
        units = value.encode("utf-16-be", "surrogatepass")
        return b'"' + b"".join(b"\\u%02x%02x" % (units[at], units[at + 1]) for at in range(0, len(units), 2)) + b'"'
    return json.dumps(value).encode()


BODIES = OBJECTS.flatmap(texts)


def pairs(body: bytes) -> Pairs:
    """The members of a body, repeated keys and all."""
    return json.loads(body, object_pairs_hook=Pairs)


@given(BODIES, st.sampled_from(["m", 'ü"\\', "openai/gpt-5"]))
@example(b'{"k\\"model":"auto","\\u006dodel":"auto"}', "m")
@example(b'{"x":{"model":"auto"},"model":"a\\u0075to"}', "m")
def test_only_the_model_changes(body: bytes, model: str) -> None:
    """The parsed body is the one before with `model` replaced, wherever it was; the bytes between the edits are the same."""
    after = with_model(body, parse(body), model)
    before = pairs(body)
    wanted = Pairs((key, model if key == "model" else value) for key, value in before)
    if all(key != "model" for key, _ in before):
        wanted = Pairs([("model", model), *wanted])
    assert pairs(after) == wanted
    kept = b"".join(_without(body, "model"))
    assert b"".join(_without(after, "model")) in (kept, kept.replace(b"{", b'{"model":', 1), kept.replace(b"{", b'{"model":,', 1))


def _without(body: bytes, name: str) -> Iterable[bytes]:
    """The body without the values of `name`."""
    place = 0
    for key, start, end in members(body):
        if key == name:
            yield body[place:start]
            place = end
    yield body[place:]


@given(BODIES)
def test_a_stream_is_asked_for_usage(body: bytes) -> None:
    """The upstream reads a request for usage where it reads one for a stream, and all else as before."""
    fields = parse(body)
    after = json.loads(with_model(body, fields, "m", ask_usage=True))
    wanted = {**json.loads(body), "model": "m"}
    if fields.get("stream") is True:
        asked = wanted.get("stream_options")
        wanted["stream_options"] = {**asked, "include_usage": True} if isinstance(asked, dict) else {"include_usage": True}
    assert after == wanted


@given(BODIES)
def test_members_are_where_they_are_said_to_be(body: bytes) -> None:
    """Each value that is found is the value, however its end is sought."""
    found = list(members(body))
    assert [(key, json.loads(body[start:end], object_pairs_hook=Pairs)) for key, start, end in found] == pairs(body)
    assert all(_end_of_deep(body, start) == end for _, start, end in found if body[start : start + 1] in (b"{", b"["))


@given(
    st.binary(max_size=60)
    | BODIES
    | st.tuples(BODIES, st.integers(0, 200), st.binary(max_size=3)).map(lambda x: x[0][: x[1]] + x[2] + x[0][x[1] :])
)
def test_any_bytes_are_a_body_or_a_bad_one(body: bytes) -> None:
    """With orjson and without, the same bodies are read, to the same members; a body that is read can be spliced."""
    fast, slow = _parsed(bodies._fast if bodies.orjson else bodies._slow, body), _parsed(bodies._slow, body)
    assert isinstance(fast, str) == isinstance(slow, str)
    if isinstance(fast, dict) and isinstance(slow, dict):
        assert fast.keys() == slow.keys()
        assert json.loads(with_model(body, fast, "m"))["model"] == "m"


def _parsed(read: Any, body: bytes) -> Any:
    try:
        return read(body)
    except BadBody as error:
        return str(error)
