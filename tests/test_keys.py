"""API keys: the file and its mistakes, who is found, which claims count, and the command."""

from __future__ import annotations

import copy
import os
import stat
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from policyroute.cli import cli
from policyroute.language import Policy
from policyroute.proxy.key_file import Entry, Keeping, entries, exposed, hashed, new_key, text_of, with_entry, without_entry
from policyroute.proxy.keys import LOCAL, Caller, Keys, KeysError, facts_of, keys_of, load_keys
from policyroute.signals.values import Reader, Values
from tests.simulate_support import policy_from

POLICY = """
signal plan  : free | pro | max = free   from header "X-User-Plan", metadata "plan", body "account.plan", column "plan"
signal seats : int 1..100 = 2            from metadata "seats", header "x-seats"
signal depth : int 0..9 = 0              from body "extra.depth", header "x-depth"
signal vip   : bool = false              from header "x-vip"
signal tenant : key                      from header "x-tenant"
signal old   : free | pro = free         from column "old_plan"
signal conversation : key                from header "x-chat"
signal tariff : low | high = low         from header "x-user-plan"
signal max_output : int 1..8k = 1k       from metadata "limit"
model mini   { provider openai  id "gpt-4o-mini"  in $1 out $1 }
model strong { provider openai  id "gpt-4o"  in $1 out $1 }
model claude { provider anthropic  id "claude-x"  in $1 out $1 }
tier cheap = mini
tier good  = strong, claude
rule paid { when plan is pro and vip then good }
otherwise { then cheap }
"""
PLACED = """
signal user : key from header "x-uid", metadata "uid"
signal team : key from metadata "dept"
signal escalated : bool = false from header "x-better"
model mini { provider openai  id "gpt-4o-mini"  in $1 out $1 }
otherwise { then mini }
"""
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY, OTHER = "pr-one", "pr-two"
FILE = Path("keys.toml")


@cache
def policy(text: str = POLICY) -> Policy:
    return policy_from(text)


@cache
def reader(text: str = POLICY) -> Reader:
    return Reader(policy(text))


def table(more: str = "", name: str = "desk", key: str = KEY) -> str:
    return f'[[key]]\nname = "{name}"\nsha256 = "{hashed(key)}"\n{more}\n'


def keys(more: str = "", others: str = "", text: str = POLICY) -> Keys:
    return keys_of(table(more) + (table(others, "other", OTHER) if others else ""), FILE, policy(text))


def caller(more: str = "", others: str = "", text: str = POLICY) -> Caller:
    found = keys(more, others, text).find({"x-api-key": KEY}, NOW)
    assert found is not None
    return found


def read(by: Caller, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None, text: str = POLICY) -> Values:
    return reader(text)(facts_of(body or {}, headers or {}, by, NOW, policy(text)))


# -- who -----------------------------------------------------------------------------------------------------------------

SENT = [
    ({"authorization": f"Bearer {KEY}"}, True),
    ({"authorization": f"bearer   {KEY} "}, True),
    ({"x-api-key": KEY}, True),
    ({"api-key": f" {KEY}"}, True),
    ({"authorization": "Bearer sk-dummy", "x-api-key": KEY}, True),
    ({"authorization": f"Basic {KEY}"}, False),
    ({"authorization": KEY}, False),
    ({"x-api-key": KEY + "x"}, False),
    ({"x-api-key": hashed(KEY)}, False),  # who has read the file has no key
    ({"x-api-key": "\udcff\x00"}, False),
    ({"x-api-key": ""}, False),
    ({}, False),
]


@pytest.mark.parametrize(("headers", "found"), SENT)
def test_where_a_key_is_found(headers: dict[str, str], found: bool) -> None:
    by = keys().find(headers, NOW)
    assert (by is not None and by.name == "desk") is found


@pytest.mark.parametrize(
    ("at", "found"),
    [("2026-11-25T00:00:00+00:00", True), ("2026-11-25T23:59:59+00:00", True), ("2026-11-26T00:00:00+00:00", False),
     ("2026-11-26T00:30:00+02:00", True)],
)  # fmt: skip
def test_a_key_expires_after_its_last_day_in_utc(at: str, found: bool) -> None:
    assert (keys("expires = 2026-11-25").find({"x-api-key": KEY}, datetime.fromisoformat(at)) is not None) is found


