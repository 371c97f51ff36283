"""A coding assistant: sessions of tasks, each a loop of model calls and tool results over a growing prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from workloads.world import Call, Dice, Message, User, Workload, calls, people, result, say

SYSTEM = """You are a coding agent in a terminal, working in the repository `parcel-api` (Python 3.12, FastAPI, SQLAlchemy, pytest).
Work in small steps: read before you edit, edit as little as needed, run the tests of what you changed. Keep the style of the file.
Never change generated files below `migrations/versions`. Never print secrets. Don't add dependencies without asking.
Use the tools; don't guess what a file holds. When a command fails, read its message before you try again. When a task is done,
say in two or three sentences what you changed and what you did not. If the task is unclear, ask one question and stop.
Layout: `parcel/api` routes, `parcel/domain` entities and rules, `parcel/store` queries, `parcel/jobs` workers, `tests` by module.
Names are full words, functions do one thing, public functions have a docstring of one line. Money is integers of cents.
Times are UTC and aware. Errors that a client can cause are `ClientError` with a code; all others may propagate."""

RULES = """The team's rules, for all that you write:
- A route parses, checks rights, calls one function of the domain, and answers. It holds no query and no loop over rows.
- A function of the domain takes and returns entities. It raises what the caller can act on, and knows nothing of HTTP.
- A query lives in the store, has a limit, and names its columns where the table is wide. Lists are paged by key, not by offset.
- A worker can run twice for the same id without harm. It takes a row with a lock, works, marks the row, and ends the transaction.
- A test says in its name what holds. It builds only what it needs, asserts one thing, and never sleeps. Time is given, not read.
- Logs are one line of key=value, without names or addresses of people. What is logged as an error wakes somebody up.
- A migration can run while the old code still runs: first add, then fill, then use, then remove, each in a release of its own.
- What a client sees (fields, codes, order of lists) changes only with a line in the changelog and a new minor version.
- Secrets come from the environment by name. A default for a secret is a mistake, also in tests.
- Comments say why. A comment that says what is a sign that a name is missing."""

COMMIT = "Write a commit message for this diff: one line of at most 72 characters, then why. No markdown."

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": text,
                "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": list(keys)},
            },
        }
        for name, text, keys in (
            ("read_file", "Read a file, with line numbers", ("path",)),
            ("list_dir", "List a folder of the repository", ("path",)),
            ("grep", "Search the repository with a regular expression", ("pattern", "path")),
            ("edit_file", "Replace one exact piece of a file by another", ("path", "old", "new")),
            ("run_tests", "Run pytest on a file or folder and return its output", ("target",)),
            ("git_diff", "Show what was changed and is not committed", ("path",)),
            ("fetch_docs", "Fetch a page of a library's documentation", ("library", "topic")),
        )
    ],
    separators=(",", ":"),
)

NOUNS = ("parcel", "label", "route", "depot", "courier", "invoice", "refund", "pickup", "tariff", "customer", "webhook", "scan")
FOLDERS = ("api", "domain", "store", "jobs")
FUNCTIONS = (
    'def find_{N}(session: Session, {N}_id: int) -> {C} | None:\n    """The {N}, or None where there is none."""\n    return session.get({C}, {N}_id)\n',
    'def open_{N}s(session: Session, limit: int = {50|100|200}) -> list[{C}]:\n    """{Open|Waiting} {N}s, oldest first."""\n    query = select({C}).where({C}.state == "{open|waiting|new}").order_by({C}.created_at).limit(limit)\n    return list(session.scalars(query))\n',
    'def total_of(lines: Sequence[Line]) -> int:\n    total = 0\n    for line in lines:\n        if line.{state|kind} == "{void|gift|free}":\n            continue\n        total += line.amount * line.quantity\n    return total\n',
    'async def create_{N}(body: {C}In, session: Session = Depends(session)) -> {C}Out:\n    """Create a {N} from the client\'s data."""\n    if body.{weight|quantity|amount} <= 0:\n        raise ClientError("{N}_{empty|invalid}", "{weight|amount} must be positive")\n    {N} = {C}(**body.model_dump())\n    session.add({N})\n    session.flush()\n    return {C}Out.model_validate({N})\n',
    'class {C}Worker:\n    """Takes {N}s from the queue, one at a time."""\n\n    def __init__(self, queue: Queue[int], tries: int = {3|5}) -> None:\n        self.queue = queue\n        self.tries = tries\n        self.seen: set[int] = set()\n\n    async def run(self) -> None:\n        while True:\n            {N}_id = await self.queue.get()\n            if {N}_id in self.seen:\n                continue\n            self.seen.add({N}_id)\n            await self.handle({N}_id)\n',
    'def parse_{N}(line: str) -> {C}:\n    parts = [part.strip() for part in line.split("{;|,|\\t}")]\n    if len(parts) != {4|5|6}:\n        raise ValueError(f"a {N} has {4|5|6} fields: {line!r}")\n    return {C}(code=parts[0], {weight|amount}=int(parts[1]), {zone|city}=parts[2])\n',
    '@router.get("/{N}s/{{N}_id}")\nasync def read_{N}({N}_id: int, session: Session = Depends(session)) -> {C}Out:\n    {N} = find_{N}(session, {N}_id)\n    if {N} is None:\n        raise ClientError("{N}_unknown", f"no {N} {{N}_id}", status=404)\n    return {C}Out.model_validate({N})\n',
)  # fmt: skip

