"""What readers say about a trace. `NOTES` is the only list of codes; every text continues a count: "14 rows name no model"."""

from __future__ import annotations

from dataclasses import dataclass

NOTES: dict[str, str] = {
    "relative-time": "timestamps count from 0, not from 1970: hour, weekday and prices by date are unknown",
    "null-timestamp": "rows have no timestamp",
    "bad-timestamp": "timestamps can't be read, and are null",
    "null-model": "rows name no model (`None` counts as none): they have no price",
    "null-user": "rows name no user",
    "zero-output": "calls have 0 output tokens",
    "suspect-cost": "recorded costs are beyond any price (over $0.01 a token): kept in `cost_usd`, marked in `suspect_cost`",
    "bad-value": "values don't fit their column, and are null",
    "cache-exceeds-input": "cached tokens and cache writes exceed the input tokens: the source may count them separately",
    "cache-added": "the source counts cached tokens beside the input: they were added to `input_tokens`",
    "duplicates": "exact repetitions of another row were set aside",
    "repeated-request-id": "rows share a request id but differ: kept",
    "other-events": "lines are not LLM calls",
    "double-counted": "lines or spans repeat the usage of a call that is read already: counted once",
    "gateway-cache": "answers came from the gateway's own cache and cost nothing: set aside",
    "passed-through": "calls were passed through without a decision (embeddings): set aside",
    "torn-lines": "lines of a journal are not whole (its writer is writing, or was killed in mid-write): set aside",
    "unanswered": "requests have no answer in the files that were named: set aside",
    "same-file": "files hold the same bytes as another one: read once",
    "same-name": "not read: taken for copies of files that differ from them in the extension only",
    "incumbent": "the trace names no model: the incumbent is taken for it",
    "model-from-name": "the trace names no model: it was read off the file's name",
    "model-suffix": "model ids lost the benchmark's suffix (`-FC`, `-FC-Auto`): `model_name` keeps them whole",
    "failed-call": "calls failed at the provider",
    "run-label": "labels belong to the run, not to the single call",
    "answers-missing": "later turns lack the model's earlier answers, which the source does not hold",
    "no-system-prompt": "prompts lack the system prompt and the tool definitions, which the source does not hold: text counts are below `input_tokens`",
    "no-tools": "prompts lack the tool definitions, which the source does not hold: text counts are below `input_tokens`",
    "no-requests": "answers were found without their requests: there is no prompt",
}


@dataclass(frozen=True, slots=True)
class Note:
    """What a reader did or saw: `code` is a key of `NOTES`, `rows` how many rows (or files, or values) it concerns."""

    code: str
    message: str
    rows: int


def counted(code: str, rows: int) -> Note:
    """A note in the words of its row, with the count before them."""
    return Note(code, f"{rows:,} {NOTES[code]}", rows)


def notes_markdown() -> str:
    """The notes as a Markdown table, as `docs/traces.md` holds it."""
    return "\n".join(["| note | meaning |", "| --- | --- |", *(f"| `{code}` | {doc} |" for code, doc in NOTES.items())]) + "\n"
