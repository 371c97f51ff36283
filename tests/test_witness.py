"""Witnesses: a request as a test that passes, texts that say what is wanted and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.analysis.phrases import FILLERS, Phrases
from policyroute.analysis.witness import Witness, Witnesses, witness
from policyroute.language import Policy, check_text
from policyroute.language.formatter import format_source
from policyroute.language.limits import read_signals
from policyroute.language.policy import ANY_OTHER, TextType, Value
from policyroute.language.reference import decide, evaluate
from policyroute.language.source import Source
from policyroute.testing.run import Suite
from tests import strategies

MODELS = """
model a { id "id-a" in $1 out $2 }
model b { id "id-b" in $1 out $2 }
"""


def policy_of(text: str) -> Policy:
    checked = check_text(strategies.DECLARED + MODELS + text)
    assert not checked.failed, checked.diagnostics
    return checked.policy


def plain(policy: Policy, **values: Value) -> dict[str, Value]:
    """Defaults for every signal but texts; `prompt_has_urgent=True` is the signal `prompt has urgent`."""
    found = {name: signal.default for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)}
    stated = {name.replace("_has_", " has "): value for name, value in values.items()}
    assert stated.keys() <= found.keys(), stated
    return found | stated


def passes(text: str, found: Witness, name: str = "a request") -> None:
    """The policy with the witness's test loads without a diagnostic and passes it; the block is laid out as `fmt` would."""
    block = found.test(name)
    assert format_source(Source("block", block)) == block
    checked = check_text(f"{text}\n{block}")
    assert not checked.failed, (block, checked.diagnostics)
    (outcome,) = Suite(checked.policy).run()
    assert outcome.status == "passed", (block, outcome.details)
    assert outcome.decisions == (found.decision,)


# -- the property ------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_any_request_is_a_test_that_passes(data: st.DataObject) -> None:
    """Whatever a request's values are, its witness is decided as they are, and passes as a test of the policy."""
    text = data.draw(strategies.policy_texts())
    policy = strategies.checked(text)
    values = data.draw(strategies.values(policy))
    found = witness(policy, values)
    assert found.decision == decide(policy, values) == decide(policy, found.values)
    passes(text, found)


@settings(max_examples=60)
@given(st.data())
def test_nothing_is_said_in_vain(data: st.DataObject) -> None:
    """Each match that is stated is needed: without it the request would have other values."""
    policy = data.draw(strategies.policies)
    values = data.draw(strategies.values(policy))
    tools = Witnesses(policy)
    found = tools.of(values)
    block = check_text(data.draw(st.just(strategies.DECLARED + MODELS)) + found_alone(found)).policy.tests
    (step,) = block[0].steps
    stated = dict(step[0].values)
    for name in [name for name in stated if " has " in name and len(stated) > 1]:  # a test has to give something
        fewer = tuple((other, value) for other, value in stated.items() if other != name)
        seen = tools.requests.values(step[0].__class__(fewer, step[0].repeated, step[0].span))
        assert any(seen[read] != found.values[read] for read in tools.names), (found.given, name)


def found_alone(found: Witness) -> str:
    """A rule that reads what may be given, and the witness as its test, whatever it then decides."""
    return f'otherwise {{ then a }}\ntest "t" {{\n  given {found.given}\n  expect otherwise\n}}\n'


@settings(max_examples=60)
@given(st.data())
def test_what_is_shown_stays_so_where_texts_speak_for_themselves(data: st.DataObject) -> None:
    """With `holds`, numbers that a text has itself are left to it only where the condition still holds."""
    text = data.draw(strategies.policy_texts())
    policy = strategies.checked(text)
    values = data.draw(strategies.values(policy))
    rule = next(rule for rule in policy.rules if evaluate(rule.condition, values))
    found = witness(policy, values, lambda seen: bool(evaluate(rule.condition, seen)))
    assert evaluate(rule.condition, found.values)
    passes(text, found)


WORDS = ("cat", "dog", "cat dog", "mouse", "house cat")
SHAPES = ("^cat", "dog$", "^dog$", "(?i)CAT|dog", r"\bmouse\b", "c.t d", "[^a-z. ]+", "mouse.*cat")


@st.composite
def policies_of_texts(draw: st.DrawFn) -> str:
    """Policies that ask of texts alone, with sets that overlap."""
    names = [f"s{number}" for number in range(4)]
    lines = [
        f"pattern {name} = /{draw(st.sampled_from(SHAPES))}/"
        if draw(st.booleans())
        else f"words {name} = {', '.join(f'{chr(34)}{word}{chr(34)}' for word in draw(st.sets(st.sampled_from(WORDS), min_size=1, max_size=2)))}"
        for name in names
    ]
    asked = st.tuples(st.sampled_from(strategies.TEXTS), st.sampled_from(["has", "not has"]), st.sampled_from(names)).map(" ".join)
    whens = [" and ".join(draw(st.lists(asked, min_size=1, max_size=3))) for _ in range(3)]
    lines += [f"rule r{number} {{ when {when} then a }}" for number, when in enumerate(whens)]
    return "edition 1\npolicy texts\n" + MODELS + "\n".join(lines) + "\notherwise { then b }\n"


