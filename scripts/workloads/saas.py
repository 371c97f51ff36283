"""A notes application whose AI features are paid by plan: search, summaries, drafts, chat over notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime

from workloads.world import Call, Dice, Message, User, Workload, people, say

SYSTEM = {
    "search": "You work in the search field of a notes application. Dates are ISO 8601; today is given by the client. Names stand as written. Rewrite the user's words as a search over notes. Answer with JSON: {\"terms\": [..], \"from\": date or null, \"people\": [..]}.",
    "summarise": "Summarise the note for a busy reader: at most five sentences, decisions and dates first, names as they stand. Don't add what isn't there.",
    "draft": "Write a first draft in the user's voice. Plain sentences, no headings unless asked for. Leave gaps in [brackets] where a fact is missing.",
    "chat": "Answer from the notes below. Quote the note's title for what you say. If the notes don't say it, say so.",
}  # fmt: skip

SUBJECTS = (
    "launch",
    "hiring plan",
    "budget",
    "onboarding",
    "office move",
    "pricing page",
    "partner day",
    "data migration",
    "support rota",
    "annual report",
)
PEOPLE = ("Amara", "Bence", "Chiara", "Dawit", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Kofi", "Lena")
SENTENCES = (
    "{A} {said|reported|noted} that the {S} is {on time|a week late|ahead of plan}, because {the supplier answered early|two people were ill|the scope was cut in half}.",
    "We agreed to {move|keep} the date of the {S} {to|on} {Monday|the 14th|the end of the month}; {A} tells {B} and writes it into the plan.",
    "{B} asked who {owns|pays for|signs off} the {S}. {Nobody knew|It is {A}'s team, for now|The answer is open until Friday}.",
    "The numbers of {last week|September|the third quarter}: {1,204|880|2,310} visits, {31|64|12} replies, {7|9|18} of them useful, costs of {3,400|12,900|760}.",
    "Open points: {the text of the mail|a room for 40|access for the agency|the old data}, {the logo|two quotes|a second reviewer}, and whether the {S} needs {its own page|a test run|more time}.",
    "{A} would rather {wait|start small|ask customers first}; {B} {disagrees|agrees}, since the {S} {was promised|depends on it|costs more each week}.",
    "Next time we begin with the {S}. {A} brings {figures|examples|three options}, {B} the {list of names|draft|feedback of the pilot}.",
    "A remark from the floor: the {S} is {hard to find|well liked|seen as a burden}, mostly by {new colleagues|the field team|people who join from abroad}.",
)  # fmt: skip
CONTRACT = (
    "The contract between the parties runs for {12|24|36} months and renews unless ended {30|60|90} days before.",
    "Liability is limited to the fees of {six|twelve} months, but for intent and for injury of persons.",
    "Each party keeps what it learns under the NDA of {March|last year} for {two|five} years after the end.",
    "The supplier answers within {four|eight} hours and repairs within {two|five} working days.",
)  # fmt: skip

ASK = {
    "search": ("notes about the {S} {from {September|last week|{A}}|with {B}|}", "what did {A} say on the {S}{ in October|}", "{decisions|open points|numbers} {S}", "{S} {{A}|{B}} {Monday|Friday}"),
    "draft": ("{Write|Draft} {a mail|an invitation|a short post} {to the team|to {B}|to customers} about the {S}{, friendly but short|, in three sentences| with the new date|}.", "Turn these points into {a mail|an announcement}: the {S} is {late|ready}, {A} answers questions, {no action needed|please reply by Friday}.", "Draft {terms of service for the {S} page|an answer to the agency on liability in the contract}{, plain words|}."),
    "chat": ("{Who|When} {decided|owns|ends} the {S}?", "What is still open on the {S}{, and who has it|}?", "{Do the notes say|Is it written} what the {S} {costs|needs}?", "{Compare|List} what {A} and {B} want for the {S}."),
}  # fmt: skip
MORE = (
    "{And|Also} {for|on} the {S}?",
    "{Shorter|As a list}, please.",
    "Which note is that from?",
    "{Make it friendlier|Say it in one sentence|Leave out the numbers}.",
)
ANSWERS = {
    "search": '{"terms":["{S}","{decision|open points|plan}"],"from":{null|"2026-09-01"|"2026-10-01"},"people":[{|"{A}"}]}',
    "summarise": "The {S} is {on time|late by a week}; {A} owns it and {B} signs off. {The date was moved to the 14th|The date stands}. {Open: the text of the mail, a room, and access for the agency|Nothing is open but the second quote}. {Costs so far are 3,400|Numbers of the quarter are in the note}. {Next time the team looks at three options|The pilot's feedback comes first next time}.",
    "draft": "Hello {all|everybody|{B}},\n\nthe {S} {is ready|moves to [date]|needs a week more}. {You don't have to do anything|Please read the note and answer by Friday}. {A} {answers your questions|has the details}, and {we meet on Monday for the rest|the plan is in the shared folder}. {Thank you for your patience|Thank you all for the work of the last weeks}.\n\n{Best|Kind regards}\n[name]",
    "chat": 'In "{S}, {week 40|week 41|retro}": {A} {owns it|decided it|wants to wait}, {B} {agrees|is against it}. {The date is the 14th|No date is given}. {The costs are not in the notes|It says 12,900 so far}.',
}  # fmt: skip

KINDS = {"search": 36, "summarise": 27, "draft": 19, "chat": 18}
OUTPUT = {"search": 200, "summarise": 600, "draft": 1_200, "chat": 800}


def _paragraphs(sentences: tuple[str, ...], number: int, seed: int) -> tuple[str, ...]:
    """Paragraphs that notes are put together from: people write about the same things again and again."""
    dice = Dice(seed)
    return tuple(
        " ".join(_fill(dice, dice.pick(sentences), _topic(dice)) for _ in range(dice.between(2, 4))) for _ in range(number)
    )


def _topic(dice: Dice) -> tuple[str, str, str]:
    first, second = dice.several(PEOPLE, 2)
    return dice.pick(SUBJECTS), first, second


def _fill(dice: Dice, text: str, topic: tuple[str, str, str]) -> str:
    subject, first, second = topic
    json_like = text.startswith('{"')
    text = text.replace("{S}", subject).replace("{A}", first).replace("{B}", second)
    text = dice.spin(f"<{text[1:-1]}>" if json_like else text)
    return f"{{{text[1:-1]}}}" if json_like else text


NOTES = _paragraphs(SENTENCES, 160, 11)
CLAUSES = _paragraphs(CONTRACT, 24, 12)


def users(dice: Dice) -> list[User]:
    teams = [(f"team-{number:02d}", "pro") for number in range(1, 15)] + [
        ("northwind", "enterprise"),
        ("oakline", "enterprise"),
    ] * 3
    found = people(dice, 260, [*teams, *[(f"free-{number:02d}", "free") for number in range(1, 19)]], "u")
    homes = {
        team: (dice.weighted(("anywhere", "eu"), (7, 3)), dice.between(2, 14)) for team in sorted({user.team for user in found})
    }
    seats = {"free": 1, "enterprise": 240}
    return [
        dataclasses.replace(user, about={"residency": homes[user.team][0], "seats": seats.get(user.plan, homes[user.team][1])})
        for user in found
    ]


def conversation(dice: Dice, user: User, at: datetime) -> Iterator[Call]:
    kind = dice.weighted(tuple(KINDS), tuple(KINDS.values()))
    topic = _topic(dice)
    history: list[Message] = [say("system", SYSTEM[kind] if kind != "chat" else f"{SYSTEM[kind]}\n\n{_note(dice, topic, 0.6)}")]
    batch = (at.hour < 6 or dice.chance(0.06)) and kind == "summarise"
    old_client = kind in ("chat", "draft") and dice.chance(0.07)
    question = _note(dice, topic, 1.0) if kind == "summarise" else _fill(dice, dice.pick(ASK[kind]), topic)
    pause = 0.0
    while True:
        history.append(say("user", question))
        answer = say("assistant", _fill(dice, ANSWERS[kind], topic))
        yield Call(
            tuple(history), answer, round(pause, 3), json=kind == "search", max_output=OUTPUT[kind],
            feature=None if old_client else kind, stream=kind in ("draft", "chat") and not dice.chance(0.3) and not batch,
        )  # fmt: skip
        history.append(answer)
        if kind == "search" or not dice.chance({"summarise": 0.12}.get(kind, 0.42)):
            return
        question, pause = _fill(dice, dice.pick(MORE), topic), dice.around(35, 0.6)


def _note(dice: Dice, topic: tuple[str, str, str], size: float) -> str:
    """A note of some hundred to some thousand tokens; some are contracts."""
    number = max(2, min(int(dice.around(13, 0.75) * size), 90))
    contract = dice.chance(0.1)
    title = (
        f"# {topic[0].capitalize()}, {dice.pick(('contract', 'terms') if contract else ('week 40', 'week 41', 'retro', 'ideas'))}"
    )
    return "\n\n".join((title, *(dice.pick(CLAUSES if contract else NOTES) for _ in range(number))))


WORKLOAD = Workload(
    "saas", 20_261_007, 2_800, users,
    (("anthropic", "claude-sonnet-4-5", 0.78), ("openai", "gpt-5", 0.14), ("openai", "gpt-4o-mini", 0.08)),
    conversation, ("residency", "seats"), frozenset({"gpt-5", "gpt-4o-mini"}),
)  # fmt: skip
