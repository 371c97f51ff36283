"""The journal's files: what survives a kill, a full disk, a fork and a crash in mid-compaction, and what a reader sees meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from policyroute.proxy.journal import Journal, segments, writer
from policyroute.proxy.journal.compact import compact, main, superseded
from policyroute.proxy.journal.lines import line_of, rows_of
from policyroute.replay.traces import Trace, TraceError, open_trace
from tests.simulate_support import ROOT

WINDOW = 0.1
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def row(name: str, **more: object) -> dict[str, object]:
    return {
        "ts": "2026-11-25T12:00:00.000000Z",
        "request_id": name,
        "model": "gpt-4o",
        "input_tokens": 10,
        "output_tokens": 1,
        "tokens": 9,
        **more,
    }


def waited(condition: Callable[[], object], within: float = 10.0) -> None:
    """Wait for something that a thread or process does."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def opened(folder: Path, scratch: Path) -> tuple[Trace, list[str]]:
    """The trace of a folder, and its request ids, sorted."""
    connection = duckdb.connect()
    trace = open_trace(folder, connection=connection, scratch=scratch)
    return trace, sorted(name for (name,) in connection.sql(f"SELECT request_id FROM ({trace.relation})").fetchall())


def raw(folder: Path) -> list[str]:
    """Request ids of all whole lines of all segments."""
    paths = [path for path in folder.iterdir() if path.name.endswith((segments.OPEN, segments.CLOSED))]
    return sorted(str(found["request_id"]) for path in paths for found in rows_of(path) if found)


def noted(trace: Trace) -> dict[str, int]:
    return {note.code: note.rows for note in trace.notes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    made = Journal(folder, window=WINDOW, compact=False)
    yield made
    made.close()


# -- writing -------------------------------------------------------------------------------------------------------


def test_rows_are_there_within_the_window(journal: Journal, folder: Path, tmp_path: Path) -> None:
    assert not folder.exists()
    for number in range(50):
        journal.append(row(f"r{number:02}"))
    waited(lambda: journal.written == 50)
    assert raw(folder) == opened(folder, tmp_path)[1] == [f"r{number:02}" for number in range(50)]
    assert (journal.lost, journal.health()) == (0, None)
    assert [path.name.endswith(segments.OPEN) for path in folder.iterdir()] == [True]


def test_many_rows_are_written_before_the_window_ends(folder: Path) -> None:
    journal = Journal(folder, window=60, compact=False)
    for number in range(writer.BATCH):
        journal.append(row(str(number)))
    waited(lambda: journal.written == writer.BATCH)
    journal.close()


def test_close_writes_what_is_left(folder: Path) -> None:
    journal = Journal(folder, window=60, compact=False)
    journal.append(row("a"))
    journal.close()
    journal.close()
    assert (raw(folder), journal.written, journal.lost) == (["a"], 1, 0)
    assert [path.suffix for path in folder.iterdir()] == [".jsonl"]
    journal.append(row("late"))
    assert journal.lost == 1


def test_a_server_that_forgets_to_close_loses_nothing(folder: Path) -> None:
    code = f"from pathlib import Path; from policyroute.proxy.journal import Journal\nJournal(Path({str(folder)!r}), window=60, compact=False).append({row('a')!r})"
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=30)
    assert raw(folder) == ["a"]


def test_rows_from_many_threads(journal: Journal, folder: Path) -> None:
    def append(thread: int) -> None:
        for number in range(200):
            journal.append(row(f"{thread}-{number}", note="\u2028\n\ud83d"))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waited(lambda: journal.written == 1_600)
    assert len(set(raw(folder))) == len(raw(folder)) == 1_600


def test_the_queue_is_bounded(folder: Path) -> None:
    journal = Journal(folder, window=60, limit=10, compact=False)
    for number in range(15):
        journal.append(row(str(number)))
    assert journal.lost == 5
    journal.close()
    assert journal.written == len(raw(folder)) == 10


def test_the_queue_is_bounded_in_bytes(folder: Path) -> None:
    journal = Journal(folder, window=60, limit_bytes=5_000, compact=False)
    for number in range(10):
        journal.append(row(str(number), text="x" * 1_000))
    assert journal.lost == 6
    journal.close()


def test_a_row_that_cannot_be_written_is_lost_and_says_nothing(journal: Journal) -> None:
    circle: dict[str, object] = {}
    circle["self"] = circle
    journal.append({"a": circle})
    assert journal.lost == 1


def _has_written(journal: Journal, rows: int) -> bool:
    return journal.written == rows


