"""The keys file as text: reading its tables, adding one, taking one out.

Rules of this module
- The file holds hashes, never keys. A key is 256 random bits, so plain SHA-256 is right: nobody can guess one, which is what slow
  or salted hashes guard against, and a request would pay for their slowness.
- A message names file, key and field; it never shows a hash, or what may be a key that was written in its place.
- Adding and removing change one `[[key]]` table and keep every other byte. What would come out is read before it is written.
- A file is replaced whole (a reader sees the old or the new one), with mode 0600.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.policy import Value

PREFIX = "pr-"
FIELDS = ("name", "sha256", "user", "team", "signals", "models", "trusted", "expires", "cache")
LONGEST = 128  # characters of a name, user or team: they are written to every trace row

_CACHE = ("ttl", "tools", "temperature")
_DURATION = re.compile(r"(\d{1,9})(ms|s|min|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_HEX = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(r"\s*\[\[\s*key\s*\]\]\s*(#.*)?")
_OWN_TABLE = re.compile(r"\s*\[\s*key\s*\.")


class KeysError(Exception):
    """The keys file can't be used: what is wrong and where, and the remedy."""

    def __init__(self, message: str, help_: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help_


class Keeping(NamedTuple):
    """How answers are kept for a key: seconds (None: as for all keys, 0: not at all), and whether also those to requests with tools,
    and to those that ask for chance (a temperature above 0, or several choices)."""

    ttl: float | None = None
    tools: bool = False
    temperature: bool = False


AS_ALL = Keeping()


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[key]]` table, its shape checked. `models` is None where the key may use all; `expires` is its last day (UTC)."""

    name: str
    sha256: str
    user: str = ""
    team: str = ""
    signals: Mapping[str, Value] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    trusted: bool = False
    expires: date | None = None
    cache: Keeping = AS_ALL


def new_key() -> str:
    """A new key: `pr-` and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


# -- reading ---------------------------------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """The file's text, its line ends as they are. Raises KeysError."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise KeysError(f"`{path}` can't be read: {reason}", "`policyroute keys new NAME --file FILE` makes a keys file") from None
    except UnicodeDecodeError:
        raise KeysError(f"`{path}` is not UTF-8 text", "a keys file is TOML, with a `[[key]]` table for each key") from None


def entries(text: str, path: Path) -> tuple[Entry, ...]:
    """The tables of a keys file's text; `path` is for messages. Raises KeysError."""
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KeysError(f"`{path}` is not valid TOML: {error}", "strings are quoted, dates are not") from None
    for name in found:
        if name != "key":
            raise KeysError(f"`{path}`: unknown table `{name}`", "write a `[[key]]` table for each key")
    tables = found.get("key", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise KeysError(f"`{path}`: `key` is not a list of tables", "begin each key with a line `[[key]]`")
    read = tuple(_entry(table, _place(path, number, table)) for number, table in enumerate(tables, 1))
    _refuse_doubles(read, path)
    return read


def place_of(path: Path, number: int, name: str) -> str:
    """How messages name a key of the file; `number` counts from 1."""
    return f"`{path}`, key {number}" + (f" `{name}`" if name else "")


def _place(path: Path, number: int, table: Mapping[str, Any]) -> str:
    name = table.get("name")
    return place_of(path, number, name if isinstance(name, str) and name.isprintable() else "")


def _refuse_doubles(read: tuple[Entry, ...], path: Path) -> None:
    names: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for number, entry in enumerate(read, 1):
        place = place_of(path, number, entry.name)
        if entry.name in names:
            raise KeysError(f"{place}: key {names[entry.name]} has the same name", "give each key a name of its own")
        if entry.sha256 in hashes:
            raise KeysError(
                f"{place}: key {hashes[entry.sha256]} has the same `sha256`", "make one key per table: `policyroute keys new`"
            )
        names[entry.name], hashes[entry.sha256] = number, number


def _entry(table: Mapping[str, Any], place: str) -> Entry:
    for name in table:
        if name not in FIELDS:
            help_ = did_you_mean(name, FIELDS) or f"a key has {', '.join(FIELDS)}"
            raise KeysError(f"{place}: unknown field `{name}`", help_)
    return Entry(
        _named(table, "name", place, needed=True), _hash(table, place), _named(table, "user", place), _named(table, "team", place),
        _signals(table, place), _models(table, place), _trusted(table, place), _expires(table, place),
        _cache(table, place),
    )  # fmt: skip


def _named(table: Mapping[str, Any], name: str, place: str, *, needed: bool = False) -> str:
    if name not in table and not needed:
        return ""
    value = table.get(name)
    if isinstance(value, str) and value and value == value.strip() and value.isprintable() and len(value) <= LONGEST:
        return value
    what = "is missing" if name not in table else "is not a plain text"
    raise KeysError(f"{place}: `{name}` {what}", f'write `{name} = "..."`, on one line, at most {LONGEST} characters')


def _hash(table: Mapping[str, Any], place: str) -> str:
    value = table.get("sha256")
    if isinstance(value, str) and _HEX.fullmatch(value.lower()):
        return value.lower()
    what = "is missing" if value is None else "is not the hex of a SHA-256 (64 digits)"
    if isinstance(value, str) and value.startswith(PREFIX):
        what = "is a key, which must not be in a file"
    raise KeysError(f"{place}: `sha256` {what}", "`policyroute keys new` makes a key and writes its hash")


def _signals(table: Mapping[str, Any], place: str) -> dict[str, Value]:
    found = table.get("signals", {})
    if not isinstance(found, dict) or not all(isinstance(value, str | int) for value in found.values()):
        raise KeysError(
            f"{place}: `signals` is not a table of values", 'write `signals = { plan = "pro" }`: texts, whole numbers, true, false'
        )
    return found


def _models(table: Mapping[str, Any], place: str) -> tuple[str, ...] | None:
    if "models" not in table:
        return None
    found = table["models"]
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise KeysError(f"{place}: `models` is not a list of names", 'write `models = ["mini"]`, or leave it out to allow all')
    return tuple(found)


def _trusted(table: Mapping[str, Any], place: str) -> bool:
    return _truth(table, "trusted", place)


def _truth(table: Mapping[str, Any], name: str, place: str) -> bool:
    found = table.get(name, False)
    if not isinstance(found, bool):
        raise KeysError(f"{place}: `{name}` is not true or false", f"write `{name} = true`")
    return found


def _cache(table: Mapping[str, Any], place: str) -> Keeping:
    found = table.get("cache", {})
    if not isinstance(found, dict):
        raise KeysError(f"{place}: `cache` is not a table", 'write `cache = { ttl = "10min" }`')
    for name in found:
        if name not in _CACHE:
            raise KeysError(
                f"{place}: unknown field `{name}` of `cache`", did_you_mean(name, _CACHE) or f"it has {', '.join(_CACHE)}"
            )
    ttl = found.get("ttl")
    match = _DURATION.fullmatch(ttl) if isinstance(ttl, str) else None
    if ttl is not None and match is None:
        raise KeysError(f"{place}: `ttl` of `cache` is not a time", 'write `ttl = "10min"`: a whole number and ms, s, min, h or d')
    seconds = int(match[1]) * _SECONDS[match[2]] if match else None
    return Keeping(seconds, _truth(found, "tools", place), _truth(found, "temperature", place))


def _expires(table: Mapping[str, Any], place: str) -> date | None:
    found = table.get("expires")
    if found is not None and type(found) is not date:  # a datetime is a date too
        raise KeysError(
            f"{place}: `expires` is not a date", "write `expires = 2027-01-31`, without quotes; it is the last day, in UTC"
        )
    return found


# -- writing ---------------------------------------------------------------------------------------------------------


def with_entry(text: str, entry: Entry, path: Path) -> str:
    """The text with one more table at its end. Raises KeysError where the name is taken or a table can't be added."""
    before = entries(text, path)
    if any(each.name == entry.name for each in before):
        raise KeysError(
            f"`{path}` has a key `{entry.name}` already", f"take another name, or `policyroute keys remove {entry.name}` first"
        )
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else end if text.endswith("\n") else end * 2
    return _proved(text + gap + end.join(_lines(entry)) + end, (*before, entry), path)


def without_entry(text: str, name: str, path: Path) -> str:
    """The text without the table of the key `name`. Raises KeysError where there is none, or its lines can't be told."""
    before = entries(text, path)
    names = [entry.name for entry in before]
    if name not in names:
        raise KeysError(
            f"`{path}` has no key `{name}`", did_you_mean(name, names) or f"`policyroute keys list --file {path}` lists them"
        )
    number, lines = names.index(name), text.splitlines(keepends=True)
    heads = [line for line, written in enumerate(lines) if _HEADER.fullmatch(written.rstrip("\r\n"))]
    if len(heads) != len(before):
        raise KeysError(
            f"`{path}`: the lines of key `{name}` can't be told", "each key is a table that begins with a line `[[key]]`"
        )
    first, last = heads[number], _end(lines, heads[number])
    while first and not lines[first - 1].strip() and (last == len(lines) or not lines[last].strip()):
        first -= 1  # one gap is left, not two
    return _proved("".join(lines[:first] + lines[last:]), tuple(entry for entry in before if entry.name != name), path)


def _end(lines: list[str], first: int) -> int:
    """The line after a table's last; comments above the next table belong to that."""
    last = next(
        (at for at in range(first + 1, len(lines)) if lines[at].lstrip().startswith("[") and not _OWN_TABLE.match(lines[at])),
        len(lines),
    )
    while lines[last - 1].lstrip().startswith("#") or not lines[last - 1].strip():
        last -= 1
    return last


def _proved(text: str, wanted: tuple[Entry, ...], path: Path) -> str:
    """`text`, if it reads as `wanted`: lines that look like a table may be part of a string."""
    try:
        right = entries(text, path) == wanted
    except KeysError:
        right = False
    if not right:
        raise KeysError(
            f"`{path}` can't be changed without a risk to its other keys", "edit it by hand: one `[[key]]` table for each key"
        )
    return text


def _lines(entry: Entry) -> list[str]:
    lines = ["[[key]]", f"name = {_toml(entry.name)}", f"sha256 = {_toml(entry.sha256)}"]
    lines += [f"{name} = {_toml(value)}" for name, value in (("user", entry.user), ("team", entry.team)) if value]
    if entry.signals:
        lines.append(f"signals = {{ {', '.join(f'{_toml(name)} = {_toml(value)}' for name, value in entry.signals.items())} }}")
    if entry.models is not None:
        lines.append(f"models = [{', '.join(map(_toml, entry.models))}]")
    if entry.trusted:
        lines.append("trusted = true")
    if entry.expires is not None:
        lines.append(f"expires = {entry.expires.isoformat()}")
    if entry.cache != AS_ALL:
        lines.append(f"cache = {{ {', '.join(_cache_items(entry.cache))} }}")
    return lines


def _cache_items(cache: Keeping) -> list[str]:
    ttl = [] if cache.ttl is None else [f'ttl = "{round(cache.ttl * 1_000)}ms"']
    return [*ttl, *(f"{name} = true" for name in ("tools", "temperature") if getattr(cache, name))]


def _toml(value: Value) -> str:
    """A value in TOML, which writes strings, numbers and truth values as JSON does (printable ones)."""
    return json.dumps(value, ensure_ascii=False)


def exposed(path: Path) -> str:
    """What others on this machine may do with the file ("" for nothing): reading shows who has keys, writing makes some."""
    if os.name != "posix":
        return ""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    named = ((stat.S_IRGRP | stat.S_IROTH, "read"), (stat.S_IWGRP | stat.S_IWOTH, "change"))
    return " and ".join(word for bits, word in named if mode & bits)


def save(path: Path, text: str) -> None:
    """Replace the file, or make it. Raises KeysError."""
    path = Path(os.path.realpath(path))  # a link stays a link
    kept: str | None = None
    try:
        descriptor, kept = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(kept, path)  # noqa: PTH105 - both are names
        kept = None
    except OSError as error:
        raise KeysError(
            f"`{path}` can't be written: {(error.strerror or str(error)).lower()}", "check its folder and who may write there"
        ) from None
    finally:
        if kept is not None:
            Path(kept).unlink(missing_ok=True)
