"""Headers on their way: what goes upstream, what comes back, what is ours, and what a Retry-After says."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.prices.cost import Cost
from policyroute.proxy.headers import ANTHROPIC_VERSION, LONGEST_WAIT, clean, of_environ, ours, retry_after, to_client, to_upstream
from policyroute.proxy.providers import Endpoint, Secret
from policyroute.proxy.served import Attempt
from tests.served_support import served

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
CHAT = Endpoint("https://one.test/v1", frozenset({"chat", "embeddings"}), key=Secret("sk-ours"))
MESSAGES = Endpoint("https://two.test/v1", frozenset({"messages"}), "x-api-key", Secret("sk-ant-ours"))
AZURE = Endpoint("https://three.test/openai/v1", frozenset({"chat"}), "api-key", Secret("az-ours"))
NAMED = ("anthropic-version", "2026-10-21")


# -- from a WSGI environment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"HTTP_X_USER_PLAN": "pro", "REQUEST_METHOD": "POST"}, {"x-user-plan": "pro"}),
        ({"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "2"}, {"content-type": "application/json", "content-length": "2"}),
        ({"CONTENT_TYPE": "", "HTTP_X_PLAN": ""}, {}),
        ({"HTTP_X_CITY": "MÃ¼nchen"}, {"x-city": "München"}),  # UTF-8, as gunicorn and waitress give it
        ({"HTTP_X_CITY": "M\xfcnchen"}, {"x-city": "München"}),  # Latin-1
        ({"HTTP_X_CITY": "東京"}, {"x-city": "東京"}),  # a server that has read it as UTF-8
        ({"HTTP_X_CITY": "\udce9t\u6771"}, {"x-city": "?t東"}),
        ({"HTTP_X_CITY": "\xff\xfe"}, {"x-city": "\xff\xfe"}),
        ({"wsgi.input": object(), "HTTPS": "on", "HTTP": "x"}, {}),
    ],
)
def test_headers_of_an_environment(environ: dict[str, Any], found: dict[str, str]) -> None:
    assert of_environ(environ) == found


@given(st.text())
def test_any_value_can_be_written_down(value: str) -> None:
    for found in of_environ({"HTTP_X_A": value, "CONTENT_TYPE": value}).values():
        found.encode()


# -- to an upstream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "found", "sent"),
    [
        (CHAT, {}, [("authorization", "Bearer sk-ours")]),
        (
            CHAT,
            {"accept": "text/event-stream", "user-agent": "OpenAI/Python 3.54.0", "openai-beta": "x", "anthropic-beta": "y"},
            [
                ("accept", "text/event-stream"), ("user-agent", "OpenAI/Python 3.54.0"), ("openai-beta", "x"),
                ("authorization", "Bearer sk-ours"),
            ],
        ),
        (MESSAGES, {}, [("anthropic-version", ANTHROPIC_VERSION), ("x-api-key", "sk-ant-ours")]),
        (MESSAGES, dict([NAMED]), [NAMED, ("x-api-key", "sk-ant-ours")]),
        (MESSAGES, {"anthropic-beta": "a,b", "openai-beta": "x"}, [("anthropic-beta", "a,b"), ("anthropic-version", ANTHROPIC_VERSION), ("x-api-key", "sk-ant-ours")]),
        (AZURE, {"traceparent": "00-1-2-01", "tracestate": "a=1"}, [("traceparent", "00-1-2-01"), ("tracestate", "a=1"), ("api-key", "az-ours")]),
        (Endpoint("http://127.0.0.1:1/v1", frozenset({"chat"})), {}, []),
    ],
)  # fmt: skip
def test_what_goes_upstream(endpoint: Endpoint, found: dict[str, str], sent: list[tuple[str, str]]) -> None:
    assert list(to_upstream(found, endpoint)) == [("content-type", "application/json"), *sent]


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x-api-key", "api-key", "cookie", "host", "connection", "content-length", "content-encoding", "transfer-encoding",
        "idempotency-key", "x-stainless-retry-count", "x-user-plan", "x-user-id", "x-forwarded-for", "openai-organization",
        "openai-project", "proxy-authorization", "expect", "accept-encoding", "x-claude-code-session-id", "x-escalate",
    ],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", [CHAT, MESSAGES, AZURE], ids=["chat", "messages", "azure"])
def test_what_does_not(endpoint: Endpoint, name: str) -> None:
    sent = to_upstream({name: "canary"}, endpoint)
    assert "canary" not in str(sent) and all(value != "canary" for _, value in sent)


@given(st.text(), st.sampled_from([CHAT, MESSAGES, AZURE]))
def test_nothing_is_injected(value: str, endpoint: Endpoint) -> None:
    names = ("accept", "user-agent", "anthropic-version", "anthropic-beta", "openai-beta", "traceparent", "tracestate")
    for _, sent in to_upstream(dict.fromkeys(names, value), endpoint):
        assert not set(sent) & set("\r\n\0")
        sent.encode("latin-1")


# -- to a client ---------------------------------------------------------------------------------------------------------

PASSING = [
    "x-request-id", "request-id", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-requests-reset", "retry-after", "retry-after-ms",
    "openai-processing-ms", "openai-version", "x-should-retry", "cache-control",
]  # fmt: skip
STOPPED = [
    "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "content-encoding", "content-type",
    "content-digest", "set-cookie", "server", "date", "via", "alt-svc", "cf-ray", "access-control-allow-origin", "access-control-anything",
    "strict-transport-security", "openai-organization", "openai-project", "anthropic-organization-id", "www-authenticate", "location",
    "x-policyroute-cost-usd", "x-policyroute-rule",
]  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_what_a_client_sees(name: str) -> None:
    assert to_client({name: "17"}) == [(name, "17")]


@pytest.mark.parametrize("name", STOPPED)
def test_what_a_client_does_not_see(name: str) -> None:
    assert to_client({name: "17"}) == []


def test_a_connection_names_its_own() -> None:
    found = {"connection": "Keep-Alive, X-Hop", "x-hop": "1", "x-request-id": "r"}
    assert to_client(found) == [("x-request-id", "r")]


def test_an_upstream_can_not_write_lines() -> None:
    assert to_client({"x-request-id": "a\r\nset-cookie: b=1\0\x85"}) == [("x-request-id", "aset-cookie: b=1")]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("pro", "pro"),
        (" pro ", "pro"),
        ("a\tb", "a\tb"),
        ("a\r\nb\x00c\x7f", "abc"),
        ("gr\xfcn \u6771 \ud800", "gr\xfcn"),
        ("\u2028\u0085x", "x"),
    ],
)
def test_cleaned_values(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


# -- our own -------------------------------------------------------------------------------------------------------------


def test_ours() -> None:
    done = served(cost=Cost(1_234_500_000))
    done.attempts.insert(0, Attempt("other", 0.0, 0.0, "skipped: circuit open"))
    found = dict(ours(done, 0.30001))
    assert done.decision is not None
    assert found == {
        "x-policyroute-decision-id": "pr_1",
        "x-policyroute-policy": done.policy.digest[:12],
        "x-policyroute-rule": done.decision.rule,
        "x-policyroute-target": done.model,
        "x-policyroute-tier": done.tier,
        "x-policyroute-attempts": "1",
        "x-policyroute-overhead-ms": "0.300",
        "x-policyroute-cost-usd": "0.0012345",
    }


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (10**13, "10"),
        (10**12, "1"),
        (150_000, "0.00000015"),
        (12_345_678_901_234_567, "12345.678901234567"),
    ],
)
def test_costs_are_exact_and_plain(picodollars: int, text: str) -> None:
    assert dict(ours(served(cost=Cost(picodollars)), 0.0))["x-policyroute-cost-usd"] == text


def test_what_is_unknown_is_not_said() -> None:
    names = {name for name, _ in ours(served(cost=None, decision=None, model="", tier="", attempts=[]), 0.0)}
    assert names == {"x-policyroute-" + each for each in ("decision-id", "policy", "attempts", "overhead-ms")}


# -- Retry-After ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "99999999"}, LONGEST_WAIT),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "."}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30"}, 30.0),  # no zone said: an HTTP date is in UTC, wherever this runs
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 25 Dec 2099 11:00:00 GMT"}, LONGEST_WAIT),
        ({"retry-after": "Wed, 45 Nov 2026 11:00:00 GMT"}, None),
    ],
)
def test_retry_after(found: dict[str, str], seconds: float | None) -> None:
    assert retry_after(found, NOW) == seconds


@given(st.text(), st.text())
def test_any_retry_after_is_none_or_bearable(one: str, two: str) -> None:
    wait = retry_after({"retry-after": one, "retry-after-ms": two}, NOW)
    assert wait is None or 0.0 <= wait <= LONGEST_WAIT


@given(st.datetimes(datetime(2026, 11, 25, 12), datetime(2026, 11, 26, 11, 59)))
def test_a_date_is_as_good_as_seconds(at: datetime) -> None:
    there = at.replace(tzinfo=UTC, microsecond=0)
    assert retry_after({"retry-after": format_datetime(there, usegmt=True)}, NOW) == there.timestamp() - NOW