def test_segments_rotate_by_size_and_by_time(folder: Path) -> None:
    large = Journal(folder / "large", window=0, rotate_bytes=1_000, compact=False)
    timed = Journal(folder / "timed", window=0.01, rotate_seconds=0.05, compact=False)
    for number in range(20):
        large.append(row(f"{number:02}", text="x" * 200))
        waited(partial(_has_written, large, number + 1))
    timed.append(row("a"))
    waited(lambda: segments.listed(folder / "timed", segments.CLOSED))
    sizes = [path.stat().st_size for path in segments.listed(folder / "large", segments.CLOSED)]
    assert len(sizes) >= 5 and all(1_000 <= size < 1_600 for size in sizes)
    assert raw(folder / "large") == [f"{number:02}" for number in range(20)]
    large.close()
    timed.close()


def test_a_folder_that_is_removed_is_made_again(journal: Journal, folder: Path) -> None:
    journal.append(row("gone"))
    waited(lambda: journal.written == 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    journal.append(row("kept"))
    waited(lambda: journal.written == 2)
    assert raw(folder) == ["kept"]


# -- fork and kill -------------------------------------------------------------------------------------------------

SERVER = """
import sys, time
from pathlib import Path
from policyroute.proxy.journal import Journal
journal = Journal(Path(sys.argv[1]), window=float(sys.argv[2]), rotate_bytes=20_000, compact=False)
number = 0
while True:
    journal.append({"ts": "2026-11-25T12:00:00.000000Z", "request_id": f"{number:08}", "model": "gpt-4o", "input_tokens": 10, "output_tokens": 1, "text": "x" * (number % 500)})
    print(number, time.monotonic(), flush=True)
    number += 1
    if number % 20 == 0:
        time.sleep(0.001)
"""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes rows and says which, and when."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), str(WINDOW)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_a_kill_loses_the_window_at_most(folder: Path, tmp_path: Path) -> None:
    """In mid-load, with segments rotating: what was appended before the window is there, nothing is there twice."""
    with server(folder) as process:
        assert process.stdout
        said = [process.stdout.readline()]
        while float(said[-1].split()[1]) - float(said[0].split()[1]) < 1.2:
            said.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        said += process.stdout.read().splitlines()[:-1]
        process.wait()
    times = [float(line.split()[1]) for line in said if len(line.split()) == 2]
    grace = 0.5  # a machine that is busy wakes a thread late
    safe = sum(at < killed - WINDOW - grace for at in times)
    trace, names = opened(folder, tmp_path)
    assert safe > 1_000
    assert names == [f"{number:08}" for number in range(len(names))]
    assert (
        len(names) >= safe
        and len(segments.listed(folder, segments.CLOSED)) > 1
        and len(segments.listed(folder, segments.OPEN)) <= 1
    )
    assert compact(folder, everything=True) == len(names)
    assert (opened(folder, tmp_path)[1], trace.format) == (names, "canonical")
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ""}


def test_a_forked_worker_writes_its_own_rows_only(folder: Path) -> None:
    """Made, and written to, before a fork: the child neither writes the parent's rows again nor holds its segment."""
    journal = Journal(folder, window=WINDOW, compact=False)
    journal.append(row("parent"))
    waited(lambda: journal.written == 1)
    (parents,) = segments.listed(folder, segments.OPEN)
    journal.append(row("parent, queued"))
    ready, said = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        journal.append(row("child"))
        journal.close()
        os.write(said, b"%d" % journal.written)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(ready, 10) == b"1"
    journal.close()
    assert raw(folder) == ["child", "parent", "parent, queued"]
    assert len(list(folder.iterdir())) == 2 and not parents.exists()
    os.close(ready)
    os.close(said)


FORKING = """
import os, sys, time
from pathlib import Path
from policyroute.proxy.journal import Journal
journal = Journal(Path(sys.argv[1]), window=0, compact=False)
journal.append({"request_id": "parent"})
while not journal.written:
    time.sleep(0.005)
if os.fork():
    os._exit(0)
sys.stdin.read()
"""


def test_a_child_does_not_keep_its_parent_alive(folder: Path) -> None:
    """A child that lives on inherits the descriptor, and with it the lock, of a segment whose writer is dead."""
    with subprocess.Popen([sys.executable, "-c", FORKING, str(folder)], env=ENVIRONMENT, stdin=subprocess.PIPE) as process:
        process.wait(30)
        waited(lambda: segments.adopt(folder) == 1)
        assert raw(folder) == ["parent"]


