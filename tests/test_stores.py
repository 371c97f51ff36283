"""Memory, SQLite and Redis keep the same state: against a plain dictionary, in many threads and processes, through what goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyroute.backends.live import compile_policy
from policyroute.language.reference import decide
from policyroute.state.deciding import Stateful, settle
from policyroute.state.stores.memory import MemoryStore
from policyroute.state.stores.opened import open_store
from policyroute.state.stores.redis import RedisStore
from policyroute.state.stores.sqlite import SqliteStore
from policyroute.state.stores.store import Kept, Key, Store, StoreUnreachableError
from policyroute.state.windows import micros
from tests.redis_support import Server, redis_server
from tests.test_state_replay import CATALOG, policies, policy_of, traces, values_of

FAR = 2**61


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def emptied(server: Server) -> RedisStore:
    """A store on a server that holds nothing."""
    store = RedisStore(server.url)
    store._client.flushall()
    return store


# -- one state -----------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcd"), unique=True, max_size=4), st.lists(st.one_of(st.none(), st.integers(-5, 9)), min_size=4, max_size=4)),
    max_size=25,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(STEPS)
def test_stores_are_a_dictionary(server: Server, tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Each step reads what the steps before it kept, keeps what it says, leaves alone what it doesn't, and is numbered."""
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path_factory.mktemp("s") / "s.sqlite"), emptied(server)]
    for store in stores:
        model: dict[str, int] = {}
        for number, (names, amounts) in enumerate(steps, 1):
            found, read = store.step([Key(name, FAR) for name in names], partial(_added, amounts), 0)
            assert (found, read) == (number, [model.get(name) for name in names])
            for name, amount in zip(names, amounts, strict=False):
                if amount is not None:
                    model[name] = model.get(name, 0) + amount
        assert store.read([Key(name, 0) for name in "abcd"]) == [model.get(name) for name in "abcd"]
        store.close()


def _added(amounts: Sequence[int | None], kept: Sequence[Kept | None]) -> tuple[list[Kept | None], list[Kept | None]]:
    new = [None if amount is None else _plus(old, amount) for old, amount in zip(kept, amounts, strict=False)]
    return new, list(kept)


def _plus(old: Kept | None, amount: int) -> int:
    return (old if isinstance(old, int) else 0) + amount


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=40)
@given(policies(), traces())
def test_the_same_decisions_with_every_store(
    server: Server, tmp_path_factory: pytest.TempPathFactory, text: str, rows: list[Any]
) -> None:
    policy = policy_of(text)
    machine = Stateful(compile_policy(policy), CATALOG.for_policy(policy))
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path_factory.mktemp("s") / "s.sqlite"), emptied(server)]
    told = []
    for store in stores:
        found = []
        for row in rows:
            values = values_of(policy, row)
            decided = machine.decide(store, decide(policy, values), machine.live.given(values), row["ts"])
            found.append((decided.number, decided.decision, [(left.allowance.title, left.left) for left in decided.left]))
            if decided.budgets and row["latency_ms"] is not None:
                settle(store, decided.budgets, 1_000 * row["output_tokens"], micros(row["ts"]))
        told.append(found)
        store.close()
    assert told[0] == told[1] == told[2]


# -- many at once --------------------------------------------------------------------------------------------------------


def taking(store: Store, tries: int, amount: int) -> list[tuple[int, bool]]:
    """Take one of `amount` in each step, if one is left: the numbers of the steps, and whether there was."""

    def change(kept: Sequence[Kept | None]) -> tuple[list[Kept | None], bool]:
        used = kept[0] if isinstance(kept[0], int) else 0
        return ([used + 1], True) if used < amount else ([None], False)

    return [store.step([Key("quota", FAR)], change, 0) for _ in range(tries)]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_threads_take_no_more_than_there_is(kind: str, server: Server, tmp_path: Path) -> None:
    store: Store = {"memory": MemoryStore, "sqlite": lambda: SqliteStore(tmp_path / "s.sqlite"), "redis": lambda: emptied(server)}[
        kind
    ]()
    with ThreadPoolExecutor(8) as pool:
        found = [one for part in pool.map(lambda _: taking(store, 50, 123), range(8)) for one in part]
    assert sum(fits for _, fits in found) == 123
    assert len({number for number, _ in found}) == 400
    assert store.read([Key("quota", 0)]) == [123]


PROCESS = """
import json, sys
from policyroute.state.stores.opened import open_store
from tests.test_stores import taking
print(json.dumps(taking(open_store(sys.argv[1]), 100, 150)))
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_processes_take_no_more_than_there_is(kind: str, server: Server, tmp_path: Path) -> None:
    """Four processes, as workers of one machine, or as machines."""
    where = str(tmp_path / "s.sqlite")
    if kind == "redis":
        emptied(server).close()
        where = server.url
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", PROCESS, where]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) for _ in range(4)]
    found = [one for process in running for one in json.loads(process.communicate(timeout=60)[0])]
    assert sum(fits for _, fits in found) == 150
    assert sorted(number for number, _ in found) == list(range(1, 401))


# -- what goes wrong -----------------------------------------------------------------------------------------------------

KILLED = """
import sys
from policyroute.state.stores.sqlite import SqliteStore
from policyroute.state.stores.store import Key
store = SqliteStore(sys.argv[1])
while True:
    number, _ = store.step([Key("k", 2**61)], lambda kept: ([(kept[0] or 0) + 1], None), 0)
    print(number, flush=True)