def test_models() -> None:
    chain = ("claude", "mini", "strong")
    assert caller().permitted(chain, policy()) == LOCAL.permitted(chain, policy()) == chain
    assert caller('models = ["mini"]').permitted(chain, policy()) == ("mini",)
    assert caller('models = ["good"]').permitted(chain, policy()) == ("claude", "strong")
    assert caller('models = ["cheap", "claude"]').permitted(("strong",), policy()) == ()


def test_what_a_caller_is() -> None:
    by = caller('user = "ann"\nteam = "sales"\nsignals = { plan = "pro", seats = 5 }\ntrusted = true', "signals = { vip = true }")
    assert (by.name, by.user, by.team, by.trusted) == ("desk", "ann", "sales", True)
    assert by.signals == {"plan": "pro", "seats": 5}
    assert by.owned == {"user", "team", "plan", "seats", "vip"}
    assert KEY not in repr(by) and hashed(KEY) not in repr(by)


# -- mistakes ------------------------------------------------------------------------------------------------------------

WRONG = [  # what is in the file, what the message says, what the remedy says
    ("[[key]\n", "is not valid TOML", "quoted"),
    ("[keys]\n", "unknown table `keys`", "[[key]]"),
    ("[key]\nname = 'x'\n", "not a list of tables", "[[key]]"),
    ("[[key]]\n", "key 1: `name` is missing", "name ="),
    ('[[key]]\nname = "a\\nb"\n', "`name` is not a plain text", "one line"),
    ('[[key]]\nname = "x"\n', "key 1 `x`: `sha256` is missing", "keys new"),
    ('[[key]]\nname = "x"\nsha256 = "abc"\n', "not the hex", "keys new"),
    (f'[[key]]\nname = "x"\nsha256 = "{"g" * 64}"\n', "not the hex", "keys new"),
    ('[[key]]\nname = "x"\nsha256 = "pr-secretsecret"\n', "is a key", "keys new"),
    (table() + table(), "key 2 `desk`: key 1 has the same name", "its own"),
    (table() + table(name="b"), "key 2 `b`: key 1 has the same `sha256`", "keys new"),
    (table("modles = []"), "unknown field `modles`", "did you mean `models`?"),
    (table("trusted = 1"), "`trusted` is not true or false", "trusted = true"),
    (table('user = ""'), "`user` is not a plain text", "user ="),
    (table('expires = "2026-11-25"'), "`expires` is not a date", "without quotes"),
    (table("expires = 2026-11-25T00:00:00Z"), "`expires` is not a date", "without quotes"),
    (table("models = []"), "`models` is not a list", "leave it out"),
    (table('models = ["mnii"]'), "no model or tier is named `mnii`", "did you mean `mini`?"),
    (table("cache = true"), "`cache` is not a table", "ttl"),
    (table("cache = { tll = 1 }"), "unknown field `tll` of `cache`", "did you mean `ttl`?"),
    (table("cache = { ttl = 600 }"), "`ttl` of `cache` is not a time", "10min"),
    (table('cache = { ttl = "10 minutes" }'), "`ttl` of `cache` is not a time", "10min"),
    (table('cache = { ttl = "10min", tools = 1 }'), "`tools` is not true or false", "tools = true"),
    (table("signals = 3"), "`signals` is not a table", "plan"),
    (table("signals = { seats = 1.5 }"), "`signals` is not a table of values", "whole numbers"),
    (table('signals = { paln = "pro" }'), "no signal is named `paln`", "did you mean `plan`?"),
    (table('signals = { plan = "gold" }'), "`plan` has no member `gold`", "free, pro, max"),
    (table("signals = { plan = true }"), "`plan` has no member", "free, pro, max"),
    (table("signals = { seats = 101 }"), "`seats` is 101, outside its range", "from 1 to 100"),
    (table("signals = { seats = true }"), "`seats` is not a whole number", "without quotes"),
    (table('signals = { seats = "5" }'), "`seats` is not a whole number", "without quotes"),
    (table('signals = { vip = "yes" }'), "`vip` is not true or false", "without quotes"),
    (table("signals = { tenant = true }"), "`tenant` is not a text", "tenant"),
    (table('signals = { tenant = "a\\u0000b" }'), "`tenant` is not a plain text", "control"),
    (table('signals = { old = "pro" }'), "takes `old` from no place", "declared"),
    (table("signals = { tokens = 5 }"), "takes `tokens` from no place", "declared"),
    (table('signals = { team = "a" }'), "`team` is no signal", "beside `name`"),
    (table('signals = { plan = "pro", tariff = "low" }'), "`plan` and `tariff` are read from one place", "first place"),
]