def test_the_living_are_told_from_the_dead(journal: Journal, folder: Path) -> None:
    """A segment whose writer lives is left alone; one whose writer died is closed."""
    journal.append(row("living"))
    waited(lambda: journal.written == 1)
    (living,) = segments.listed(folder, segments.OPEN)
    dead = folder / f"journal-20200101T000000.000000Z-1-00000000{segments.OPEN}"
    dead.write_bytes(line_of(row("dead")))
    assert segments.adopt(folder) == 1
    assert living.exists() and not dead.exists()
    assert compact(folder, everything=True) == 1
    assert living.exists()
    journal.append(row("still living"))
    waited(lambda: journal.written == 2)
    assert raw(folder) == ["living", "still living"]


def test_a_new_segment_that_was_adopted_is_not_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making a file and locking it, a compactor may have taken it for a dead process's."""
    flock = fcntl.flock
    taken: list[Path] = []

    def adopted_first(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(path.rename(path.with_suffix("")) for path in segments.listed(folder, segments.OPEN))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", adopted_first)
    journal = Journal(folder, window=0, compact=False)
    journal.append(row("a"))
    journal.close()
    assert len(taken) == 1 and taken[0].read_bytes() == b""
    assert raw(folder) == ["a"]


# -- disks that fail -----------------------------------------------------------------------------------------------


def test_a_full_disk_fails_no_request(tmp_path: Path) -> None:
    """A real one, where one can be mounted: rows wait, what does not fit is counted, and all is written once there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a file system can't be mounted here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 40_000)
        journal = Journal(disk / "journal", window=0.02, limit=300, compact=False)
        for number in range(200):
            journal.append(row(f"{number:03}", text="x" * 200))
        waited(journal.health)
        health = journal.health()
        assert (
            health
            and "No space left" in str(health["failed"])
            and datetime.fromisoformat(str(health["since"])) <= datetime.now(UTC)
        )
        for number in range(200, 600):
            journal.append(row(f"{number:03}", text="x" * 200))
        lost = journal.lost
        assert lost > 0 and journal.health()
        waiting = 600 - lost - journal.written
        assert 0 < waiting <= 300
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        waited(lambda: journal.written + lost == 600)
        assert journal.health() is None
        journal.close()
        names = raw(disk / "journal")
        assert len(names) == len(set(names)) == journal.written
        assert journal.lost == lost
    finally:
        subprocess.run(["umount", str(disk)], check=True)


LIMITED = """
import json, resource, sys, time
from pathlib import Path
from policyroute.proxy.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
journal = Journal(Path(sys.argv[1]), window=0.01, compact=False)
for number in range(100):
    journal.append({"request_id": f"{number:03}", "text": "x" * 100})
while journal.written < 100:
    time.sleep(0.005)
journal.close()
print(json.dumps([journal.written, journal.lost, journal.health()]))
"""


def test_files_that_may_not_grow(folder: Path) -> None:
    """A limit cuts a batch in mid-line: whole lines count as written, the torn one is cut off and written to the next segment."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)], env=ENVIRONMENT, check=True, timeout=30, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [100, 0, None]
    assert raw(folder) == [f"{number:03}" for number in range(100)]
    assert all(path.read_bytes().endswith(b"\n") for path in segments.listed(folder, segments.CLOSED))


FAULTS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS]


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("part", [0, 150, 1_000])
@pytest.mark.parametrize("truncates", [True, False])
def test_a_write_that_fails_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: int, part: int, truncates: bool) -> None:
    """Wherever a write stops, each row is written whole once, also where the torn rest can't be cut off."""
    write, failing = os.write, [True, True, True]

    def partly(descriptor: int, data: bytes) -> int:
        if not failing or b"request_id" not in data:
            return write(descriptor, data)
        failing.pop()
        if not part:
            raise OSError(fault, os.strerror(fault))
        return write(descriptor, data[:part])

    def refused(descriptor: int, size: int) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "write", partly)
    if not truncates:
        monkeypatch.setattr(os, "ftruncate", refused)
    journal = Journal(folder, window=0.01, compact=False)
    for number in range(30):
        journal.append(row(f"{number:02}"))
    waited(lambda: journal.written == 30)
    journal.close()
    assert raw(folder) == [f"{number:02}" for number in range(30)]
    assert (journal.lost, journal.health(), failing) == (0, None, [])


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """The journal waits until it is one, and says what is wrong since when."""
    place = tmp_path / "journal"
    place.write_text("in the way")
    journal = Journal(place, window=0.01, compact=False)
    journal.append(row("a"))
    waited(journal.health)
    first = journal.health()
    assert first and str(place) in str(first["failed"]) and first["queued"] == 1
    time.sleep(0.05)
    assert journal.health() == first
    place.unlink()
    waited(lambda: journal.written == 1)
    assert journal.health() is None
    journal.close()
    assert raw(place) == ["a"]