MECHANICAL = (
    "Add {a docstring|docstrings} to §f{| and its helpers}",
    "Rename `total_of` to `total_cents` in §f",
    "{Fix|Update} the comments in §f, they {are out of date|still speak of pounds}",
    "Please format §f {like the other modules|with our line length}",
    "Add {a type annotation|type annotations} to §f",
    "Add a line to the changelog for the {§n} {limit|export|filter}",
)
BUILD = (
    "Implement a {filter by zone|limit per depot|CSV export|soft delete} for {§n}s in §f",
    "Write tests for §f{, the edge cases first|, at least the error paths|}",
    "Refactor §f: the {parsing|query|state change} belongs into {domain|store}",
    "Add an endpoint that {closes|splits|merges} one §n{ and returns its lines| and notifies the courier|}",
    "Write a migration that adds `{zone|closed_at|currency}` to §n{, with an index|, nullable at first|}",
)
DEEP = (
    "Debug this: {one in a thousand|some} §n {jobs run twice|events get lost}, only {under load|after a deploy}. Start at §f",
    "There is a race condition between the worker and the {API|nightly job} on §n. Find it{ and explain it before you fix it|}",
    "Is there a security problem in how §f {builds the query|checks the owner|logs the address}?",
    "Propose an architecture for {splitting §n from billing|§n events across regions}; which modules move, and in which order?",
    "The worker in §f {has a memory leak|runs into a deadlock} after {two hours|a day}. {Find the cause|Where does it come from?}",
    'CI says:\nTraceback (most recent call last):\n  File "§f", line {31|58|77}, in run\n    await self.handle(§n_id)\nKeyError: {4711|1203}\nWhat happened?',
)
QUESTION = (
    "What does §f do{, in three sentences|}?",
    "Where do we {set|change|read} the state of one §n?",
    "{Why is|What makes} the list of {§n}s {slow|unsorted}?",
    "{Remove|Drop} the {unused|old} {option|argument} `tries` {in|from} §f",
    "Make the message of the {404|422} in §f {friendlier|say which field is wrong}",
)
PICTURE = (
    "The {label|form} in this screenshot is cut off, make it fit",
    "This is how the {depot page|invoice} looks now. {Align the totals|The logo should be smaller}",
)
DONE = "{Done|That is done}: I {changed §f as you asked|kept the change small and touched only §f}. {The tests of the module pass|I ran the tests below `tests`, all pass}. {I did not touch the callers|Other modules are unchanged|The generated files are as they were}."
INSIGHT = "{The cause is the set `seen`: it is filled before the work is done, so a failed {N} is never tried again|Two writers read the state, decide, and write it back without a lock; the second overwrites the first|The session is kept open across `await`, so objects of one request are seen by another}. {I would move the check into one statement, `UPDATE ... WHERE state = 'open'`, and look at the number of rows|The safest change is to take the row with `FOR UPDATE SKIP LOCKED` and to mark it after the work}. {A test can show it with two sessions and a barrier|It can be shown with a queue that gives the same id twice}. {What stays open: jobs that were lost before need a second run|Before that, we should log the number of the attempt}."
FAILURES = ("Error: exit code 1\nE       AssertionError: assert {2|3|0} == {1|4}\n{1|2} failed, {11|23|40} passed in {1|2|3}.{2|4|8}s", "Error: the piece to replace was not found in §f", "Error: no such file or directory: §f", "Error: exit code 2\nImportError: cannot import name 'total_cents'")  # fmt: skip

