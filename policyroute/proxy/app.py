"""The gateway as a WSGI callable: `create("p.route")`.

It runs under any WSGI server that has threads: granian (what `policyroute serve` starts), gunicorn, waitress. A client's error
is answered in the shape of the API that it called; what goes wrong is logged without bodies, keys or header values.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from policyroute.proxy.bodies import read_off
from policyroute.proxy.calls import Calls, Running
from policyroute.proxy.gateway import Gateway
from policyroute.proxy.headers import of_environ
from policyroute.proxy.others import Others
from policyroute.proxy.refusal import Refusal
from policyroute.proxy.settings import ENVIRONMENT, ServeError, Settings, read_settings
from policyroute.proxy.wire.surface import SURFACES, Surface, surface_of

Environ = dict[str, Any]
Start = Callable[..., Any]
Answer = tuple[int, list[tuple[str, str]], bytes]

REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
JSON = ("content-type", "application/json")
KEPT = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "NO_COLOR"})
KEPT_PREFIXES = ("LC_", "PYTHON", "XDG_", "SSL_CERT_", "OTEL_", "PROMETHEUS_", "POLICYROUTE_CACHE", "POLICYROUTE_TOKENIZER")

log = logging.getLogger("policyroute")


def create(policy: str | Path, **options: Any) -> App:
    """The WSGI callable for the policy in the file `policy`; `options` are fields of `Settings`.

    Provider credentials are taken from the environment (`OPENAI_API_KEY`, ...). Raises `language.diagnostics.PolicyError` for a
    policy with errors and `ServeError` for anything else that keeps it from serving.
    """
    return App(Gateway(Settings(Path(policy), **options), os.environ))


def from_environment() -> App:
    """The WSGI callable for the settings that `policyroute serve` left in the environment."""
    os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the server alone, which then ends its workers: one signal each, not two
    _log_to_stderr()
    environ = dict(os.environ)
    app = App(Gateway(read_settings(environ[ENVIRONMENT]), environ))
    _forget_secrets()
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    gc.set_threshold(20_000, 20, 50)
    Finalize(None, app.gateway.close, exitpriority=1)  # a worker that multiprocessing started runs no `atexit`
    return app


def _forget_secrets() -> None:
    """Take out of the process's environment what nobody reads there any more: credentials would go to each request and child."""
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class App:
    """The callable. One per worker; requests may come from any number of threads."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.calls = Calls(gateway)
        self.others = Others(self.calls)
        self._fixed: dict[str, Callable[[Environ], Answer]] = {
            "/": self._root, "/healthz": self._health, "/readyz": self._ready, "/metrics": self._metrics,
        }  # fmt: skip
        atexit.register(gateway.close)

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        """WSGI."""
        self.gateway.awake()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        surface = surface_of(method, path)
        try:
            if surface is not None and method == "POST" and path == surface.path:
                return self._streamed(self.calls.serve(surface, environ), start_response)
            return _sent(self._other(method, path, environ), method, start_response)
        except Refusal as refusal:
            read_off(environ)
            return _sent(refusal.answer(surface or SURFACES["chat"]), method, start_response)
        except Exception:
            log.exception("a request could not be served: %s %s", method, path)
            fault = Refusal(500, "the gateway has a fault; its log says which", "gateway_fault")
            return _sent(fault.answer(surface or SURFACES["chat"]), method, start_response)

    def _streamed(self, running: Running, start_response: Start) -> Iterable[bytes]:
        """Start the answer when its first bytes are there: until then its status is open."""
        first = running.first()
        head = running.head
        if running.over:
            start_response(_line(head.status), [*head.headers, ("content-length", str(len(first)))])
            return [first]
        start_response(_line(head.status), head.headers)
        return running

    def _other(self, method: str, path: str, environ: Environ) -> Answer:
        fixed = self._fixed.get(path)
        if fixed is not None:
            if method not in ("GET", "HEAD"):
                raise Refusal(405, f"`{path}` is read with GET", "method_not_allowed")
            return fixed(environ)
        found = self.others.other(method, path, environ)
        if found is None:
            raise Refusal(404, f"there is no `{method} {path}` here", "not_found")
        return found

    def _root(self, environ: Environ) -> Answer:
        return _json(200, {"service": "policyroute", "policy": self.gateway.service.policy.name})

    def _health(self, environ: Environ) -> Answer:
        return _json(200, self.gateway.health())

    def _ready(self, environ: Environ) -> Answer:
        return _json(200, {"ready": True, "digest": self.gateway.service.policy.digest})

    def _metrics(self, environ: Environ) -> Answer:
        headers = of_environ(environ)
        self.calls.caller(environ, headers)
        body, content_type = self.gateway.rendered_metrics(headers.get("accept", ""))
        return 200, [("content-type", content_type)], body


def _json(status: int, value: Mapping[str, Any]) -> Answer:
    return status, [JSON], json.dumps(value).encode()


def _sent(answer: Answer, method: str, start_response: Start) -> list[bytes]:
    status, headers, body = answer
    start_response(_line(status), [*headers, ("content-length", str(len(body)))])
    return [b"" if method == "HEAD" else body]


def _line(status: int) -> str:
    return f"{status} {REASONS.get(status, 'Status')}"


__all__ = ["App", "ServeError", "Surface", "create", "from_environment"]
