"""What the tests of `wire` share: recorded streams, and readers of streams that are as strict as a client may be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SAMPLES = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "wire").glob("*.sse"))}


def values(stream: bytes) -> list[Any]:
    """The data of all events, parsed; `[DONE]` as it is. An event without its blank line is an error of the test."""
    assert stream == b"" or re.search(rb"(\n\n|\r\n\r\n|\r\r)\Z", stream), stream[-80:]
    found = []
    for event in re.split(rb"\r\n\r\n|\n\n|\r\r", stream):
        data = b"\n".join(re.findall(rb"(?:\A|[\r\n])data: ?([^\r\n]*)", event))
        if data:
            found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
    return found


def chat_text(stream: bytes) -> tuple[str, str, bool]:
    """Text, finish reason, and whether `[DONE]` ends the stream; there is one role and one finish."""
    chunks = values(stream)
    done = bool(chunks) and chunks[-1] == "[DONE]"
    choices = [choice for chunk in chunks if isinstance(chunk, dict) for choice in chunk.get("choices", [])]
    assert sum("role" in choice["delta"] for choice in choices) == 1
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) <= 1
    return "".join(choice["delta"].get("content") or "" for choice in choices), "".join(reasons), done


def messages_blocks(stream: bytes) -> tuple[list[str], str]:
    """The texts of the blocks in order and the stop reason of a stream that follows Anthropic's order of events."""
    events = values(stream)
    assert [event["type"] for event in events].count("message_start") == 1 and events[0]["type"] == "message_start"
    assert events[-1]["type"] == "message_stop"
    texts: list[str] = []
    opened: set[int] = set()
    reason = ""
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(texts) and not opened
                opened.add(event["index"])
                texts.append(event["content_block"].get("text", ""))
            case "content_block_delta":
                assert event["index"] in opened
                texts[event["index"]] += event["delta"].get("text", "")
            case "content_block_stop":
                opened.remove(event["index"])
            case "message_delta":
                assert not opened and not reason
                reason = event["delta"]["stop_reason"]
                assert isinstance(event["usage"]["output_tokens"], int)
    return texts, reason


def cut(stream: bytes, mark: bytes) -> bytes:
    """The stream up to the end of the first event that holds `mark`."""
    return stream[: stream.index(b"\n\n", stream.index(mark)) + 2]
