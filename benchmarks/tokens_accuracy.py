"""How far `tokens` is from the input tokens that providers recorded: `python benchmarks/tokens_accuracy.py [DATA]`.

DATA is the folder with the recorded data (default: `shared/data` beside the checkout). Prints one Markdown table; says what it skips.

- BFCL 2024-08: 1,140 requests with tools, answered by 11 models, each with `input_token_count`. Its harness rewrites a request before
  it sends it; `sent` rebuilds that: type names, notes in descriptions, and a note about the language after the question. The place
  of that note is the harness's at the time, its wording ("Python 3 syntax") that of a later published version: with the earlier one
  ("Python.") every estimate is 3 tokens lower. It was taken because most gpt-4o rows are then exact: a choice by this data. All models' rows use the form that was sent to OpenAI.
- pi session: the calls of one coding-agent session with claude-sonnet-4-5; the recorded input is input + cacheRead + cacheWrite. The
  recording holds neither system prompt nor tool definitions, so their tokens are missing from every estimate; the rows "growth per call"
  compare growth instead: the input of a call minus that of the call before.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from policyroute.signals.facts import Facts

DATA = Path(__file__).parents[2] / "shared" / "data"
PYTHON, JAVA = (
    "\n Note that the provided function is in Python 3 syntax.",
    "\n Note that the provided function is in Java 8 SDK syntax.",
)
TYPES = {
    "integer": "integer", "number": "number", "float": "number", "string": "string", "boolean": "boolean", "bool": "boolean", "array": "array",
    "list": "array", "dict": "object", "object": "object", "tuple": "array", "any": "string", "byte": "integer", "short": "integer",
    "long": "integer", "double": "number", "char": "string", "ArrayList": "array", "Array": "array", "HashMap": "object", "Hashtable": "object",
    "Queue": "array", "Stack": "array", "Any": "string", "String": "string", "Bigint": "integer",
}  # fmt: skip

Pair = tuple[int, int]  # estimated, recorded


def main(data: Path) -> None:
    lines = ["| data | model | n | median error | 5 % | 95 % | total error |", "|---|---|---:|---:|---:|---:|---:|"]
    skipped = []
    for title, folder, pairs in (("BFCL", data / "bfcl_2024-08", bfcl), ("pi", data / "pi_agent", pi)):
        if not folder.exists():
            skipped.append(f"skipped {title}: no recorded data in {folder}")
            continue
        found: dict[str, list[Pair]] = defaultdict(list)
        for model, estimated, recorded in pairs(folder):
            found[model].append((estimated, recorded))
        lines += [line(title, model, counts) for model, counts in sorted(found.items())]
    sys.stdout.write("\n".join(lines + skipped) + "\n")


def line(title: str, model: str, counts: list[Pair]) -> str:
    """One row of the table: relative errors, negative where the estimate is too small."""
    errors = sorted((estimated - recorded) / recorded for estimated, recorded in counts)
    total = sum(estimated for estimated, _ in counts) / sum(recorded for _, recorded in counts) - 1
    figures = (statistics.median(errors), errors[len(errors) // 20], errors[-1 - len(errors) // 20], total)
    return f"| {title} | {model} | {len(counts):,} | " + " | ".join(f"{100 * figure:+.1f} %" for figure in figures) + " |"


# -- BFCL ----------------------------------------------------------------------------------------------------------


def bfcl(folder: Path) -> Iterator[tuple[str, int, int]]:
    requests = {row["id"]: row for row in parquet.read_table(folder / "requests.parquet").to_pylist()}
    estimates = {name: Facts.of_row(*sent(row)).tokens for name, row in requests.items()}
    for row in parquet.read_table(folder / "model_results.parquet").to_pylist():
        estimated = estimates[row["id"]]
        if row["input_token_count"] and estimated is not None:
            yield row["model_name"], estimated, row["input_token_count"]


def sent(row: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Messages and tools as the harness sent them to OpenAI."""
    java = row["test_category"] == "java"
    functions = json.loads(row["function"])
    tools = []
    for function in functions if isinstance(functions, list) else [functions]:
        properties = function["parameters"]["properties"]
        for parameter in properties.values() if java else ():
            _as_java(parameter)
        _cast(properties)
        tools.append({"type": "function", "function": {**function, "name": function["name"].replace(".", "_")}})
    return [{"role": "user", "content": row["question"] + (JAVA if java else PYTHON)}], tools


def _as_java(parameter: dict[str, Any]) -> None:
    kind = parameter["type"]
    note = "This parameter can be of any type of Java object" if kind == "any" else f"This is Java {kind} type parameter"
    parameter["description"] += f" {note} in string representation."
    if kind in ("ArrayList", "Array") and "items" in parameter:
        parameter["description"] += (
            f" The list elements are of type {parameter.pop('items')['type']}; they are not in string representation."
        )
    parameter["type"] = "string"


def _cast(properties: dict[str, Any]) -> None:
    for parameter in properties.values():
        if parameter.get("type") == "float":
            parameter["description"] = parameter.get("description", "") + " This is a float type value."
        parameter["type"] = TYPES.get(parameter.get("type", "string"), "string")
        items = parameter.get("items")
        if isinstance(parameter.get("properties"), dict):
            _cast(parameter["properties"])
        elif isinstance(items, dict):
            items["type"] = TYPES.get(items.get("type", "string"), "string")
            if isinstance(items.get("properties"), dict):
                _cast(items["properties"])


# -- pi ------------------------------------------------------------------------------------------------------------


def pi(folder: Path) -> Iterator[tuple[str, int, int]]:
    with gzip.open(folder / "large-session.jsonl.gz", "rt", encoding="utf-8") as lines:
        entries = [json.loads(line)["message"] for line in lines if '"type":"message"' in line]
    history: list[Any] = []
    before: Pair | None = None
    for message in entries:
        if message["role"] == "assistant" and (recorded := _recorded(message)):
            estimated = Facts.of_row(list(history)).tokens or 0
            yield message["model"] + " (messages only)", estimated, recorded
            if before and recorded > before[1] and estimated > before[0]:
                yield message["model"] + " (growth per call)", estimated - before[0], recorded - before[1]
            before = estimated, recorded
        history.append(_chat(message))


def _recorded(message: dict[str, Any]) -> int:
    usage = message["usage"]
    return sum(int(usage[part]) for part in ("input", "cacheRead", "cacheWrite"))


def _chat(message: dict[str, Any]) -> dict[str, Any]:
    """A message of the session in Anthropic's shape, in which it was sent."""
    blocks: list[Any] = []
    for block in message["content"]:
        if block["type"] == "toolCall":
            blocks.append({"type": "tool_use", "id": block["id"], "name": block["name"], "input": block["arguments"]})
        elif block["type"] == "text":
            blocks.append(block)
    if message["role"] == "toolResult":
        result = {"type": "tool_result", "tool_use_id": message["toolCallId"], "content": blocks, "is_error": message["isError"]}
        return {"role": "user", "content": [result]}
    return {"role": message["role"], "content": blocks}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
