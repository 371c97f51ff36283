"""`POST /v1/feedback`: ratings that a replay finds again as outcomes, and conversations that are to get better answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyroute.language.load import load
from policyroute.prices.catalog import complete, load_catalog
from policyroute.proxy.feedback import FILE, FeedbackError, code, decision_id, feedback
from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate
from tests.gateway_support import Provider, provider, serving

POLICY = """edition 1
policy desk
model mini   {{ provider openai  id "gpt-4o-mini"  url "{url}"  in $1  out $2  context 128k }}
model strong {{ provider openai  id "gpt-4o"       url "{url}"  in $3  out $9  context 128k }}
rule pressed {{ when escalated then strong }}
otherwise    {{ then mini }}
explore 20% by user
"""


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider() as running:
        yield running


def test_ratings_become_outcomes_and_wishes_are_kept(upstream: Provider, tmp_path: Path) -> None:
    """Two workers: whoever is told of a wish, the conversation's next request gets the better model, others' don't."""
    with serving(POLICY.format(url=upstream.url), tmp_path, workers=2) as gateway:

        def asked(conversation: str, user: str = "u") -> dict[str, str]:
            body = {"model": "auto", "user": user, "messages": [{"role": "user", "content": "hello"}]}
            return gateway.post("/v1/chat/completions", body, {"x-conversation-id": conversation})[1]

        ids = [asked(f"c{number}", f"u{number}")["x-policyroute-decision-id"] for number in range(40)]
        for number, decision in enumerate(ids):
            status, _, told = gateway.post("/v1/feedback", {"decision_id": decision, "rating": "down"})
            assert (status, json.loads(told)["rated"]) == (200, True)
            if number % 2:
                gateway.post("/v1/feedback", {"decision_id": decision, "rating": "up"})
        status, _, told = gateway.post("/v1/feedback", {"decision_id": ids[0], "escalate": True})
        assert (status, json.loads(told)) == (200, {"decision_id": ids[0], "rated": False, "escalated": True})
        assert [asked("c0")["x-policyroute-rule"] for _ in range(4)] == ["pressed"] * 4
        assert asked("c1")["x-policyroute-rule"] == "otherwise"
        assert gateway.stop() == 0
    with (gateway.journal / FILE).open("ab") as torn:
        torn.write(b'{"decision_id": "pr_')
    catalog = load_catalog()
    policy = complete(load(tmp_path / "desk.route"), catalog)[0]
    found = result(simulate(policy, [gateway.journal], catalog, Options(feedback=["feedback"])))
    assert found["headline"]["changed"] == 0  # the wish is in the journal: the same rule takes the request again
    (panel,) = found["quality"]["logged"]
    assert (
        panel["outcome"] == "feedback"
        and panel["used_rows"] + sum(line["rows"] for line in panel["left_out"]) == panel["rows"] == 45
    )
    assert panel["used_rows"] == 40


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "decision_id"),
        ({"decision_id": "pr_1", "rating": "up"}, "decision_id"),
        ({"decision_id": f"pr_{'0' * 32}"}, "rating"),
        ({"decision_id": f"pr_{'0' * 32}", "rating": "good"}, '"up", "down" or a number'),
        ({"decision_id": f"pr_{'0' * 32}", "rating": float("nan")}, '"up", "down" or a number'),
        ({"decision_id": f"pr_{'0' * 32}", "rating": [1]}, '"up", "down" or a number'),
        ({"decision_id": f"pr_{'0' * 32}", "escalate": "yes"}, "escalate"),
    ],
)
def test_what_is_no_feedback(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FeedbackError, match=message):
        feedback(fields)


def test_an_id_tells_its_conversation_to_those_who_know_it() -> None:
    assert decision_id("c").endswith(code("c")) and decision_id("c") != decision_id("c")
    assert feedback({"decision_id": decision_id("c"), "rating": 0.5}).conversation == code("c")
    assert len(decision_id("")) == len(decision_id("c")) == 35


def test_errors_are_told(upstream: Provider, tmp_path: Path) -> None:
    with serving(POLICY.format(url=upstream.url), tmp_path, "--journal", "off", "--state", "memory") as gateway:
        assert gateway.post("/v1/feedback", {"decision_id": "x"})[0] == 400
        status, _, told = gateway.post("/v1/feedback", {"decision_id": f"pr_{'0' * 32}", "rating": "up"})
        assert (status, json.loads(told)["error"]["code"]) == (400, "no_journal")
        assert gateway.get("/v1/feedback")[0] == 405
        assert gateway.post("/v1/feedback", b"{")[0] == 400