"""


def test_what_a_killed_process_was_told_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split() if line.isdecimal()]
    process.wait()
    process.stdout.close()
    ((kept,), number) = (SqliteStore(path).read([Key("k", 0)]), SqliteStore(path).step([], lambda _: ([], None), 0)[0])
    assert isinstance(kept, int) and told[-1] <= kept <= told[-1] + 1 and number == kept + 1
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("broken", ["missing folder", "no database", "full"])
def test_a_file_that_is_no_good(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    if broken == "missing folder":
        path = tmp_path / "nowhere" / "s.sqlite"
    elif broken == "no database":
        path.write_bytes(b"this is no database" * 100)
    store = SqliteStore(path)
    if broken == "full":
        store.step([], lambda _: ([], None), 0)
        store._connection().execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnreachableError, match=r"s\.sqlite`: (no such file|file is not a database|database or disk is full)"):
        for number in range(2_000):
            store.step([Key(f"{number}" * 50, FAR)], lambda _: ([1], None), 0)
    store.close()


def test_a_store_that_is_locked_by_another_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyroute.state.stores.sqlite.PATIENCE", 0.1)
    one, other = SqliteStore(tmp_path / "s.sqlite"), SqliteStore(tmp_path / "s.sqlite")
    one.step([], lambda _: ([], None), 0)
    one._connection().execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnreachableError, match="locked"):
        other.step([], lambda _: ([], None), 0)
    one._connection().execute("ROLLBACK")
    assert other.step([], lambda _: ([], None), 0)[0] == 2
    one.close(), other.close()


def test_a_change_that_fails_keeps_nothing(server: Server, tmp_path: Path) -> None:
    for store in (MemoryStore(), SqliteStore(tmp_path / "s.sqlite"), emptied(server)):
        store.step([Key("k", FAR)], lambda _: ([1], None), 0)
        with pytest.raises(ZeroDivisionError):
            store.step([Key("k", FAR)], lambda _: ([1 // 0], None), 0)
        assert store.step([Key("k", FAR)], lambda kept: ([None], kept[0]), 0) == (2, 1)
        store.close()


def test_redis_that_is_gone_costs_little_and_comes_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as own:
        store = RedisStore(f"redis://:secret@127.0.0.1:{own.port}/0".replace(":secret@", ""))
        before = store.step([Key("k", FAR)], lambda _: ([1], None), 0)
        first = store.id
        own.stop()
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(StoreUnreachableError, match=f"127.0.0.1:{own.port}"):
                store.step([Key("k", FAR)], lambda _: ([1], None), 0)
        assert time.monotonic() - began < 5
        own.start()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                after = store.step([Key("k", FAR)], lambda kept: ([2], kept[0]), 0)
                break
            except StoreUnreachableError:
                time.sleep(0.05)
        assert before[0] == 1 and after == (1, None)  # the new server knows nothing
        assert store.id != "" and first != ""
        store.close()


def test_an_emptied_server_is_another_store(server: Server) -> None:
    one, other = emptied(server), RedisStore(server.url)
    one.step([], lambda _: ([], None), 0), other.step([], lambda _: ([], None), 0)
    assert one.id == other.id
    before = one.id
    one._client.flushall()
    other.step([], lambda _: ([], None), 0), one.step([], lambda _: ([], None), 0)
    assert one.id == other.id != before
    one.close(), other.close()


def test_passwords_are_not_told() -> None:
    store = RedisStore("redis://:hunter2@127.0.0.1:9/0")
    with pytest.raises(StoreUnreachableError) as failed:
        store.step([], lambda _: ([], None), 0)
    assert "hunter2" not in str(failed.value)


def test_what_is_over_is_forgotten(tmp_path: Path) -> None:
    for store in (MemoryStore(), SqliteStore(tmp_path / "s.sqlite")):
        store.step([Key("old", 10), Key("new", FAR)], lambda _: ([1, 1], None), 0)
        for _ in range(4_096):
            store.step([], lambda _: ([], None), 1_000)
        assert store.read([Key("old", 0), Key("new", 0)]) == [None, 1]


def test_places() -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store("redis://127.0.0.1"), RedisStore)
    for where in ("s.sqlite", "sqlite:s.sqlite", "./s.sqlite"):
        assert isinstance(open_store(where), SqliteStore)
    with pytest.raises(ValueError, match="no place"):
        open_store("postgres://127.0.0.1/db")


def test_threads_have_connections_of_their_own(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite")
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(store.step([], lambda _: ([], None), 0)[0])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 13))