KINDS = {"mechanical": 24, "build": 24, "deep": 8, "question": 20, "picture": 3, "commit": 18, "runaway": 1.4}
STEPS = {"mechanical": (1, 4), "build": (2, 8), "deep": (2, 9), "question": (0, 4), "picture": (1, 4), "runaway": (20, 21)}
TASKS = {"mechanical": MECHANICAL, "build": BUILD, "deep": DEEP, "question": QUESTION, "picture": PICTURE, "runaway": BUILD}


def _files() -> dict[str, str]:
    """The repository: the same files for everybody."""
    dice = Dice(7)
    found = {}
    for number in range(36):
        noun = NOUNS[number % len(NOUNS)]
        others = [noun, *dice.several(NOUNS, dice.between(0, 3))]
        pieces = [_named(dice, text, name) for name in others for text in dice.several(FUNCTIONS, dice.between(2, 6))]
        found[f"parcel/{FOLDERS[number // len(NOUNS)]}/{noun}.py"] = "\n\n".join(["from __future__ import annotations\n", *pieces])
    return found


def _named(dice: Dice, text: str, noun: str) -> str:
    return dice.spin(text.replace("{{N}_id}", f"<{noun}_id>").replace("{N}", noun).replace("{C}", noun.title()).replace("{line!r}", "<line!r>")).replace("<", "{").replace(">", "}").replace("-}", "->")  # fmt: skip


FILES = _files()


@dataclass(slots=True)
class Session:
    """A developer's session: what was said so far, and the file that it is about."""

    history: list[Message]
    files: list[str]
    number: int = 0
    pause: float = 0.0
    noun: str = ""
    file: str = field(default="")

    def text(self, dice: Dice, text: str) -> str:
        return dice.spin(text.replace("§f", f"`{self.file}`").replace("§n", self.noun).replace("{N}", self.noun))


def users(dice: Dice) -> list[User]:
    return people(dice, 46, (("platform", "team"), ("billing", "team"), ("mobile", "team"), ("guild", "solo")), "dev-")


def conversation(dice: Dice, user: User, _: datetime) -> Iterator[Call]:
    session = Session([say("system", f"{SYSTEM}\n\n{RULES}")], dice.several(tuple(FILES), 4))
    for task in range(dice.weighted((1, 2, 3), (5, 3, 2))):
        session.file = dice.pick(session.files)
        session.noun = session.file.split("/")[-1].removesuffix(".py")
        session.pause = dice.around(70, 0.6) if task else 0.0
        kind = dice.weighted(tuple(KINDS), tuple(KINDS.values()))
        if kind == "commit":
            yield _commit(dice, session)
        else:
            yield from _task(dice, session, kind)


def _commit(dice: Dice, session: Session) -> Call:
    """A call without tools, outside the loop: the editor asks for a commit message."""
    lines = FILES[session.file].splitlines()
    start = dice.between(0, max(len(lines) - 14, 0))
    diff = "\n".join(
        (f"--- a/{session.file}", f"+++ b/{session.file}", *(f"{dice.pick('+- ')}{line}" for line in lines[start : start + 14]))
    )
    answer = session.text(
        dice,
        "{Limit|Sort|Check|Export} {§n}s {by zone|before they are stored|in one query}\n\n{The old way read every row|Clients asked for it|It was done twice}.",
    )
    return Call(
        (say("system", COMMIT), say("user", diff)), say("assistant", answer), session.pause, max_output=300, feature="commit"
    )


