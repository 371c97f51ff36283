"""Where models are called, and which credential goes where: above all, where none goes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.policy import Model
from policyroute.language.source import Span
from policyroute.prices.library import load_library
from policyroute.proxy.providers import APIS, PROVIDERS, Endpoint, EndpointError, Secret, calls_itself, endpoint_of, provider_of

CANARY = "sk-canary-0123456789"
OPENAI_LIKE = {"chat", "embeddings", "completions"}


def model(provider: str | None = "openai", url: str | None = None, name: str = "mini") -> Model:
    return Model(name, "some-id", provider, url, span=Span.NONE)


def failing(which: Model, environ: dict[str, str]) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        endpoint_of(which, environ)
    assert CANARY not in f"{caught.value.message} {caught.value.help}"
    return caught.value


# -- the table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_row_is_an_address_with_apis(name: str) -> None:
    row = PROVIDERS[name]
    parts = urlsplit(row.url)
    assert row.apis and row.apis <= set(APIS)
    assert row.url == row.url.rstrip("/") and not parts.query
    assert parts.scheme == "https" or row.keyless or not row.url
    assert row.prefix.isupper()


def test_prefixes_are_each_one_s_own() -> None:
    prefixes = [row.prefix for row in PROVIDERS.values()]
    assert len(set(prefixes)) == len(prefixes)


@pytest.mark.parametrize("name", sorted(set(PROVIDERS) - {"ollama"}))
def test_names_are_the_price_library_s(name: str) -> None:
    """A model's provider may come from the price library, under the library's name."""
    found = load_library()._named(name)
    assert found is not None and found.id == name


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("xai", "x-ai"),
        ("x_ai", "x-ai"),
        ("OpenAI", "openai"),
        ("gemini", "google"),
        ("google-gla", "google"),
        ("mistralai", "mistral"),
        ("together_ai", "together"),
        ("moonshot", "moonshotai"),
        ("zai", "zai"),
        ("zhipu", "zhipuai"),
    ],
)
def test_other_names(name: str, row: str) -> None:
    assert provider_of(model(name)) is PROVIDERS[row]


@pytest.mark.parametrize("name", [None, "", "nobody", "vertex", "google-vertex", "bedrock", "aws", "litellm"])
def test_a_provider_without_a_row(name: str | None) -> None:
    error = failing(model(name), {})
    assert "`mini`" in error.message and 'url "https://..."' in error.help


def test_a_near_name_is_named() -> None:
    assert "`openrouter`" in failing(model("openruter"), {}).help


# -- default addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "environ", "base", "credential", "missing"),
    [
        ("openai", {}, "https://api.openai.com/v1", (), "OPENAI_API_KEY"),
        ("openai", {"OPENAI_API_KEY": ""}, "https://api.openai.com/v1", (), "OPENAI_API_KEY"),
        ("openai", {"OPENAI_API_KEY": CANARY}, "https://api.openai.com/v1", (("authorization", f"Bearer {CANARY}"),), ""),
        ("openai", {"OPENAI_API_KEY": f" {CANARY}\n"}, "https://api.openai.com/v1", (("authorization", f"Bearer {CANARY}"),), ""),
        ("openai", {"OPENAI_BASE_URL": "http://mock:8000/v1/"}, "http://mock:8000/v1", (), ""),
        ("openai", {"OPENAI_BASE_URL": "  "}, "https://api.openai.com/v1", (), "OPENAI_API_KEY"),
        ("anthropic", {"ANTHROPIC_API_KEY": CANARY}, "https://api.anthropic.com/v1", (("x-api-key", CANARY),), ""),
        ("anthropic", {"ANTHROPIC_BASE_URL": "https://mock"}, "https://mock/v1", (), ""),
        ("anthropic", {"ANTHROPIC_BASE_URL": "https://mock/v1/"}, "https://mock/v1", (), ""),
        ("google", {"GOOGLE_API_KEY": CANARY}, PROVIDERS["google"].url, (("authorization", f"Bearer {CANARY}"),), ""),
        ("google", {"GEMINI_API_KEY": CANARY, "GOOGLE_API_KEY": "other"}, PROVIDERS["google"].url, (("authorization", f"Bearer {CANARY}"),), ""),
        ("google", {}, PROVIDERS["google"].url, (), "GEMINI_API_KEY"),
        ("ollama", {}, "http://127.0.0.1:11434/v1", (), ""),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/", "AZURE_OPENAI_API_KEY": CANARY}, "https://me.openai.azure.com/openai/v1", (("api-key", CANARY),), ""),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/openai/v1/"}, "https://me.openai.azure.com/openai/v1", (), ""),
        ("azure", {"AZURE_OPENAI_BASE_URL": "https://me/openai/v1", "AZURE_OPENAI_ENDPOINT": "https://no"}, "https://me/openai/v1", (), ""),
    ],
)  # fmt: skip
def test_where_a_provider_is(
    provider: str, environ: dict[str, str], base: str, credential: tuple[tuple[str, str], ...], missing: str
) -> None:
    endpoint = endpoint_of(model(provider), environ)
    assert (endpoint.base_url, endpoint.credential(), endpoint.missing) == (base, credential, missing)
    assert endpoint.apis == PROVIDERS[provider].apis


def test_azure_needs_an_address() -> None:
    error = failing(model("azure"), {"AZURE_OPENAI_API_KEY": CANARY})
    assert "AZURE_OPENAI_ENDPOINT" in error.message


def test_mistral_is_not_asked_for_usage() -> None:
    assert not endpoint_of(model("mistral"), {}).asks_usage
    assert not endpoint_of(model("mistral", "https://api.mistral.ai/v1"), {}).asks_usage
    assert endpoint_of(model(), {}).asks_usage


# -- a policy's own addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "url", "environ", "apis", "credential", "missing"),
    [
        ("openai", "http://127.0.0.1:8080/v1", {}, OPENAI_LIKE, (), ""),
        (None, "http://127.0.0.1:8080/v1", {}, OPENAI_LIKE, (), ""),
        ("nobody", "http://127.0.0.1:8080/v1", {}, OPENAI_LIKE, (), ""),
        ("perplexity", "https://x.test/v1", {}, OPENAI_LIKE, (), "POLICYROUTE_MINI_API_KEY"),
        ("anthropic", "https://x.test/v1", {}, {"messages"}, (), "POLICYROUTE_MINI_API_KEY"),
        ("anthropic", "https://x.test/v1", {"POLICYROUTE_MINI_API_KEY": CANARY}, {"messages"}, (("x-api-key", CANARY),), ""),
        ("azure", "https://x.test/openai/v1", {"POLICYROUTE_MINI_API_KEY": CANARY}, OPENAI_LIKE, (("api-key", CANARY),), ""),
        ("openai", "https://x.test/v1", {"POLICYROUTE_MINI_API_KEY": ""}, OPENAI_LIKE, (), ""),
        ("openai", "https://x.test/v1", {"POLICYROUTE_MINI_APIS": "chat, responses"}, {"chat", "responses"}, (), "POLICYROUTE_MINI_API_KEY"),
    ],
)  # fmt: skip
def test_where_a_url_is(
    provider: str | None, url: str, environ: dict[str, str], apis: set[str], credential: tuple[tuple[str, str], ...], missing: str
) -> None:
    endpoint = endpoint_of(model(provider, url), environ)
    assert (endpoint.base_url, endpoint.apis, endpoint.credential(), endpoint.missing) == (url, apis, credential, missing)


@given(
    st.sampled_from([None, "nobody", *PROVIDERS]),
    st.sampled_from(["https://evil.test/v1", "https://api.openai.com/v1", "http://10.0.0.1"]),
)
def test_no_provider_s_credential_goes_to_a_policy_s_url(provider: str | None, url: str) -> None:
    names = [f"{row.prefix}_API_KEY" for row in PROVIDERS.values()] + [key for row in PROVIDERS.values() for key in row.keys]
    environ = dict.fromkeys([*names, "POLICYROUTE_OTHER_API_KEY"], CANARY) | {"OPENAI_BASE_URL": "https://elsewhere.test/v1"}
    endpoint = endpoint_of(model(provider, url), environ)
    assert endpoint.base_url == url and endpoint.credential() == ()


@given(st.sampled_from(sorted(PROVIDERS)))
def test_a_provider_gets_its_own_credential_only(provider: str) -> None:
    environ = {f"{row.prefix}_API_KEY": f"key of {name}" for name, row in PROVIDERS.items()}
    environ |= {"AZURE_OPENAI_ENDPOINT": "https://me.test", "POLICYROUTE_MINI_API_KEY": "of a url"}
    ((_, value),) = endpoint_of(model(provider), environ).credential()
    assert value.removeprefix("Bearer ") == f"key of {provider}"


def test_apis_of_a_provider_s_model_can_be_said() -> None:
    assert endpoint_of(model("groq"), {"POLICYROUTE_MINI_APIS": "chat,responses"}).apis == {"chat", "responses"}
    assert failing(model("groq"), {"POLICYROUTE_MINI_APIS": "chta,x"}).message == "`POLICYROUTE_MINI_APIS` names no API: chta, x"


def test_a_variable_s_name_has_no_odd_characters() -> None:
    endpoint = endpoint_of(model(None, "http://h/v1", "gpt-4.1"), {"POLICYROUTE_GPT_4_1_API_KEY": CANARY})
    assert endpoint.key.reveal() == CANARY


# -- what is wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("api.openai.com/v1", "is no address"),
        ("ftp://host/v1", "is no address"),
        ("https://", "is no address"),
        ("https:///v1", "is no address"),
        ("https://host:port/v1", "is no address"),
        ("https://host:99999/v1", "is no address"),
        ("https://[::1/v1", "is no address"),
        ("https://host/v 1", "is no address"),
        ("https://host/v1\r\nx: y", "is no address"),
        ("https://höst/v1", "is no address"),
        (f"https://user:{CANARY}@host/v1", "holds a credential"),
        (f"https://{CANARY}@host/v1", "holds a credential"),
        (f"https://host/v1?key={CANARY}", "goes on after its path"),
        ("https://host/v1?", "goes on after its path"),
        ("https://host/v1#part", "goes on after its path"),
    ],
)
def test_an_address_is_checked_and_never_shown(url: str, message: str) -> None:
    assert failing(model("openai", url), {}).message == f"`url` of `mini` {message}"
    assert failing(model("openai"), {"OPENAI_BASE_URL": url}).message == f"`OPENAI_BASE_URL` {message}"


@pytest.mark.parametrize("text", [f"{CANARY}\r\nx-evil: 1", f"{CANARY}\nsecond line", f"{CANARY}ü", f"\0{CANARY}"])
def test_a_credential_that_no_header_can_hold(text: str) -> None:
    assert "`OPENAI_API_KEY` can't be sent" in failing(model(), {"OPENAI_API_KEY": text}).message
    assert "`POLICYROUTE_MINI_API_KEY`" in failing(model("openai", "https://h/v1"), {"POLICYROUTE_MINI_API_KEY": text}).message


@pytest.mark.parametrize(
    ("url", "port", "own"),
    [
        ("http://127.0.0.1:8080/v1", 8080, True),
        ("http://localhost:8080/v1", 8080, True),
        ("http://[::1]:8080/v1", 8080, True),
        ("http://0.0.0.0:8080/v1", 8080, True),
        ("http://127.0.0.1/v1", 80, True),
        ("http://127.0.0.1:8081/v1", 8080, False),
        ("http://10.0.0.1:8080/v1", 8080, False),
        ("https://api.openai.com/v1", 443, False),
    ],
)
def test_a_gateway_that_would_call_itself(url: str, port: int, own: bool) -> None:
    endpoints = {"mini": Endpoint(url, frozenset({"chat"}))}
    assert calls_itself(endpoints, port) == (("mini",) if own else ())


# -- secrets -------------------------------------------------------------------------------------------------------------


SHOWN = [repr, str, format, "{!r}".format, "{:>40}".format, "{!a:s}".format]


@pytest.mark.parametrize("shown", SHOWN)
def test_a_secret_is_not_shown(shown: Callable[[object], str]) -> None:
    assert CANARY not in shown(Secret(CANARY))


@pytest.mark.parametrize("shown", [repr, str, format])
def test_what_holds_a_secret_does_not_show_it(shown: Callable[[object], str]) -> None:
    endpoint = endpoint_of(model(), {"OPENAI_API_KEY": CANARY})
    for value in (endpoint, [endpoint.key], {"key": endpoint.key}, EndpointError("x", str(endpoint.key))):
        assert CANARY not in shown(value)


def test_a_secret_is_not_written() -> None:
    secret = Secret(CANARY)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert secret and not Secret("")
    assert not hasattr(secret, "__dict__")
