"""Pictures of a request and what they cost in tokens.

Formulas as published by the providers
- OpenAI, detail `low`: 85. Otherwise: shrunk to fit 2048 x 2048, then so that the shorter side is at most 768; 170 for each
  512 px tile that is needed, and 85. (`auto` and unknown details count as `high`.)
- Anthropic: shrunk so that the longer side is at most 1568, then width x height / 750, at most 1600.
- The block's kind says which formula holds: Anthropic's `image` with a `source`, or OpenAI's `image_url` and `input_image`.
- A size is read from the header of PNG, JPEG, GIF or WebP in a base64 data URL. A picture behind a URL, or in another format,
  is taken as 1024 x 1024.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ASSUMED = (1024, 1024)
_HEADER = 64 * 1024  # a JPEG's size stands behind its metadata, which a camera fills with a thumbnail


class Picture(NamedTuple):
    """A picture: whose formula holds, the detail asked for, and its base64 data (empty behind a URL)."""

    formula: Literal["openai", "anthropic"]
    detail: str = "auto"
    data: str = ""


def of_block(block: Mapping[str, Any]) -> Picture:
    """The picture of an OpenAI `image_url` or `input_image` block or an Anthropic `image` block."""
    source = block.get("source")
    if isinstance(source, Mapping):
        return Picture("anthropic", "auto", _string(source.get("data")))
    address = block.get("image_url")
    inner = address if isinstance(address, Mapping) else block
    url = _string(address.get("url") if isinstance(address, Mapping) else address)
    head, comma, data = url.partition(",")
    return Picture(
        "openai",
        _string(inner.get("detail")) or "auto",
        data if comma and head.startswith("data:") and head.endswith(";base64") else "",
    )


def tokens(picture: Picture) -> int:
    """Tokens that a provider bills for `picture`, by the formulas above."""
    if picture.formula == "openai" and picture.detail == "low":
        return 85
    width, height = size(picture.data) or ASSUMED
    return _openai(width, height) if picture.formula == "openai" else _anthropic(width, height)


def size(data: str) -> tuple[int, int] | None:
    """Width and height in pixels of a base64 picture; None where its header can't be read."""
    try:
        head = b64decode(data[: _HEADER // 3 * 4], validate=False)
    except (binascii.Error, ValueError):
        return None
    found = _png(head) or _gif(head) or _webp(head) or _jpeg(head)
    return found if found and found[0] > 0 and found[1] > 0 else None


def _openai(width: int, height: int) -> int:
    width, height = _shrunk(width, height, max(width, height), 2048)
    width, height = _shrunk(width, height, min(width, height), 768)
    return 85 + 170 * -(-width // 512) * -(-height // 512)


def _anthropic(width: int, height: int) -> int:
    width, height = _shrunk(width, height, max(width, height), 1568)
    return min(1600, -(-width * height // 750))


def _shrunk(width: int, height: int, side: int, limit: int) -> tuple[int, int]:
    if side <= limit:
        return width, height
    return max(1, width * limit // side), max(1, height * limit // side)


def _png(head: bytes) -> tuple[int, int] | None:
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _gif(head: bytes) -> tuple[int, int] | None:
    if head[:6] not in (b"GIF87a", b"GIF89a") or len(head) < 10:
        return None
    return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Size from the first start-of-frame marker (C0 to CF without C4, C8 and CC)."""
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        # A fill byte before a marker is skipped alone; any other segment by its length.
        at += 1 if marker == 0xFF else 2 + max(2, int.from_bytes(head[at + 2 : at + 4], "big"))
    return None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
