"""Where models are called: one row per provider, and what the environment says of it.

Rules of this module
- A provider's credential (`OPENAI_API_KEY`) goes to the provider's own address, or to the one that the environment gives in its
  place (`OPENAI_BASE_URL`). It never goes to a `url` that a policy states: such a model has `POLICYROUTE_<MODEL>_API_KEY`.
- A `url` is asked for the Messages API where the model's provider is `anthropic`, else for what every OpenAI-like server has: chat,
  completions, embeddings. `POLICYROUTE_<MODEL>_APIS=chat,responses` says otherwise, for a `url` and for a provider.
- Only APIs that a provider documents as its own are listed (read in October 2026), and no preview that it may take away.
- A credential is a `Secret`: it shows itself in no text that is made of it by accident. An address holds none, for addresses are
  shown.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.policy import Model

ANTHROPIC_VERSION = "2023-06-01"  # for clients that name none
APIS = ("chat", "responses", "messages", "embeddings", "completions")

Scheme = Literal["bearer", "x-api-key", "api-key"]


class Secret:
    """A credential. `reveal()` is the only way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The credential itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a credential is not written down")


NO_SECRET = Secret("")


class Provider(NamedTuple):
    """A row: base URL ("" where every customer has another), the environment's prefix, the APIs, how the credential is sent.

    `keys` are other usual names of the credential. `keyless`: it asks for none. `asks_usage`: it takes `stream_options`.
    """

    url: str
    prefix: str
    apis: frozenset[str] = frozenset({"chat"})
    scheme: Scheme = "bearer"
    keys: tuple[str, ...] = ()
    keyless: bool = False
    asks_usage: bool = True


_OPENAI_LIKE = frozenset({"chat", "embeddings", "completions"})
_EMBEDDING = frozenset({"chat", "embeddings"})
_STATEFUL = frozenset({"chat", "responses"})
_ALL_OF_OPENAI = _OPENAI_LIKE | _STATEFUL

PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI", _ALL_OF_OPENAI),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC", frozenset({"messages"}), "x-api-key"),
    "google": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI", _EMBEDDING, keys=("GOOGLE_API_KEY",)),
    "azure": Provider("", "AZURE_OPENAI", _ALL_OF_OPENAI, "api-key"),
    "deepseek": Provider("https://api.deepseek.com", "DEEPSEEK"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ"),
    # Mistral refuses `stream_options` with 422, and tells a stream's usage without being asked.
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL", _EMBEDDING, asks_usage=False),
    "x-ai": Provider("https://api.x.ai/v1", "XAI", _STATEFUL),
    "together": Provider("https://api.together.ai/v1", "TOGETHER", _OPENAI_LIKE),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS", _ALL_OF_OPENAI),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER", _EMBEDDING),
    "cohere": Provider("https://api.cohere.ai/compatibility/v1", "COHERE", _EMBEDDING, keys=("CO_API_KEY",)),
    # Its chat completions ended on 2026-09-27.
    "perplexity": Provider("https://api.perplexity.ai/v1", "PERPLEXITY", frozenset({"responses"})),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS"),
    "moonshotai": Provider("https://api.moonshot.ai/v1", "MOONSHOT"),
    "minimax": Provider("https://api.minimax.io/v1", "MINIMAX"),
    "zai": Provider("https://api.z.ai/api/paas/v4", "ZAI"),
    "zhipuai": Provider("https://open.bigmodel.cn/api/paas/v4", "ZHIPUAI"),
    "ollama": Provider("http://127.0.0.1:11434/v1", "OLLAMA", _OPENAI_LIKE, keyless=True),
}
"""Providers under the names that the price library has for them."""

_SAME = {
    "xai": "x-ai", "x_ai": "x-ai", "gemini": "google", "google-gla": "google", "azure_openai": "azure", "mistralai": "mistral",
    "together_ai": "together", "fireworks_ai": "fireworks", "moonshot": "moonshotai", "z-ai": "zai", "zhipu": "zhipuai",
}  # fmt: skip


def markdown() -> str:
    """The table of providers as docs/serve.md holds it."""
    head = ["| provider | address | credential | APIs |", "| --- | --- | --- | --- |"]
    rows = [
        f"| `{name}` | {f'`{row.url}`' if row.url else f'`{row.prefix}_BASE_URL`'} | {'none' if row.keyless else f'`{row.prefix}_API_KEY`'} |"
        f" {', '.join(api for api in APIS if api in row.apis)} |"
        for name, row in PROVIDERS.items()
    ]
    return "\n".join(head + rows) + "\n"


