"""`policyroute serve` with everything on: a keys file, rules over tokens and keywords, token counting, journal, metrics."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEY, CALLERS = "pr-benchmark-0123456789abcdef0123456789abcdef", 20
PLANS = ("pro", "free", "enterprise")

POLICY = """edition 1
policy gateway_benchmark "What a support desk may have: keywords, lengths, callers' plans"

signal plan : free | pro | enterprise = free  from header "x-user-plan", metadata "plan"

words urgent  = "outage", "production down", "data loss", "breach", "cannot log in", "legal", "refund now", "escalate", "chargeback"
words deep    = "architecture", "race condition", "deadlock", "memory leak", "root cause", "proof", "derive", "migration plan"
words chatter = "thanks", "thank you", "hello", "good morning", "bye", "never mind"
pattern stack_trace = /(?i)traceback \\(most recent call last\\)|panicked at|segmentation fault/
pattern secret      = /sk-[a-z0-9]{{20}}|AKIA[0-9A-Z]{{16}}/

model mini   {{ provider openai url "http://127.0.0.1:{port}/v1" id "gpt-4o-mini" in $0.15 out $0.60 context 128k can tools, images, json }}
model strong {{ provider openai url "http://127.0.0.1:{port}/v1" id "gpt-4o" in $2.50 out $10 context 128k can tools, images, json }}
tier cheap = mini, strong
tier best  = strong, mini
order cheap < best

forbid strong when plan is free and tokens > 50k because "long prompts are for paying customers"

rule leaked      {{ when prompt has secret then refuse "This text holds a credential." }}
rule too_long    {{ when tokens + max_output > 120k then refuse "This conversation is too long." }}
rule incident    {{ when prompt has urgent and plan in (pro, enterprise) then best }}
rule crash       {{ when last has stack_trace then best }}
rule hard        {{ when last has deep and tokens > 400 then best }}
rule agents      {{ when steps >= 10 or (tool_failed and steps >= 3) then best }}
rule long        {{ when last_tokens > 2k and plan is enterprise then best }}
rule chat        {{ when last has chatter and tokens < 60 then mini }}
otherwise        {{ then cheap }}

on failure {{ retry 1 on 429, 500, 502, 503, 504, timeout then next within 30s }}
on stream failure {{ before 20% restart otherwise finish }}
"""


def version() -> str:
    """Raises ImportError where the extra `serve` is missing."""
    import granian  # noqa: F401
    import httptools  # noqa: F401
    import orjson  # noqa: F401

    import policyroute

    return f"{policyroute.__version__}, granian {version_of('granian')}"


def launch(
    folder: Path, upstream: int, port: int, workers: int, upstream_key: str
) -> tuple[Sequence[str], Mapping[str, str], Mapping[str, str]]:
    """Command, environment variables, and the headers of a client. The mock answers as gpt-4o-mini whatever it is asked for."""
    policy, keys, journal = folder / "gateway.route", folder / "keys.toml", folder / "journal"
    policy.write_text(POLICY.format(port=upstream), "utf-8")
    keys.write_text(_keys(), "utf-8")
    journal.mkdir()
    command = [sys.executable, "-m", "policyroute", "serve", str(policy), "--port", str(port), "--keys", str(keys)]
    command += ["--journal", str(journal), "--workers", str(workers)]
    environment = {"PYTHONPATH": str(ROOT), "POLICYROUTE_MINI_API_KEY": upstream_key, "POLICYROUTE_STRONG_API_KEY": upstream_key}
    return command, environment, {"Authorization": f"Bearer {KEY}"}


def journaled(folder: Path) -> int:
    """Rows that the journal holds after the server's end."""
    import pyarrow.parquet as pq

    files = sorted((folder / "journal").iterdir())
    lines = sum(path.read_bytes().count(b"\n") for path in files if ".jsonl" in path.suffixes)
    return lines + sum(pq.read_metadata(path).num_rows for path in files if path.suffix == ".parquet")


def _keys() -> str:
    """A keys file of a few callers; the load client has the first one's key."""
    keys = [KEY, *(f"{KEY}-{number}" for number in range(1, CALLERS))]
    tables = (
        f'[[key]]\nname = "app-{number}"\nsha256 = "{sha256(key.encode()).hexdigest()}"\nteam = "team-{number % 3}"\n'
        f'signals = {{ plan = "{PLANS[number % 3]}" }}\n'
        for number, key in enumerate(keys)
    )
    return "\n".join(tables)
