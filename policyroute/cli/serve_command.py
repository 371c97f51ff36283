"""`policyroute serve`: the policy, live."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import policyroute
from policyroute.cli.common import CannotRun, one_policy, shown
from policyroute.language.diagnostics import PolicyError
from policyroute.render.diagnostics import FORMATS

SHORT = 160  # characters of a help text that are shown at start
M_ARENA_MAX = -8  # of <malloc.h>
LEAN = "quicktok"  # the tokenizer with the smallest vocabulary in memory; all of them count alike
NEEDED = ("granian", "orjson", "httptools", "prometheus_client")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|h|d)?")
_UNITS = {"ms": 0.001, None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@click.command(name="serve")
@click.argument("policy", required=False, metavar="[POLICY]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; others than loopback need --keys.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65_535), help="The port; 0 takes a free one.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option(
    "--streams", default=1_000, show_default=True, type=click.IntRange(1, 100_000), help="Requests that a worker serves at once."
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The keys file; `policyroute keys new` makes one.",
)
@click.option("--api", "apis", multiple=True, type=click.Choice(["chat", "responses", "messages"]), help="Serve these APIs only.")
@click.option(
    "--journal", default="journal", metavar="FOLDER", show_default=True, help="Where trace rows are kept; `off` keeps none."
)
@click.option("--journal-window", default="1s", show_default=True, metavar="TIME", help="What a killed worker may lose.")
@click.option("--prompts", is_flag=True, help="Keep bodies and answers in the journal, redacted.")
@click.option("--redact", default="", metavar="MODULE:FUNCTION", help="A redaction of your own for --prompts.")
@click.option(
    "--shadow",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="POLICY",
    help="Evaluate and journal another policy too; it is never served.",
)
@click.option(
    "--state",
    "store",
    default="policyroute-state.sqlite",
    metavar="WHERE",
    show_default=True,
    help="Where conversations, quotas and budgets are kept: a file, `memory` (one worker), `redis://HOST`.",
)
@click.option(
    "--state-failure",
    default="open",
    show_default=True,
    type=click.Choice(["open", "closed"]),
    help="Where the store is out of reach: decide without it, or refuse.",
)
@click.option("--without", default="", metavar="WORDS", help="Serve the policy as if it had none of these (quota,sticky,...).")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A LiteLLM price map over the price library.",
)
@click.option("--answer-cache", default="0", metavar="TIME", help="Keep answers for equal questions this long.  [default: off]")
@click.option("--access-log", default="", metavar="FILE", help="One JSON line per request; `-` is stdout.")
@click.option("--otel", is_flag=True, help="Export a span per request by OTLP (extra `otel`).")
@click.option("--connect-timeout", default="5s", show_default=True, metavar="TIME", help="Until an upstream has accepted.")
@click.option(
    "--first-byte-timeout", default="5min", show_default=True, metavar="TIME", help="Until an attempt's answer has begun."
)
@click.option("--idle-timeout", default="60s", show_default=True, metavar="TIME", help="Silence after which a stream is cut.")
@click.option("--ping", default="10s", show_default=True, metavar="TIME", help="After how long a waiting stream is sent a comment.")
@click.option("--body-limit", default=32, show_default=True, type=click.IntRange(1, 1_024), help="Largest request, in MiB.")
@click.option(
    "--shutdown-timeout", default="2min", show_default=True, metavar="TIME", help="How long running answers have at the end."
)
@click.option("--no-headers", is_flag=True, help="Leave the `x-policyroute-...` headers out of answers.")
@click.option("--check", "check_only", is_flag=True, help="Load, say all that is worth knowing in full, and serve nothing.")
@click.option("--no-tests", is_flag=True, help="Serve a policy without running its tests first.")
def command(
    policy: str | None, host: str, port: int, workers: int, streams: int, keys: Path | None, apis: tuple[str, ...], journal: str, journal_window: str,
    prompts: bool, redact: str, shadow: Path | None, store: str, state_failure: str, without: str, price_file: Path | None, answer_cache: str, access_log: str, otel: bool,
    connect_timeout: str, first_byte_timeout: str, idle_timeout: str, ping: str, body_limit: int, shutdown_timeout: str, no_headers: bool, check_only: bool, no_tests: bool,
) -> None:  # fmt: skip
    """Serve POLICY as a gateway that speaks the OpenAI and the Anthropic API.

    Applications change their base URL to it and nothing else. Providers' credentials are read from the environment
    (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...). The policy is loaded again when its file changes, or on SIGHUP.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CannotRun("serving needs the extra `serve`", "pip install 'policyroute[serve]'")
    from policyroute.proxy.settings import Settings

    if keys is None and not _loopback(host):
        raise CannotRun(
            f"`--host {host}` would serve anybody",
            "give `--keys FILE` (`policyroute keys new NAME --file FILE` makes one), or serve 127.0.0.1",
        )
    if store == "memory" and workers > 1:
        raise CannotRun("`--state memory` is one worker's own", "`--workers 1`, or a file: `--state policyroute-state.sqlite`")
    with _shared_folder() as state:
        settings = Settings(
            policy=one_policy(policy), keys=keys, prices=price_file, shadow=shadow, without=tuple(filter(None, without.split(","))), apis=apis,
            journal=None if journal == "off" else Path(journal), window=_seconds(journal_window), prompts=prompts, redact=redact,
            access_log=access_log, spans=otel, answers=_seconds(answer_cache), body_limit=body_limit << 20,
            connect=_seconds(connect_timeout), first_byte=_seconds(first_byte_timeout), idle=_seconds(idle_timeout), ping=_seconds(ping),
            headers=not no_headers, state=state, store=store, store_closed=state_failure == "closed",
        )  # fmt: skip
        port = _free_port(host, port)
        _checked(settings, port, tests=not no_tests, full=check_only)
        if check_only:
            return
        _run(settings, host, port, workers, streams, max(1, round(_seconds(shutdown_timeout))))