def _task(dice: Dice, session: Session, kind: str) -> Iterator[Call]:
    text = session.text(dice, dice.pick(TASKS[kind]))
    picture = {"type": "image_url", "image_url": {"url": f"https://files.parcel.example/{session.noun}.png", "detail": "low"}}
    session.history.append({"role": "user", "content": [{"type": "text", "text": text}, picture] if kind == "picture" else text})
    steps = dice.between(*STEPS[kind])
    failing = kind == "runaway" or dice.chance(0.07)
    for step in range(steps):
        ask, answer = _step(dice, session, step, steps, kind, failing)
        yield _call(session, ask)
        session.history += [ask, answer]
        session.pause = dice.around(0.8, 0.5)
    final = say("assistant", session.text(dice, INSIGHT if kind in ("deep", "question") else DONE))
    yield _call(session, final)
    session.history.append(final)


def _call(session: Session, answer: Message) -> Call:
    return Call(tuple(session.history), answer, round(session.pause, 3), TOOLS, max_output=8_000, feature="agent")


def _step(dice: Dice, session: Session, step: int, steps: int, kind: str, failing: bool) -> tuple[Message, Message]:
    """One turn of the loop: the model's call of a tool, and what the tool says. Reading comes first, then editing, then tests."""
    tool = _tool(dice, step, steps, kind)
    session.number += 1
    identifier = f"call_{session.number}"
    fails = failing and tool in ("run_tests", "edit_file", "grep") and dice.chance(0.75)
    arguments, content = _use(dice, session, tool)
    text = session.text(dice, dice.pick(FAILURES)) if fails else content
    return calls(identifier, tool, json.dumps(arguments)), result(identifier, tool, text)


def _tool(dice: Dice, step: int, steps: int, kind: str) -> str:
    if step == 0:
        return dice.weighted(("read_file", "grep", "list_dir"), (6, 3, 2))
    if kind in ("deep", "question"):
        return dice.weighted(("read_file", "grep", "fetch_docs", "run_tests"), (5, 4, 1, 2))
    if step == steps - 1:
        return dice.weighted(("run_tests", "git_diff"), (3, 1))
    return dice.weighted(("edit_file", "read_file", "run_tests", "grep"), (5, 3, 3, 1))


def _use(dice: Dice, session: Session, tool: str) -> tuple[dict[str, str], str]:
    """Arguments of a tool, and its result where it works."""
    file = session.file if dice.chance(0.7) else dice.pick(session.files)
    lines = FILES[file].splitlines()
    match tool:
        case "read_file":
            return {"path": file}, "\n".join(f"{number:4d}  {line}" for number, line in enumerate(lines, start=1))
        case "list_dir":
            folder = file.rsplit("/", 1)[0]
            return {"path": folder}, "\n".join(path for path in FILES if path.startswith(folder))
        case "grep":
            found = [
                f"{path}:{FILES[path].count(chr(10), 0, FILES[path].find(session.noun)) + 1}"
                for path in FILES
                if session.noun in FILES[path]
            ]
            return {"pattern": session.noun, "path": "parcel"}, "\n".join(found[:12])
        case "edit_file":
            start = dice.between(0, max(len(lines) - 8, 0))
            old = "\n".join(lines[start : start + dice.between(3, 8)])
            new = old.replace(session.noun, f"{session.noun}_row", 1).replace("total", "total_cents")
            return {"path": file, "old": old, "new": f"{new}\n    # {session.noun}s that are void don't count"}, f"edited {file}"
        case "run_tests":
            return {"target": f"tests/test_{session.noun}.py"}, dice.spin("{9|14|23|31} passed in {1|2|4}.{1|3|6}s")
        case "git_diff":
            return {"path": file}, f"--- a/{file}\n+++ b/{file}\n" + "\n".join(f"{dice.pick('+- ')}{line}" for line in lines[:12])
        case _:
            return {"library": dice.pick(("sqlalchemy", "fastapi", "pytest")), "topic": session.noun}, PAGE * dice.between(1, 3)


PAGE = """Rows are locked with `with_for_update()`. With `skip_locked=True` rows that others hold are left out, so several workers can
share a table as a queue. The lock ends with the transaction: keep it short, and do slow work outside of it.\n"""


WORKLOAD = Workload(
    "coding", 20_261_006, 1_800, users,
    (("anthropic", "claude-opus-4-1", 0.72), ("anthropic", "claude-sonnet-4-5", 0.2), ("openai", "gpt-5", 0.08)),
    conversation, (), frozenset({"claude-opus-4-1", "claude-sonnet-4-5", "gpt-5"}),
)  # fmt: skip
