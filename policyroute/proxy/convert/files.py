"""Images and files inside a request: what each API calls them, and what can't be moved."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from policyroute.proxy.convert.library import ConversionError
from policyroute.proxy.wire.counts import text

PDF = "application/pdf"


class File(NamedTuple):
    """A file as it is in the request: base64 of a PDF, or the text of a text file."""

    name: str
    pdf: str = ""
    text: str = ""


def picture(url: object) -> str:
    """An image's URL, its media type as all APIs know it. Raises ConversionError where there is none (a file of the provider's)."""
    found = text(url)
    if not found:
        raise ConversionError("an image that the provider keeps can't be sent to another one")
    if found.startswith("data:image/jpg;"):
        return found.replace("data:image/jpg;", "data:image/jpeg;", 1)
    return found


def of_data(data: object, name: object) -> File:
    """A file of OpenAI's APIs. Raises ConversionError for one that isn't in the request, or of another type than PDF and text."""
    found = text(data)
    if not found:
        raise ConversionError("a file that the provider keeps can't be sent to another one")
    head, _, body = found.partition(",") if found.startswith("data:") else (f"data:{PDF}", "", found)
    media = head.removeprefix("data:").partition(";")[0] or "text/plain"
    if media == PDF:
        return File(text(name), pdf=body)
    if media.startswith("text/") or media == "application/json":
        return File(text(name), text=_decoded(body))
    raise ConversionError(f"a file of type {media} can't be converted")


def of_block(block: dict[str, Any]) -> File:
    """A document block of Anthropic's API whose source is in the request. Raises ConversionError for any other."""
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if isinstance(source, dict) and kind == "base64" and source.get("media_type") == PDF:
        return File(text(block.get("title")), pdf=text(source.get("data")))
    if isinstance(source, dict) and kind == "text":
        return File(text(block.get("title")), text=text(source.get("data")))
    raise ConversionError("a document that is kept elsewhere can't be converted")


def words(file: File) -> str:
    """A text file as text in the conversation."""
    return f"{file.name}\n\n{file.text}" if file.name else file.text


def _decoded(body: str) -> str:
    try:
        return base64.b64decode(body, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ConversionError("a text file can't be read") from None