def _checked(settings: Any, port: int, *, tests: bool, full: bool) -> None:
    """Load once, here, so that what is wrong is said before a port is open; and say what is worth knowing."""
    from policyroute.proxy.keeping import reachable, without_password
    from policyroute.proxy.providers import calls_itself
    from policyroute.proxy.reload import tests_fail
    from policyroute.proxy.service import load_service
    from policyroute.proxy.settings import ServeError

    try:
        service = load_service(settings, os.environ)
        reachable(settings.store, service.deciding)
        untested = tests_fail(settings) if tests else ""
    except ServeError as error:
        raise CannotRun(error.message, error.help) from None
    except PolicyError as error:
        click.echo(FORMATS["full"](error.diagnostics, error.sources), err=True)
        raise CannotRun(f"`{settings.policy}` was not loaded") from None
    itself = calls_itself(service.endpoints, port)
    if itself:
        named = ", ".join(f"`{name}`" for name in itself)
        raise CannotRun(
            f"the gateway would call itself for {named}",
            "unset `OPENAI_BASE_URL` and the like in its own environment: they are for its clients",
        )
    if untested:
        raise CannotRun(untested, "`policyroute test` shows them; `--no-tests` serves the policy nevertheless")
    for finding in service.findings:
        click.echo(f"{click.style('warning', fg='yellow', bold=True)}[{finding.code}]: {finding.message}", err=True)
        if finding.help:
            help_ = finding.help if full or len(finding.help) <= SHORT else f"{finding.help[:SHORT]}... (`--check` says all of it)"
            click.echo(f"  = help: {help_}", err=True)
    policy = service.policy
    click.echo(f"policy    {policy.name}  {shown(settings.policy)}  digest {policy.digest[:12]}", err=True)
    for name, endpoint in service.endpoints.items():
        click.echo(f"model     {name}  {policy.models[name].id}  {endpoint.base_url}", err=True)
    click.echo(f"keys      {settings.keys or 'none: this machine only'}", err=True)
    click.echo(f"journal   {settings.journal or 'off'}", err=True)
    if service.deciding.stateful is not None or service.wishes:
        click.echo(f"state     {without_password(settings.store)}", err=True)
    del service
    gc.collect()


def _run(settings: Any, host: str, port: int, workers: int, streams: int, shutdown: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces
    from granian.log import LogLevels

    from policyroute.proxy.app import from_environment  # imported before the workers are forked, so that they share its memory
    from policyroute.proxy.settings import ENVIRONMENT
    from policyroute.signals.tokens import VARIABLE, counted

    os.environ.setdefault(VARIABLE, LEAN)
    os.environ[ENVIRONMENT] = settings.written()
    _few_arenas()
    counted("ready")  # the vocabulary is loaded once, and its memory shared by the workers that are forked from here
    server = Granian(
        f"{from_environment.__module__}:{from_environment.__name__}", address=host, port=port, interface=Interfaces.WSGI, factory=True,
        workers=workers, blocking_threads=streams, backlog=4_096, backpressure=max(4_096, 4 * streams), websockets=False,
        log_level=LogLevels.error, respawn_failed_workers=True, workers_kill_timeout=shutdown, process_name=None,
    )  # fmt: skip
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @server.on_startup
    def _ready() -> None:
        if hasattr(signal, "SIGHUP"):  # granian would end the workers, and with them what a bad policy can't replace
            signal.signal(signal.SIGHUP, lambda *_: _stamp(settings.state))
        click.echo(f"serving   {url}/v1   (policyroute {policyroute.__version__}, {workers} workers)", err=True)

    os.register_at_fork(after_in_child=partial(os.setpgid, 0, 0))  # a Ctrl-C while workers start is the server's alone too
    gc.freeze()
    server.serve()
    if settings.journal is not None:
        with contextlib.suppress(OSError):  # what stays JSON lines is read too
            subprocess.run([sys.executable, "-m", "policyroute.proxy.journal.compact", str(settings.journal), "--all"], check=False)


def _few_arenas() -> None:
    """glibc keeps freed memory apart for up to eight threads a core; with a thread per stream, most of it would lie idle."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _stamp(state: Path) -> None:
    from policyroute.proxy.reload import STAMP

    stamp = state / STAMP
    stamp.touch()
    os.utime(stamp)


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """A folder that all workers share, with one for the counters of metrics inside."""
    state = Path(tempfile.mkdtemp(prefix="policyroute-serve-"))
    metrics = state / "metrics"
    metrics.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    try:
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0; says so where it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CannotRun(
                f"`{host}` port {port} can't be listened on: {reason}", "another one: `--port N`, or 0 for a free one"
            ) from None
        return int(probe.getsockname()[1])


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise CannotRun(f"`{text}` is no time", "write 500ms, 10s, 5min or 1h")
    return float(match[1]) * _UNITS[match[2]]
