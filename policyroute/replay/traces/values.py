"""Values of sources that are converted in Python: what a JSON value means as a column's type, or None where it means nothing.

`Taken` reads the fields of an object and remembers which: the rest is what `metadata` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from policyroute.replay.traces.fields import dumps

_LARGEST = 2**63


def whole(value: object) -> int | None:
    """A count: a whole number from 0 on, also as text (OTLP writes integers so)."""
    if isinstance(value, str):
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or not 0 <= value < _LARGEST:
        return None
    return int(value) if value == int(value) else None


def number(value: object, scale: float = 1.0) -> float | None:
    """A number from 0 on, also as text, times `scale`."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        return None
    return float(value) * scale


def text(value: object) -> str | None:
    """A text that says something; numbers as they are written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def truth(value: object) -> bool | None:
    """True or false, also as text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def unpacked(value: object) -> Any:
    """The object or list that a text is the JSON of; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def mapping(value: object) -> dict[str, Any]:
    """The object that a value is, or is the JSON of; an empty one otherwise."""
    found = unpacked(value)
    return found if isinstance(found, dict) else {}


def listed(value: object) -> list[Any]:
    """The list that a value is, or is the JSON of; an empty one otherwise."""
    found = unpacked(value)
    return found if isinstance(found, list) else []


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that have a value."""
    return {name: value for name, value in row.items() if value is not None}


def metadata(own: object, rest: Mapping[str, Any]) -> str | None:
    """The source's own metadata with the fields that feed no column beside it; a field of the same name as `source_NAME`."""
    told = mapping(own)
    kept = {(f"source_{name}" if name in told else name): value for name, value in rest.items() if value not in (None, "", {}, [])}
    found = {**told, **kept}
    return dumps(found) if found else None


class Taken:
    """The fields of one object, taken one by one: `rest` has those that nobody took."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self._taken: set[str] = set()

    def __call__(self, *names: str) -> Any:
        """The value of the first of these fields that has one, which is then taken."""
        found = next((name for name in names if self.fields.get(name) is not None), None)
        if found is None:
            return None
        self._taken.add(found)
        return self.fields[found]

    def drop(self, *names: str) -> None:
        """Takes fields that are told elsewhere."""
        self._taken.update(names)

    def prefixed(self, prefix: str) -> dict[str, Any]:
        """The fields below a dotted prefix, without it; taken."""
        found = {name: value for name, value in self.fields.items() if name.startswith(prefix)}
        self._taken.update(found)
        return {name.removeprefix(prefix): value for name, value in found.items()}

    def rest(self) -> dict[str, Any]:
        """The fields that nobody took."""
        return {name: value for name, value in self.fields.items() if name not in self._taken}


def flattened(value: object, prefix: str = "", lists: bool = False) -> dict[str, Any]:
    """An object's leaves under dotted names; lists are leaves unless `lists` says that their places are names."""
    pairs: Iterable[tuple[object, Any]]
    if isinstance(value, dict) and value:
        pairs = value.items()
    elif lists and isinstance(value, list) and value:
        pairs = enumerate(value)
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in pairs:
        found |= flattened(inner, f"{prefix}.{key}" if prefix else str(key), lists)
    return found


def nested(fields: Mapping[str, Any]) -> Any:
    """The object or list that `flattened(..., lists=True)` was made from: names that are all numbers are places of a list."""
    tree: dict[str, Any] = {}
    for name, value in fields.items():
        parts = name.split(".")
        place = tree
        for part in parts[:-1]:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else place.setdefault(f"{part}.", {})
        place[parts[-1]] = value
    return _grown(tree)


def _grown(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdecimal() for key in tree):
        return [_grown(tree[key]) for key in sorted(tree, key=int)]
    return {key: _grown(value) for key, value in tree.items()}