@settings(max_examples=120)
@given(policies_of_texts(), st.data())
def test_texts_say_what_they_should(text: str, data: st.DataObject) -> None:
    """Whatever is asked of three texts with overlapping sets: the witness sees each match as it should be, and passes."""
    policy = check_text(text).policy
    values = data.draw(strategies.values(policy))
    found = witness(policy, values)
    assert {name: found.values[name] for name in read_signals(policy)} == {name: values[name] for name in read_signals(policy)}
    passes(text, found)


# -- what is given -----------------------------------------------------------------------------------------------------

GIVEN: dict[str, tuple[str, dict[str, Value], str]] = {
    "nothing that differs": ("rule r { when tokens < 500 then a }", {}, "tokens 0"),
    "a number in thousands": ("rule r { when tokens > 80k then a }", {"tokens": 90_000}, "tokens 90k"),
    "an odd number": ("rule r { when tokens > 80k then a }", {"tokens": 80_001}, "tokens 80001"),
    "a million": ("rule r { when tokens > 80k then a }", {"tokens": 1_000_000}, "tokens 1M"),
    "a member": ("rule r { when plan is pro then a }", {"plan": "pro"}, "plan pro"),
    "what the policy doesn't read": ("rule r { when plan is pro then a }", {"plan": "pro", "seats": 9, "images": True}, "plan pro"),
    "missing": ("rule r { when feature is search then a }", {"feature": "search"}, "feature search"),
    "a condition": ("rule r { when images then a }", {"images": True}, "images"),
    "a key": ("rule r { when images then split by user { 50% a, 50% b } }", {"user": "u1", "images": True}, 'images, user "u1"'),
    "a tool by another name": ("rule r { when tool is grep then a }", {"tool": "Read File"}, 'tool "Read File"'),
    "a tool whose name is a word": ("rule r { when tool is grep then a }", {"tool": "not"}, 'tool "not"'),
    "another model, as where none is asked for": ("rule r { when requested is a then a }", {"requested": ANY_OTHER}, "tokens 0"),
    "a text": ("rule r { when prompt has urgent then a }", {"prompt_has_urgent": True}, 'prompt "outage"'),
    "the shortest phrase": ("rule r { when prompt has faq then a }", {"prompt_has_faq": True}, 'prompt "invoice"'),
    "a pattern": ("rule r { when system has trace then a }", {"system_has_trace": True}, 'system "traceback"'),
    "two sets": (
        "rule r { when prompt has urgent and prompt has faq then a }",
        {"prompt_has_urgent": True, "prompt_has_faq": True},
        'prompt "outage. invoice"',
    ),
    "earlier, not now": (
        "rule r { when prompt has urgent and last not has urgent then a }",
        {"prompt_has_urgent": True, "last_has_urgent": False},
        'prompt "outage", last "Hello"',
    ),
    "now, and so in all": (
        "rule r { when prompt has urgent and last has urgent then a }",
        {"prompt_has_urgent": True, "last_has_urgent": True},
        'last "outage"',
    ),
    "what no text can say": (
        "rule r { when last has urgent and prompt not has urgent then a }",
        {"prompt_has_urgent": False, "last_has_urgent": True},
        "prompt not has urgent, last has urgent",
    ),
    "a text, and tokens that it has not": (
        "rule r { when prompt has urgent and tokens > 3k then a }",
        {"prompt_has_urgent": True, "tokens": 90_000},
        'tokens 90k, prompt "outage"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_given(name: str) -> None:
    """What a test has to give is said, in the words of the language, and nothing else."""
    rule, stated, wanted = GIVEN[name]
    text = rule + "\notherwise { then b }\n"
    policy = policy_of(text)
    found = witness(policy, plain(policy, **stated), lambda seen: decide(policy, seen) == decide(policy, plain(policy, **stated)))
    assert sorted(found.given.split(", ")) == sorted(wanted.split(", "))
    passes(strategies.DECLARED + MODELS + text, found)


def test_a_test_by_any_name() -> None:
    """Quotes and line breaks of a name are no trouble, and a long request is laid out in lines."""
    text = (
        "rule r { when "
        + " and ".join(f"{name} > 10" for name in ("tokens", "turns", "tools", "seats"))
        + " then a }\notherwise { then b }\n"
    )
    text = text.replace(
        " then a }",
        " and tool is grep and plan is pro and feature is search and prompt has faq then split by user { 50% a, 50% b } }",
    )
    policy = policy_of(text)
    stated = plain(
        policy, tokens=123_456, turns=11, tools=12, seats=13, tool="grep", plan="pro", feature="search", prompt_has_faq=True
    )
    found = witness(policy, {**stated, "user": "somebody with a name that is rather long for a name"})
    assert len(found.test('the "long"\none').splitlines()) > 4 and found.test('the "long"\none').startswith(
        "test \"the 'long' one\" {\n"
    )
    passes(strategies.DECLARED + MODELS + text, found, 'the "long"\none')


UNSAYABLE = ('say "no"', "two\nlines", "half a pair \ud800", "nothing\0")


@pytest.mark.parametrize("key", UNSAYABLE)
def test_what_cannot_be_written_is_replaced(key: str) -> None:
    """A key or a member that no text in quotes can hold is replaced by one that is decided alike."""
    text = "rule r { when tool is grep then a }\notherwise { then split by user { 1% a, 99% b } }\n"
    policy = policy_of(text)
    for values in (plain(policy, user=key), plain(policy, user=key, tool=key)):
        found = witness(policy, values)
        assert found.decision == decide(policy, values)
        passes(strategies.DECLARED + MODELS + text, found)


def test_a_classifier_that_is_asked_is_answered() -> None:
    """A test has to say what a classifier answers, even where that is its default; one that isn't reached is left out."""
    text = """
classifier difficulty : easy | hard { ask a about last prompt "Is it hard?" within 300ms remember 10min on failure easy column "difficulty" }
rule r { when plan is pro then a }
rule s { when difficulty is hard then a }
otherwise { then b }
"""
    policy = policy_of(text)
    reached, before = witness(policy, plain(policy)), witness(policy, plain(policy, plan="pro"))
    assert (reached.given, before.given) == ("difficulty easy", "plan pro")
    passes(strategies.DECLARED + MODELS + text, reached)


def test_what_only_a_guarantee_reads_is_said() -> None:
    """A request that breaks a guarantee shows what the guarantee asks, though no rule reads it."""
    policy = policy_of("guarantee g : never a when seats > 5\notherwise { then a }\n")
    assert witness(policy, plain(policy, seats=6)).given == "seats 6"


# -- texts -------------------------------------------------------------------------------------------------------------

PATTERNS = (
    r"(?i)traceback|^\s+at .+\(.+:\d+\)", r"\d{3}-\d{4}", r"^GET /\w+$", r"[^a-z ]{2,4}", r"(?:foo|bar)+baz?", r"\bcode\b", r"\pL+\d", r"\p{Greek}|omega",
    r"[[:alpha:]]{3}\z", r"(?i:error) [A-F0-9]+", r"a(?i)b", r"(?P<year>20\d\d)", r"(?m)^diff --git", r".{5,}", r"\\n", r"[\d\s]+!", r"\Aend\z",
)  # fmt: skip


def sets(**patterns: str) -> Phrases:
    """Phrases of a policy that has these patterns, and the sets of the generated policies."""
    declared = "\n".join(f"pattern {name} = /{pattern.replace('/', chr(92) + '/')}/" for name, pattern in patterns.items())
    return Phrases(policy_of(f"{declared}\notherwise {{ then a }}\n"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_for_a_pattern(pattern: str) -> None:
    """A text is found for usual patterns; the scanner says that it matches."""
    phrases = sets(wanted=pattern)
    found = phrases.text(["wanted"], [])
    assert found and "wanted" in phrases.found(found)


TEXTS: Mapping[str, tuple[dict[str, str], list[str], list[str], bool]] = {
    "one that asks for the start comes first": ({"one": "cat", "two": "^dog"}, ["one", "two"], [], True),
    "one that asks for the end comes last": ({"one": "cat$", "two": "dog"}, ["one", "two"], [], True),
    "another branch where the first says too much": ({"one": "cat|dog", "two": "cat"}, ["one"], ["two"], True),
    "one and not one": ({"one": "cat"}, ["one"], ["one"], False),
    "two that ask for all": ({"one": "^cat$", "two": "^dog$"}, ["one", "two"], [], False),
    "one that holds the other": ({"one": "cats", "two": "cat"}, ["one"], ["two"], False),
    "what Python's parser has no word for": ({"one": r"\Qa+b\E"}, ["one"], [], False),
    "nothing": ({"one": "cat"}, [], ["one"], True),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    """Wanted sets occur and unwanted ones don't; where no text does that, none is given."""
    patterns, wanted, unwanted, able = TEXTS[name]
    phrases = sets(**patterns)
    found = phrases.text(wanted, unwanted)
    assert (found is not None) == able
    if found is not None:
        assert set(wanted) <= phrases.found(found) and phrases.found(found).isdisjoint(unwanted)


def test_a_filler_says_nothing_unwanted() -> None:
    """The first filler that none of the unwanted sets occurs in."""
    phrases = sets(greeting="(?i)hello|good morning", all=".")
    assert phrases.filler([]) == FILLERS[0] and phrases.filler(["greeting"]) == "Thank you" and phrases.filler(["all"]) is None