class EndpointError(Exception):
    """A model that can't be called: what is wrong or missing, and the remedy."""

    def __init__(self, message: str, help_: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help_


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how a model is called. `missing` names the environment's variable that a credential is wanted from, "" for none."""

    base_url: str
    apis: frozenset[str]
    scheme: Scheme = "bearer"
    key: Secret = field(default=NO_SECRET, repr=False, compare=False)
    missing: str = ""
    asks_usage: bool = True

    @property
    def counts_tokens(self) -> bool:
        """Whether the provider answers `/messages/count_tokens`."""
        return "messages" in self.apis

    def credential(self) -> tuple[tuple[str, str], ...]:
        """The header that carries the credential."""
        if not self.key:
            return ()
        return (
            (("authorization", f"Bearer {self.key.reveal()}"),) if self.scheme == "bearer" else ((self.scheme, self.key.reveal()),)
        )


def endpoint_of(model: Model, environ: Mapping[str, str]) -> Endpoint:
    """Where `model` is called.

    Raises EndpointError for a provider that has no row and a model that states no `url`, for an address that is none, and for a
    credential that can't be sent.
    """
    row = provider_of(model)
    own = f"POLICYROUTE_{re.sub('[^A-Z0-9]', '_', model.name.upper())}"
    apis = _stated(environ, f"{own}_APIS")
    if model.url is not None:
        return _of_url(model.url, row or PROVIDERS["openai"], own, apis, environ, f"`url` of `{model.name}`")
    if row is None:
        known = did_you_mean(model.provider or "", (*PROVIDERS, *_SAME)) or f"known providers are {', '.join(PROVIDERS)}"
        raise EndpointError(
            f"nobody knows where `{model.name}` is called: provider `{model.provider or 'unknown'}` has no address here",
            f'state it: `url "https://..."`; {known}',
        )
    base, variable = _base(row, environ)
    key = next((found for name in (f"{row.prefix}_API_KEY", *row.keys) if (found := _secret(environ, name))), NO_SECRET)
    wanted = not (key or variable or row.keyless)
    return Endpoint(
        _address(base, f"`{variable}`"),
        apis or row.apis,
        row.scheme,
        key,
        f"{row.prefix}_API_KEY" if wanted else "",
        row.asks_usage,
    )


def provider_of(model: Model) -> Provider | None:
    """The row of the model's provider."""
    name = (model.provider or "").lower()
    return PROVIDERS.get(_SAME.get(name, name))


def calls_itself(endpoints: Mapping[str, Endpoint], port: int) -> tuple[str, ...]:
    """Models whose address is this machine's `port`: the gateway's own, where it listens there.

    It comes of a shell in which `OPENAI_BASE_URL` already points clients to the gateway that is started from it.
    """
    return tuple(name for name, endpoint in endpoints.items() if _is_local(endpoint.base_url, port))


# -- addresses -------------------------------------------------------------------------------------------------------


def _of_url(
    url: str, row: Provider, own: str, apis: frozenset[str], environ: Mapping[str, str], what: str
) -> Endpoint:  # fmt: skip
    variable = f"{own}_API_KEY"
    key = _secret(environ, variable)
    base = _address(url, what)
    usual = frozenset({"messages"}) if row.apis == {"messages"} else _OPENAI_LIKE
    # Servers at home mostly ask for no credential, services behind TLS do. Setting the variable to nothing says that this one doesn't.
    wanted = not key and variable not in environ and base.startswith("https:")
    return Endpoint(base, apis or usual, row.scheme, key, variable if wanted else "", row.asks_usage)


def _base(row: Provider, environ: Mapping[str, str]) -> tuple[str, str]:
    """The base URL, and the variable that gave it ("" for the row's own)."""
    variable = f"{row.prefix}_BASE_URL"
    if base := environ.get(variable, "").strip().rstrip("/"):
        needs = row.scheme == "x-api-key" and not base.endswith("/v1")  # Anthropic's own clients take the address without it
        return (f"{base}/v1" if needs else base), variable
    if row.url:
        return row.url, ""
    variable = f"{row.prefix}_ENDPOINT"
    if base := environ.get(variable, "").strip().rstrip("/"):
        return (base if base.endswith("/openai/v1") else f"{base}/openai/v1"), variable
    raise EndpointError(
        f"`{variable}` is not set, and every customer has another address there",
        f"set `{variable}=https://RESOURCE.openai.azure.com`, or state the model's `url`",
    )


def _address(url: str, what: str) -> str:
    """`url` without a slash at its end, if paths can be added to it. The message doesn't show it: it may hold a password."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not (url.isascii() and url.isprintable()) or " " in url:
        raise EndpointError(f"{what} is no address", "write `https://host/path`, or `http://` for a host of your own")
    if "@" in parts.netloc:
        raise EndpointError(
            f"{what} holds a credential", "addresses are shown: put the credential into the variable that is for it"
        )
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise EndpointError(f"{what} goes on after its path", "paths are added to it, so it ends without `?` and `#`")
    return url.rstrip("/")


def _is_local(url: str, port: int) -> bool:
    parts = urlsplit(url)
    if (parts.port or (443 if parts.scheme == "https" else 80)) != port:
        return False
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


# -- the environment -------------------------------------------------------------------------------------------------


def _secret(environ: Mapping[str, str], name: str) -> Secret:
    """The credential in a variable. White space around it comes of files and pipes, and is no part of one."""
    text = environ.get(name, "").strip()
    if not (text.isascii() and text.isprintable()):
        raise EndpointError(f"`{name}` can't be sent: it has characters that no header can hold", "set it to the credential alone")
    return Secret(text) if text else NO_SECRET


def _stated(environ: Mapping[str, str], name: str) -> frozenset[str]:
    named = frozenset(word.strip() for word in environ.get(name, "").split(",") if word.strip())
    unknown = sorted(named - set(APIS))
    if unknown:
        raise EndpointError(f"`{name}` names no API: {', '.join(unknown)}", f"APIs are {', '.join(APIS)}")
    return named
