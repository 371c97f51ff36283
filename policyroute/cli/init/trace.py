"""The small trace that `policyroute init` writes: invented requests to one model, so that a replay has something to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

QUESTIONS = (
    ("What are your business hours?", 9, 60), ("How do I export my notes?", 9, 140), ("Can I pay by invoice?", 8, 80),
    ("Please compare the three offers below and say which one fits a team of twelve.", 420, 380),
    ("We see data loss since nine, what do we do?", 24, 260), ("Why does this function return None?\n```python\ndef f(x):\n    x + 1\n```", 31, 220),
    ("Summarise this meeting.", 1_850, 310), ("What is a webhook?", 7, 150),
)  # fmt: skip
ROWS = 240
FIRST = datetime(2026, 10, 5, 8, 0, tzinfo=UTC)


def lines() -> Iterator[str]:
    """JSON lines in the canonical columns. Nobody made these requests."""
    for number in range(ROWS):
        question, tokens, answer = QUESTIONS[(number * 5 + number // 7) % len(QUESTIONS)]
        row = {
            "ts": (FIRST + timedelta(minutes=37 * number)).isoformat(),
            "request_id": f"made-up-{number:03d}",
            "user_id": f"user-{number * number % 31:02d}",
            "plan": "pro" if number % 3 == 0 else "free",
            "model": "gpt-4o",
            "input_tokens": tokens + 40,
            "output_tokens": answer + number % 17,
            "tools": [],
            "messages": [
                {"role": "system", "content": "You help the users of a notes application."},
                {"role": "user", "content": question},
            ],
        }
        yield json.dumps(row) + "\n"
