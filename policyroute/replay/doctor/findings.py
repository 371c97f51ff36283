"""What follows from an examination: one sentence each, with the remedy where there is one. Every sentence is a row's function of the
figures, and says no more than they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from policyroute.language.vocabulary import SIGNALS
from policyroute.replay.statistics import FEW, HEAVY

CONTENT = frozenset(name for name, row in SIGNALS.items() if row.content not in ("", "ts"))
Json = Mapping[str, Any]
Finding = dict[str, str]


def findings(found: Json) -> list[Finding]:
    """The sentences, in the order of a replay's needs: `level` is `missing`, `warning` or `good`."""
    return [said for rule in RULES for said in rule(found)]


def _said(level: str, about: str, message: str, help_: str = "") -> list[Finding]:
    return [{"level": level, "about": about, "message": message, "help": help_}]


def _rows(found: Json, column: str) -> int:
    return next((int(each["rows"]) for each in found["columns"] if each["column"] == column), 0)


def _all(found: Json) -> int:
    return int(found["trace"]["rows"])


def _models(found: Json) -> list[Finding]:
    missing = _all(found) - _rows(found, "model")
    if not missing:
        return []
    if missing == _all(found):
        return _said(
            "missing", "model", "no request names a model: what was paid is unknown", "`--incumbent MODEL` states which one served"
        )
    return _said("warning", "model", f"{missing:,} requests name no model: they have no price")


def _tokens(found: Json) -> list[Finding]:
    usage = found["prices"]["usage"]
    if usage == "unknown":
        return _said(
            "missing",
            "tokens",
            "neither tokens nor messages are recorded: no request can be priced",
            "map a field with `--map input_tokens=FIELD`",
        )
    if usage != "recorded":
        return _said("warning", "tokens", "no token counts are recorded: a replay counts the text, which is an estimate")
    made = _all(found) - _rows(found, "output_tokens")
    return _said("warning", "tokens", f"{made:,} requests have no output tokens recorded: they have no price") if made else []


def _prices(found: Json) -> list[Finding]:
    unknown = [model for model in found["prices"]["models"] if model["unpriceable_rows"] and model["model"]]
    if not unknown:
        return _said("good", "prices", "every model has a price") if _rows(found, "model") else []
    worst = max(unknown, key=lambda model: int(model["unpriceable_rows"]))
    rows = sum(int(model["unpriceable_rows"]) for model in unknown)
    listed = f"{rows:,} requests of {len(unknown)} {'model' if len(unknown) == 1 else 'models'} have no price, most of them `{worst['model']}`: {worst['why']}"
    return _said("warning", "prices", listed, "a price map (`--prices FILE`) or rates in the policy give one")


def _dates(found: Json) -> list[Finding]:
    if found["trace"]["window"] is not None:
        return []
    reason = "times count from 0" if found["trace"]["seconds"] is not None else "no times are recorded"
    return _said("missing", "time", f"{reason}: hours, weekdays, series by day and prices by date are unknown")


def _content(found: Json) -> list[Finding]:
    if not _rows(found, "messages"):
        names = [each["signal"] for each in found["signals"] if each["state"] == "unknown" and each["signal"] in CONTENT]
        listed = f" ({', '.join(names)})" if names else ""
        return _said(
            "missing",
            "content",
            f"no messages are recorded: rules about content can't be decided{listed}",
            "log prompts, or columns that hold these signals",
        )
    without = _all(found) - _rows(found, "messages")
    said = _said("warning", "content", f"{without:,} requests have no messages") if without else []
    if any(each["signal"] == "tools" and each["state"] == "unknown" for each in found["signals"]):
        said += _said(
            "warning", "content", "no tool definitions are recorded: `tools` is unknown, and counts of the text fall short by them"
        )
    return said


def _signals(found: Json) -> list[Finding]:
    unknown = [each["signal"] for each in found["signals"] if each["read"] and each["state"] == "unknown"]
    if not unknown:
        return (
            _said("good", "signals", "every signal that the policy reads has a source in the trace or a default")
            if found["policy"]
            else []
        )
    listed = ", ".join(f"`{name}`" for name in unknown)
    return _said(
        "missing",
        "signals",
        f"the policy reads {listed}, which the trace doesn't tell",
        "`simulate --assume SIGNAL=VALUE` states what holds",
    )


def _cache(found: Json) -> list[Finding]:
    if _rows(found, "cached_tokens") or found["prices"]["usage"] != "recorded":
        return []
    return _said(
        "warning",
        "cache",
        "cached tokens are not recorded: all input is priced as fresh, which overstates what was paid where a cache was used",
    )


def _costs(found: Json) -> list[Finding]:
    if found["prices"]["recorded_rows"]:
        return []
    return _said("warning", "cost", "no costs are recorded: our prices can't be checked against what was paid")


def _users(found: Json) -> list[Finding]:
    users = found["clusters"]["users"]
    if users is None:
        other = "conversations or days" if found["clusters"]["conversations"] else "days"
        instead = (
            f"intervals can only be drawn over {other}"
            if found["trace"]["days"] or found["clusters"]["conversations"]
            else "intervals would take requests for independent"
        )
        return _said("missing", "users", f"no user is named: {instead}, and nobody's share is known")
    said = (
        _said("warning", "users", f"{users['number']:,} users are too few for an interval to rely on (below {FEW})")
        if users["number"] < FEW
        else []
    )
    largest = users["largest_percent"]
    if largest is not None and Decimal(largest) > HEAVY:
        said += _said(
            "warning",
            "users",
            f"one user holds {largest} % of the {found['clusters']['by']}: an interval over users hardly covers that",
        )
    return said


def _quality(found: Json) -> list[Finding]:
    labels = [each["place"] for each in found["labels"]]
    if not labels:
        return _said(
            "missing", "quality", "no score, label or feedback was found: whether a cheaper answer would have been good enough is not identifiable from this trace",
            "keep an outcome per request as a column",
        )  # fmt: skip
    if found["paired_requests"]:
        return _said(
            "good",
            "quality",
            f"{found['paired_requests']:,} prompts were answered by several models: where these have labels, they can be compared",
        )
    if not found["propensities"]:
        return _said(
            "warning", "quality", f"labels ({', '.join(labels)}) judge the model that served; without recorded propensities they say nothing about another one",
            "send part of the traffic by chance (`split`, `explore`) and log its probability",
        )  # fmt: skip
    return _said("good", "quality", "labels and propensities are recorded: other policies can be judged where they overlap")


RULES: tuple[Callable[[Json], list[Finding]], ...] = (
    _models, _tokens, _prices, _cache, _costs, _dates, _content, _signals, _users, _quality,
)  # fmt: skip
