"""Runs of tau-bench: a list of runs, each with its whole trajectory. An assistant's message is an LLM call, and the messages
before it are its prompt. The reward belongs to the run: every call of the run carries it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from policyroute.replay.traces.convert import Row, Tally
from policyroute.replay.traces.fields import dumps
from policyroute.replay.traces.head import Head, reading
from policyroute.replay.traces.sql import glob_free, literal
from policyroute.replay.traces.tables import Shape

EXTRAS = {"task_id": "BIGINT", "trial": "BIGINT", "step": "BIGINT", "reward": "DOUBLE"}
MODEL_IN_NAME = r"(.+?)-(?:airline|retail|telecom)(?=[._-])"
SHAPE = Shape(model_in_name=MODEL_IN_NAME, notes=("run-label",))
STEPS = Shape(
    columns={"output": "response"},
    expressions={
        "request_id": "concat_ws('-', task_id, trial, step)",
        "conversation_id": "concat_ws('-', task_id, trial)",
        "metadata": "CAST(to_json({'reward': reward, 'task_id': task_id, 'trial': trial}) AS VARCHAR)",
        "finish_reason": "CASE WHEN n_tool_calls > 0 THEN 'tool_calls' ELSE 'stop' END",
    },
    model_in_name=MODEL_IN_NAME,
    notes=("run-label",),
)


def recognises(head: Head) -> bool:
    """A list of `{task_id, reward, traj, ...}`."""
    return head.kind in ("json", "jsonl") and head.has("task_id", "reward", "traj")


def recognises_steps(head: Head) -> bool:
    """A table of steps that was made from such a list."""
    return head.has("task_id", "trial", "step", "messages", "response", "reward", "n_tool_calls")


def rows(connection: duckdb.DuckDBPyConnection, head: Head, tally: Tally) -> Iterator[Row]:
    """Every assistant's message of every run."""
    form = "array" if head.kind == "json" else "newline_delimited"
    with reading(head.place):
        runs = connection.cursor().execute(
            f"SELECT json FROM read_json_objects({literal(glob_free(str(head.path)))}, format = '{form}')"
        )
        while found := runs.fetchone():
            yield from _run(json.loads(found[0]))


def _run(run: dict[str, Any]) -> Iterator[Row]:
    task, trial, reward = run.get("task_id"), run.get("trial", 0), run.get("reward")
    user = ((run.get("info") or {}).get("task") or {}).get("user_id")
    written: list[str] = []
    step = 0
    for message in run["traj"]:
        if message.get("role") == "assistant":
            yield {
                "request_id": f"{task}-{trial}-{step}",
                "conversation_id": f"{task}-{trial}",
                "user_id": user,
                "messages": f"[{','.join(written)}]",
                "output": dumps(message),
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
                "metadata": dumps({"reward": reward, "task_id": task, "trial": trial}),
                "task_id": task,
                "trial": trial,
                "step": step,
                "reward": reward,
            }
            step += 1
        written.append(dumps(message))