@pytest.mark.parametrize(("text", "message", "help_"), WRONG, ids=[message for _, message, _ in WRONG])
def test_mistakes_have_place_reason_and_remedy(text: str, message: str, help_: str) -> None:
    with pytest.raises(KeysError) as caught:
        keys_of(text, FILE, policy())
    assert "keys.toml" in caught.value.message and message in caught.value.message and help_ in caught.value.help
    assert "secret" not in str(caught.value) and hashed(KEY) not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ("", Keeping()),
        ("cache = {}", Keeping()),
        ('cache = { ttl = "10min" }', Keeping(600.0)),
        ('cache = { ttl = "0s", tools = true }', Keeping(0.0, tools=True)),
        ('cache = { ttl = "250ms", temperature = true }', Keeping(0.25, temperature=True)),
        ('cache = { ttl = "2h" }', Keeping(7_200.0)),
        ('cache = { ttl = "1d" }', Keeping(86_400.0)),
    ],
)
def test_how_answers_are_kept(more: str, wanted: Keeping) -> None:
    assert caller(more).cache == wanted
    assert keys(more).keeps_answers is bool(wanted.ttl)
    (entry,) = entries(table(more), FILE)
    again = with_entry("", entry, FILE)
    assert entries(again, FILE) == (entry,)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(
    ("mode", "said"), [(0o600, ""), (0o640, "read"), (0o644, "read"), (0o602, "change"), (0o666, "read and change")]
)
def test_who_else_may_touch_the_file(tmp_path: Path, mode: int, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(table(), "utf-8")
    path.chmod(mode)
    assert exposed(path) == said
    assert ("chmod 600" in run("list", "--file", path)[2]) is bool(said)
    assert exposed(tmp_path / "none") == ""


def test_files_that_cant_be_read(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="can't be read: no such file"):
        load_keys(tmp_path / "none.toml", policy())
    (tmp_path / "keys.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(KeysError, match="not UTF-8"):
        load_keys(tmp_path / "keys.toml", policy())
    (tmp_path / "keys.toml").write_text("", "utf-8")
    assert load_keys(tmp_path / "keys.toml", policy()).find({"x-api-key": KEY}, NOW) is None


# -- which claims count --------------------------------------------------------------------------------------------------

TRUSTED = "trusted = true"
STATES = 'signals = { plan = "pro", seats = 7, depth = 3, vip = true, tenant = "t1" }'
CLAIMS = [  # the key, another key of the file, body, headers, signal, value
    ("", "", {}, {"x-user-plan": "max"}, "plan", "free"),
    ("", "", {"metadata": {"plan": "max"}}, {}, "plan", "max"),
    ("", "", {"account": {"plan": "max"}}, {}, "plan", "max"),
    ("", "", {"metadata": {"plan": "max"}}, {"x-user-plan": "pro"}, "plan", "max"),
    ("", 'signals = { plan = "pro" }', {"metadata": {"plan": "max"}}, {}, "plan", "free"),
    ("", 'signals = { plan = "pro" }', {"account": {"plan": "max", "id": 1}}, {}, "plan", "free"),
    (TRUSTED, "", {}, {"x-user-plan": "max"}, "plan", "max"),
    (TRUSTED, 'signals = { plan = "pro" }', {"metadata": {"plan": "max"}}, {}, "plan", "max"),
    (STATES, "", {"metadata": {"plan": "max"}}, {"x-user-plan": "max"}, "plan", "pro"),
    (f"{STATES}\n{TRUSTED}", "", {"metadata": {"plan": "max"}}, {"x-user-plan": "max"}, "plan", "pro"),
    (STATES, "", {"metadata": "nothing"}, {}, "seats", 7),
    (STATES, "", {"metadata": {"seats": 9}}, {"x-seats": "9"}, "seats", 7),
    (STATES, "", {"extra": "text"}, {}, "depth", 3),
    (STATES, "", {"extra": {"depth": 9, "else": 1}}, {"x-depth": "9"}, "depth", 3),
    (STATES, "", {}, {"x-vip": "false"}, "vip", True),
    (STATES, "", {}, {"x-tenant": "t2"}, "tenant", "t1"),
    ("signals = { tenant = 7 }", "", {}, {}, "tenant", "7"),
    ("signals = { max_output = 5 }", "", {"max_tokens": 900, "metadata": {"limit": 800}}, {}, "max_output", 5),
    ("", "signals = { max_output = 5 }", {"max_tokens": 900, "metadata": {"limit": 800}}, {}, "max_output", 900),
    ("", "", {}, {"x-seats": "9"}, "seats", 2),
    # user and team
    ("", "", {"user": "eve"}, {}, "user", "eve"),
    ("", "", {}, {"x-user-id": "eve"}, "user", ""),
    ("", "", {}, {"x-team": "sales"}, "team", ""),
    ("", "", {"metadata": {"team": "sales"}}, {}, "team", "sales"),
    ("", 'team = "sales"', {"metadata": {"team": "sales"}}, {}, "team", ""),
    ("", 'user = "ann"', {"user": "ann"}, {}, "user", ""),
    ('user = "ann"', "", {"user": "eve", "metadata": {"user_id": "eve"}}, {"x-user-id": "eve"}, "user", "ann"),
    ('user = "a_session_b"', "", {}, {}, "user", "a_session_b"),
    ('team = "sales"', "", {"metadata": {"team": "ops"}}, {"x-team": "ops"}, "team", "sales"),
    (TRUSTED, 'team = "sales"', {}, {"x-team": "sales"}, "team", "sales"),
    (f'user = "ann"\n{TRUSTED}', "", {}, {"x-user-id": "eve"}, "user", "eve"),
    (f'user = "ann"\n{TRUSTED}', "", {"user": "eve"}, {}, "user", "eve"),
    (f'user = "ann"\n{TRUSTED}', "", {"user": ""}, {"x-user-id": " "}, "user", "ann"),
    # the user's own wish, and what keeps a conversation together
    ("", STATES, {}, {"x-escalate": "1"}, "escalated", True),
    ("", STATES, {}, {"x-claude-code-session-id": "s1"}, "conversation", "s1"),
    ('user = "ann"', "", {"metadata": {"user_id": "user_1_account_2_session_abc"}}, {}, "conversation", "abc"),
    ("", "", {}, {"x-chat": "c1"}, "conversation", "c1"),
    ("", 'signals = { conversation = "c1" }', {}, {"x-chat": "c1"}, "conversation", ""),
]


@pytest.mark.parametrize(("key", "other", "body", "headers", "signal", "value"), CLAIMS)
def test_claims(key: str, other: str, body: dict[str, Any], headers: dict[str, str], signal: str, value: object) -> None:
    before = copy.deepcopy((body, headers))
    values = read(caller(key, other), body, headers)
    assert getattr(values, policy().signals[signal].identifier) == value
    assert signal not in values.odd
    assert (body, headers) == before


PLACED_CLAIMS = [
    ('user = "ann"\nteam = "sales"', {"metadata": {"uid": "eve", "dept": "ops"}}, {"x-uid": "eve"}, ("ann", "sales")),
    ("", {"metadata": {"uid": "eve", "dept": "ops"}}, {"x-uid": "ann"}, ("eve", "ops")),
    (f'user = "ann"\nteam = "sales"\n{TRUSTED}', {}, {}, ("ann", "sales")),
    (f'user = "ann"\nteam = "sales"\n{TRUSTED}', {"metadata": {"dept": "ops"}}, {"x-uid": "eve"}, ("eve", "ops")),
    (f'user = "ann"\nteam = "sales"\n{TRUSTED}', {}, {"x-uid": "", "x-team": "ops"}, ("ann", "ops")),
]


@pytest.mark.parametrize(("key", "body", "headers", "wanted"), PLACED_CLAIMS)
def test_user_and_team_with_places_of_their_own(
    key: str, body: dict[str, Any], headers: dict[str, str], wanted: tuple[str, str]
) -> None:
    values = read(caller(key, text=PLACED), body, headers, PLACED)
    assert (values.s_user, values.s_team) == wanted


def test_the_users_own_wish_counts_from_all_whatever_header_has_it() -> None:
    assert read(caller(text=PLACED), {}, {"x-better": "1"}, PLACED).s_escalated is True


def test_another_policy_than_the_one_loaded_with() -> None:
    by = caller(f'user = "ann"\n{STATES}')
    assert read(by, {}, {"x-uid": "eve"}, PLACED).s_user == "ann"


def test_a_trusted_caller_that_states_nothing_is_read_as_it_is() -> None:
    body, headers = {"user": "u"}, {"x-team": "t"}
    for by in (LOCAL, caller(TRUSTED, STATES)):
        facts = facts_of(body, headers, by, NOW, policy())
        assert facts.content.fields is body and facts._given_headers is headers
        assert (facts.user, facts.team) == ("u", "t")


_JUNK: Any = st.sampled_from(
    ["free", "pro", "max", "low", "high", "eve", "", "9", 9, 0, True, False, None, -1, "true", [], {}, {"id": "x"}]
)
_NAMES = st.sampled_from(
    ["plan", "seats", "depth", "limit", "team", "team_id", "user", "user_id", "account", "extra", "metadata", "uid"]
)
_TREE = st.recursive(_JUNK, lambda inner: st.dictionaries(_NAMES, inner, max_size=4), max_leaves=8)
_BODY = st.dictionaries(
    st.sampled_from(["metadata", "account", "extra", "user", "safety_identifier", "plan", "depth"]), _TREE, max_size=6
)
_HEADERS = st.dictionaries(
    st.sampled_from(["x-user-plan", "x-seats", "x-depth", "x-vip", "x-tenant", "x-user-id", "helicone-user-id", "x-team", "x-team-id", "x-escalate"]),
    st.sampled_from(["free", "pro", "max", "high", "9", "0", "", "true", "eve"]),
    max_size=6,
)  # fmt: skip
_STATED = ("s_plan", "s_seats", "s_depth", "s_vip", "s_tenant", "s_user", "s_team")


@given(_BODY, _HEADERS)
def test_nothing_that_a_client_sends_changes_what_its_key_states(body: dict[str, Any], headers: dict[str, str]) -> None:
    before = copy.deepcopy(body)
    values = read(caller(f'user = "ann"\nteam = "sales"\n{STATES}'), body, headers)
    assert [getattr(values, name) for name in _STATED] == ["pro", 7, 3, True, "t1", "ann", "sales"]
    assert body == before


@given(_BODY, _HEADERS)
def test_nothing_that_a_client_sends_claims_what_another_key_states(body: dict[str, Any], headers: dict[str, str]) -> None:
    before = copy.deepcopy(body)
    values = read(caller("", f'user = "ann"\nteam = "sales"\n{STATES}'), body, headers)
    assert [getattr(values, name) for name in _STATED] == ["free", 2, 0, False, "", "", ""]
    assert body == before


# -- the file as text ----------------------------------------------------------------------------------------------------

KEPT = f"""# keys of the shop

[[key]]  # the desk
name = "desk"
sha256 = "{hashed(KEY)}"
models = [
  "mini",
]
[key.signals]
plan = "pro"

# the other one
[[key]]
name = "other"
sha256 = "{hashed(OTHER)}"

# the end
"""
ADDED = Entry(
    "new é", hashed("x"), "ann", "sales", {"plan": "pro", "seats": 3, "vip": True}, ("mini", "cheap"), True, date(2027, 1, 31)
)


@pytest.mark.parametrize("text", ["", KEPT, KEPT.rstrip("\n"), KEPT.replace("\n", "\r\n")])
def test_adding_keeps_every_byte_and_removing_takes_it_back(text: str) -> None:
    more = with_entry(text, ADDED, FILE)
    assert more.startswith(text) and entries(more, FILE)[-1] == ADDED
    assert entries(without_entry(more, ADDED.name, FILE), FILE) == entries(text, FILE)
    assert without_entry(more, ADDED.name, FILE).rstrip() == text.rstrip()


def test_removing_takes_the_table_and_nothing_else() -> None:
    assert without_entry(KEPT, "desk", FILE) == "# keys of the shop\n\n# the other one" + KEPT.partition("# the other one")[2]
    left = KEPT.partition("# the other one")[0] + "# the other one\n\n# the end\n"
    assert without_entry(KEPT, "other", FILE) == left


HAND = [
    (f'key = [{{ name = "desk", sha256 = "{hashed(KEY)}" }}]\n', "risk to its other keys", "lines of key"),
    (
        '[[key]]\nname = "desk"\nuser = """x"""\n'
        + f'sha256 = "{hashed(KEY)}"\n[["key"]]\nname = "b"\nsha256 = "{hashed(OTHER)}"\n',
        "",
        "lines of key",
    ),
]


@pytest.mark.parametrize(("text", "adding", "removing"), HAND)
def test_files_written_otherwise_are_left_alone(text: str, adding: str, removing: str) -> None:
    if adding:
        with pytest.raises(KeysError, match=adding):
            with_entry(text, ADDED, FILE)
    with pytest.raises(KeysError, match=removing):
        without_entry(text, "desk", FILE)


def test_new_keys_are_long_and_all_different() -> None:
    found = {new_key() for _ in range(50)}
    assert len(found) == 50 and all(key.startswith("pr-") and len(key) == 46 for key in found)


# -- the command ---------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["keys", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_makes_lists_and_removes(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    code, printed, said = run(
        "new", "desk", "--file", path, "--user", "ann", "--signal", "plan=pro", "--signal", "seats=5", "--signal", "vip=true",
        "--signal", "tenant=007", "--model", "cheap", "--trusted", "--expires", "2027-01-31",
    )  # fmt: skip
    assert code == 0 and printed.startswith("pr-") and printed.count("\n") == 1 and "store the key" in said
    assert printed.strip() not in path.read_text("utf-8") and stat.S_IMODE(path.stat().st_mode) == 0o600
    found = load_keys(path, policy()).find({"authorization": f"Bearer {printed.strip()}"}, NOW)
    assert found is not None and (found.name, found.user, found.trusted) == ("desk", "ann", True)
    assert found.signals == {"plan": "pro", "seats": 5, "vip": True, "tenant": "007"} and found.models == frozenset({"mini"})
    assert run("new", "b", "--file", path)[0] == 0
    code, listed, _ = run("list", "--file", path)
    assert code == 0 and listed.splitlines() == [
        "desk  user=ann  plan=pro  seats=5  vip=true  tenant=007  models=cheap  trusted  expires=2027-01-31", "b"
    ]  # fmt: skip
    assert run("remove", "desk", "--file", path)[0] == 0
    assert [entry.name for entry in entries(text_of(path), path)] == ["b"]
    assert [each.name for each in tmp_path.iterdir()] == ["keys.toml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "desk"), "has a key `desk` already"),
        (("new", "a", "--signal", "plan"), "not a name and a value"),
        (("new", " a"), "`name` is not a plain text"),
        (("remove", "dsek"), "did you mean `desk`?"),
    ],
)
def test_the_command_changes_nothing_where_it_fails(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(table(), "utf-8")
    code, printed, shown = run(*arguments, "--file", path)
    assert (code, printed) == (2, "") and (said in shown or "risk" in shown)
    assert path.read_text("utf-8") == table()


def test_the_command_checks_against_a_policy_before_it_writes(tmp_path: Path) -> None:
    path, rules = tmp_path / "keys.toml", tmp_path / "p.route"
    rules.write_text(f"edition 1\npolicy example\n{POLICY}", "utf-8")
    code, _, said = run("new", "desk", "--file", path, "--signal", "plan=gold", "--policy", rules)
    assert code == 2 and "no member `gold`" in said and not path.exists()
    assert run("new", "desk", "--file", path, "--signal", "plan=max", "--policy", rules)[0] == 0


def test_the_command_says_when_a_folder_is_missing(tmp_path: Path) -> None:
    code, printed, said = run("new", "desk", "--file", tmp_path / "none" / "keys.toml")
    assert (code, printed) == (2, "") and "can't be written" in said
    assert run("list", "--file", tmp_path / "keys.toml")[0] == 2