def test_a_disk_that_stays_full_counts_what_is_lost(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    place.write_text("in the way")
    journal = Journal(place, window=60, compact=False)
    journal.append(row("a"))
    journal.append(row("b"))
    journal.close()
    assert (journal.written, journal.lost) == (0, 2)


def test_no_worker_imports_what_parquet_takes(folder: Path) -> None:
    code = f"import sys; from pathlib import Path; from policyroute.proxy.journal import Journal, rows, redact\nj = Journal(Path({str(folder)!r}), window=0); j.append({{}}); j.close()\nassert not {{'pyarrow', 'duckdb', 'pandas'}} & set(sys.modules)"
    code = code.replace(
        "import Journal, rows, redact", "import Journal; import policyroute.proxy.journal.rows, policyroute.proxy.journal.redact"
    )
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=30)


# -- compaction ----------------------------------------------------------------------------------------------------


def closed(folder: Path, *names: str, number: int = 0, ending: str = segments.CLOSED) -> Path:
    """A segment with a row per name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"journal-20261125T12{number:04}.000000Z-1-0000000{number % 10}{ending}"
    path.write_bytes(b"".join(line_of(row(name)) for name in names))
    return path


def test_closed_segments_become_one_file(folder: Path, tmp_path: Path) -> None:
    made = [closed(folder, f"a{number}", f"b{number}", number=number) for number in range(3)]
    assert compact(folder) == 0  # too few, too young
    os.utime(made[0], (time.time() - 7 * 3600,) * 2)
    assert compact(folder) == 6
    (path,) = segments.listed(folder, segments.PARQUET)
    assert superseded(folder) == {segments.stem(each) for each in made}
    assert sorted(each.name for each in folder.iterdir()) == [segments.LOCK, path.name]
    trace, names = opened(folder, tmp_path)
    assert names == ["a0", "a1", "a2", "b0", "b1", "b2"] and noted(trace) == {}
    assert compact(folder, everything=True) == 0


CRASHES: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("while it was written", lambda patch: patch.setattr(pq.ParquetWriter, "write_table", _crash)),
    ("before it was renamed", lambda patch: patch.setattr(Path, "rename", _crash)),
    ("before the segments were removed", lambda patch: patch.setattr("policyroute.proxy.journal.compact._sync", _crash)),
]


class Crash(BaseException):
    """The process ended here."""


def _crash(*_: Any, **__: Any) -> None:
    raise Crash


@pytest.mark.parametrize(("when", "crash"), CRASHES, ids=[when for when, _ in CRASHES])
def test_a_crash_in_mid_compaction_doubles_nothing(
    folder: Path, tmp_path: Path, when: str, crash: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Neither for who reads the folder right then, nor after the next compaction."""
    for number in range(3):
        closed(folder, f"a{number}", f"b{number}", number=number)
    wanted = ["a0", "a1", "a2", "b0", "b1", "b2"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        crash(patch)
        compact(folder, everything=True)
    (folder / ".journal-of-a-crash.parquet").write_bytes(b"half a file")
    assert opened(folder, tmp_path)[1] == wanted
    closed(folder, "new", number=9)
    assert opened(folder, tmp_path)[1] == [*wanted, "new"]
    compact(folder, everything=True)
    assert opened(folder, tmp_path)[1] == [*wanted, "new"]
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ""}


def test_a_torn_end_is_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    path = closed(folder, "a", "b", ending=segments.OPEN)
    path.write_bytes(path.read_bytes() + line_of(row("torn"))[:-20])
    trace, names = opened(folder, tmp_path)
    assert (names, noted(trace)) == (["a", "b"], {"torn-lines": 1})
    assert compact(folder, everything=True) == 2
    trace, names = opened(folder, tmp_path)
    assert (names, noted(trace)) == (["a", "b"], {})
    metadata = pq.read_metadata(segments.listed(folder, segments.PARQUET)[0]).metadata
    assert metadata is not None and metadata[b"policyroute.torn"] == b"1"
    assert not list(folder.glob("*.damaged"))


def test_a_damaged_segment_is_kept_beside(folder: Path, tmp_path: Path) -> None:
    """A block of zeros in its middle, as a loss of power leaves it: what can be read is, and the file isn't thrown away."""
    path = closed(folder, "a", "b")
    path.write_bytes(path.read_bytes() + b"\0" * 4_096 + b"\n" + line_of(row("c")))
    before = path.read_bytes()
    assert opened(folder, tmp_path)[1] == ["a", "b", "c"]
    assert compact(folder, everything=True) == 3
    assert opened(folder, tmp_path)[1] == ["a", "b", "c"]
    assert (folder / f"{path.name}.damaged").read_bytes() == before


