"""Importers of coding agents' transcripts: sessions that repeat each other, sub-agents, and answers that were broken off."""

# ruff: noqa: F811 - fixtures are imported, and asked for by name

from __future__ import annotations

import json
from pathlib import Path

from tests.traces_support import Open, connection, lines, noted, opened, records, write  # noqa: F401 - fixtures


def test_a_resumed_session_counts_its_past_once(opened: Open, tmp_path: Path) -> None:
    entries = records("claude_code/-home-someone-project/ses-1.jsonl")
    write(tmp_path / "a.jsonl", lines(*entries))
    resumed = [{**entry, "sessionId": "ses-2"} for entry in entries[:8]]
    new = json.loads(json.dumps(resumed[7]))
    new |= {"uuid": "n2", "parentUuid": "n1", "requestId": "req_9"}
    new["message"]["id"] = "msg_9"
    said = {**resumed[1], "uuid": "n1", "parentUuid": "a4", "message": {"role": "user", "content": "go on"}}
    write(tmp_path / "b.jsonl", lines(*resumed, said, new))
    trace, rows = opened(tmp_path)
    assert [part.rows for part in trace.parts] == [5, 1]
    assert (rows[-1]["request_id"], rows[-1]["conversation_id"]) == ("msg_9/req_9", "ses-2")
    assert [message["role"] for message in json.loads(rows[-1]["messages"])] == [
        "user",
        "assistant",
        "user",
        "user",
        "assistant",
        "user",
    ]
    assert opened(tmp_path / "b.jsonl")[0].parts[0].digest != trace.parts[1].digest


def test_a_sidechain_in_the_sessions_own_file_is_a_conversation_of_its_own(opened: Open, tmp_path: Path) -> None:
    main = records("claude_code/-home-someone-project/ses-1.jsonl")[:9]
    side = [
        {key: value for key, value in entry.items() if key != "agentId"}
        for entry in records("claude_code/-home-someone-project/ses-1/subagents/agent-ag1.jsonl")
    ]
    _, rows = opened(write(tmp_path / "t.jsonl", lines(*main[:7], *side, *main[7:])))
    assert [(row["request_id"], row["conversation_id"]) for row in rows] == [
        ("msg_1/req_1", "ses-1"), ("msg_6/req_6", "ses-1/s1"), ("msg_2/req_2", "ses-1"),
    ]  # fmt: skip
    assert json.loads(rows[2]["messages"])[-1]["content"][0]["tool_use_id"] == "t2"


def test_writes_without_lifetimes_are_for_five_minutes(opened: Open, tmp_path: Path) -> None:
    entries = records("claude_code/-home-someone-project/ses-1.jsonl")[1:3]
    entries[1]["message"]["usage"].pop("cache_creation")
    _, rows = opened(write(tmp_path / "t.jsonl", lines(*entries)))
    assert (rows[0]["input_tokens"], rows[0]["cache_write_5m_tokens"], rows[0]["cache_write_1h_tokens"]) == (1104, 100, None)


def test_a_forked_codex_session_counts_its_past_once(opened: Open, tmp_path: Path) -> None:
    entries = records("codex/rollout-2026-01-09T11-00-00-new.jsonl")
    write(tmp_path / "a.jsonl", lines(*entries))
    fork = [{**entries[0], "payload": {**entries[0]["payload"], "id": "cx-2"}}, *entries[1:11]]
    usage = {**entries[11], "payload": {**entries[11]["payload"], "response_id": "resp_9"}}
    write(tmp_path / "b.jsonl", lines(*fork, usage))
    trace, rows = opened(tmp_path)
    assert [(row["request_id"], row["conversation_id"]) for row in rows] == [
        ("resp_1", "cx-1"),
        ("resp_2", "cx-1"),
        ("resp_3", "cx-1"),
        ("resp_9", "cx-2"),
    ]
    assert noted(trace)["double-counted"] == 2
    assert json.loads(rows[3]["messages"]) == json.loads(rows[1]["messages"])


def test_an_interrupted_codex_answer_stays_in_the_prompt(opened: Open, tmp_path: Path) -> None:
    entries = records("codex/rollout-2026-01-09T11-00-00-new.jsonl")
    path = write(
        tmp_path / "t.jsonl",
        lines(*(entry for entry in entries if entry["payload"].get("response_id") != "resp_1" and entry["type"] != "event_msg")),
    )
    _, rows = opened(path)
    assert [row["request_id"] for row in rows] == ["resp_2", "resp_3"]
    assert [message["role"] for message in json.loads(rows[0]["messages"])] == ["system", "user", "user", "assistant", "tool"]
