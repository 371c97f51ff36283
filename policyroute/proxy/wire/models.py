"""`GET /v1/models` and `/v1/models/{id}`: what a caller can ask for. `auto` is the policy itself; the others are its models.

No date is known of a model here: the epoch stands for that, as Anthropic's API says of an unknown date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from policyroute.language.limits import requested_names
from policyroute.language.policy import Policy
from policyroute.proxy.wire.body import dumped

AUTO, OWNER = "auto", "policyroute"
_EPOCH = "1970-01-01T00:00:00Z"


class _Entry(NamedTuple):
    name: str
    owner: str
    title: str


def listed(policy: Policy, *, anthropic: bool = False) -> bytes:
    """The list, in the OpenAI or the Anthropic shape."""
    entries = list(_entries(policy))
    data = [_shaped(entry, anthropic) for entry in entries]
    if anthropic:
        return dumped({"data": data, "has_more": False, "first_id": entries[0].name, "last_id": entries[-1].name})
    return dumped({"object": "list", "data": data})


def one_listed(policy: Policy, name: str, *, anthropic: bool = False) -> bytes | None:
    """One entry by its name, or by what else a caller can write for it (the model's id, `provider/id`); None for no such."""
    wanted = name if name == AUTO else requested_names(policy).get(name, name)
    found = next((entry for entry in _entries(policy) if entry.name == wanted), None)
    return None if found is None else dumped(_shaped(found, anthropic))


def _entries(policy: Policy) -> Iterator[_Entry]:
    yield _Entry(AUTO, OWNER, f"{policy.name} (decided by policy)")
    for model in policy.models.values():
        if model.name != AUTO:
            yield _Entry(model.name, model.provider or OWNER, model.id)


def _shaped(entry: _Entry, anthropic: bool) -> dict[str, Any]:
    if anthropic:
        return {"type": "model", "id": entry.name, "display_name": entry.title, "created_at": _EPOCH}
    return {"id": entry.name, "object": "model", "created": 0, "owned_by": entry.owner}