def test_one_process_compacts(folder: Path) -> None:
    closed(folder, "a")
    with segments.elected(folder, wait=False) as mine:
        assert mine
        with segments.elected(folder, wait=False) as theirs:
            assert not theirs
        done = subprocess.run(
            [sys.executable, "-m", "policyroute.proxy.journal.compact", str(folder)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "0 rows\n" and raw(folder) == ["a"]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 0)
    closed(folder, "a")
    assert (main([str(folder), "--all"]), capsys.readouterr().out) == (0, "1 rows\n")
    assert main([]) == 2 and "usage" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1 and "nowhere" in capsys.readouterr().err


def test_the_writer_has_its_segments_compacted(folder: Path, tmp_path: Path) -> None:
    """Those of a process that died before, and its own when it closes."""
    dead = closed(folder, "dead", ending=segments.OPEN)
    os.utime(dead, (time.time() - 7 * 3600,) * 2)
    journal = Journal(folder, window=0)
    journal.append(row("mine"))
    waited(lambda: segments.listed(folder, segments.PARQUET))
    waited(lambda: not journal._compacting())
    assert opened(folder, tmp_path)[1] == ["dead", "mine"]
    journal.close()
    assert len(segments.listed(folder, segments.PARQUET)) == 2 and not segments.listed(folder, segments.CLOSED)
    assert opened(folder, tmp_path)[1] == ["dead", "mine"]
    assert journal.health() is None


def test_a_compaction_that_fails_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    os.utime(closed(folder, "a"), (time.time() - 7 * 3600,) * 2)
    journal = Journal(folder, window=0.01)
    journal.append(row("b"))
    waited(journal.health)
    health = journal.health()
    assert health and "stay JSON lines" in str(health["failed"])
    assert journal.written == 1 and raw(folder) == ["a", "b"]
    journal.compact = False
    journal.close()


def test_no_credential_reaches_the_compactor(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = tmp_path / "python"
    spy.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment.partial; mv {tmp_path}/environment.partial {tmp_path}/environment\n")
    spy.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(spy))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    closed(folder, "a", ending=segments.OPEN)
    journal = Journal(folder, window=0)
    journal.append(row("b"))
    waited((tmp_path / "environment").exists)
    journal.compact = False
    journal.close()
    assert "canary" not in (tmp_path / "environment").read_text()


# -- reading -------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_while_it_is_written_to(folder: Path, tmp_path: Path) -> None:
    """Segments are appended to, closed, and made Parquet of under the reader's eyes: no row is missing, none is there twice."""
    with server(folder) as process:
        assert process.stdout
        pipe, ended = process.stdout, threading.Event()
        waited(folder.exists)
        reader = threading.Thread(target=lambda: [None for _ in iter(pipe.readline, "")])
        compactor = threading.Thread(target=lambda: [compact(folder, everything=True) for _ in iter(ended.is_set, True)])
        reader.start()
        compactor.start()
        seen = 0
        try:
            waited(lambda: segments.listed(folder, segments.PARQUET))
            for _ in range(3):
                names = opened(folder, tmp_path)[1]
                assert names == [f"{number:08}" for number in range(len(names))] and len(names) > seen
                seen = len(names)
        finally:
            ended.set()
            compactor.join()
            process.kill()
            reader.join()


def test_a_single_segment_and_patterns(folder: Path, tmp_path: Path) -> None:
    path = closed(folder, "a", ending=segments.OPEN)
    closed(folder, "b", number=1)
    assert opened(path, tmp_path)[1] == ["a"]
    assert opened(Path(f"{folder}/journal-*"), tmp_path)[1] == ["a", "b"]
    with pytest.raises(TraceError, match="no such file"):
        opened(folder / "journal-x.jsonl.part", tmp_path)


def test_a_journal_without_rows(folder: Path, tmp_path: Path) -> None:
    closed(folder, ending=segments.OPEN)
    with pytest.raises(TraceError, match="holds no rows yet"):
        opened(folder, tmp_path)


def test_names_sort_by_time_and_differ() -> None:
    names = [segments.new_name(datetime(2026, 11, 25, 12, 0, second, tzinfo=UTC)) for second in range(20)]
    assert names == sorted(names) and len({segments.new_name(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(100)}) == 100


def test_limits_of_this_process_are_as_before() -> None:
    """No test of this file limits the process that runs them."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] in (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
