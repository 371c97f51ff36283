"""Where a price comes from: the library's file, ids as traces write them, a user's price file, the policy's own words."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data import providers

from policyroute.language.policy import Model, Policy, Rate
from policyroute.language.source import Span
from policyroute.prices import library as library_module
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.prices.cost import Usage, cost
from policyroute.prices.library import Library, cache_folder, load_library
from policyroute.prices.litellm import PriceFile, read_price_file
from policyroute.prices.match import dashed_dates, matcher
from policyroute.prices.price import Price, PriceList

SHARED = Path(__file__).parents[2] / "shared"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
NO_FOLDER = Path(__file__) / "no folder"
LIBRARY = load_library(NO_FOLDER)
CATALOG = Catalog(LIBRARY)

# -- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "provider", "sold_by", "rates"),
    [
        ("claude-sonnet-4-5", None, "anthropic", (3, 15)),
        ("claude-sonnet-4-5", "anthropic", "anthropic", (3, 15)),
        ("Claude-Sonnet-4-5", "Anthropic", "anthropic", (3, 15)),
        ("anthropic/claude-3-7-sonnet-20250219", None, "anthropic", (3, 15)),
        ("anthropic/claude-3-7-sonnet-20250219", "anthropic", "anthropic", (3, 15)),
        ("claude-3-7-sonnet-20250219", "anthropic", "anthropic", (3, 15)),
        ("openai/gpt-4o", "litellm", "openai", ("2.5", 10)),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", None, "aws", (3, 15)),
        ("bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0", None, "aws", (3, 15)),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "aws.bedrock", "aws", (3, 15)),
        ("openrouter/anthropic/claude-3.5-sonnet", None, "openrouter", (3, 15)),
        ("gpt-5.2-20251211", None, "openai", ("1.75", 14)),
        ("gpt-4-0314", None, "openai", (30, 60)),
        ("claude-3-haiku-20240307", None, "anthropic", ("0.25", "1.25")),
        ("claude-3-5-sonnet-20241022", None, "anthropic", (3, 15)),
        ("claude-sonnet-4-5", "azure", "azure", (3, 15)),
        ("grok-3", "x_ai", "x-ai", (3, 15)),
        ("gpt-4o", "azure.ai.inference", "azure", ("2.5", 10)),
        ("gemini-2.5-flash", "gcp.gen_ai", "google", ("0.3", "2.5")),
        ("llama-3.3-70b-versatile", None, "groq", ("0.59", "0.79")),
        ("text-embedding-3-small", None, "openai", ("0.02", None)),
    ],
)
def test_ids_as_traces_write_them(model_id: str, provider: str | None, sold_by: str, rates: tuple[Any, Any]) -> None:
    prices = CATALOG.price_list(model_id, provider)
    assert prices is not None
    assert prices.provider == sold_by
    standard = next(price for price in prices.prices if price.tier == "standard")
    assert (standard.input, standard.output) == tuple(None if rate is None else int(Decimal(rate) * 10**6) for rate in rates)


@pytest.mark.parametrize(
    ("model_id", "provider"),
    [
        ("None", None),
        ("", None),
        ("ollama/REDACTED", None),
        ("openrouter/openrouter/quasar-alpha", None),
        ("ft:gpt-4.1-2025-04-14:acme::abc", None),
        ("gpt-4o", "nobody-we-know"),
        ("gpt-4o", "anthropic"),
        ("openai/gpt-4o", "anthropic"),
        ("stealth/crouton-alpha", "openrouter"),  # listed, and no price stated
        ("whisper-1", "openai"),  # sold by the minute
    ],
)
def test_unpriced_ids(model_id: str, provider: str | None) -> None:
    assert CATALOG.price_list(model_id, provider) is None


def test_free_models_are_free() -> None:
    provider, model = next((p.id, m.id) for p in providers for m in p.models if m.id.endswith(":free") and "prices" in vars(m))
    assert cost(Usage(10, 10), CATALOG.price_list(model, provider), NOW) is not None


def test_every_model_is_found_as_genai_prices_finds_it() -> None:
    from genai_prices.data_snapshot import get_snapshot

    for provider in providers[:12]:
        for model in provider.models:
            found = LIBRARY.find(model.id, provider.id)
            try:
                theirs = get_snapshot().find_provider_model(model.id, None, provider.id, None)[1].id
            except LookupError:
                theirs = None
            assert (found.model if found else None) == theirs


@pytest.mark.parametrize(
    ("clause", "yes", "no"),
    [
        (["equals", "GPT-4o"], "gpt-4o", "gpt-4o-mini"),
        (["starts_with", "gpt-"], "gpt-4o", "my-gpt-4o"),
        (["ends_with", ":free"], "x:free", "x:free:1"),
        (["contains", "Claude"], "us.anthropic.claude-3", "gpt"),
        (["regex", "^o[134]"], "o3", "go3"),
        (["or", [["equals", "a"], ["equals", "b"]]], "b", "c"),
        (["and", [["starts_with", "a"], ["ends_with", "z"]]], "a-z", "a"),
    ],
)
def test_clauses(clause: list[Any], yes: str, no: str) -> None:
    assert matcher(clause)(yes)
    assert not matcher(clause)(no)


def test_an_unknown_clause_is_refused() -> None:
    with pytest.raises(ValueError, match="sounds_like"):
        matcher(["sounds_like", "x"])


@pytest.mark.parametrize(
    ("written", "dashed"),
    [
        ("gpt-5.2-20251211", "gpt-5.2-2025-12-11"),
        ("a-20251211:free", "a-2025-12-11:free"),
        ("a-20250231", "a-20250231"),
        ("a-202512", "a-202512"),
    ],
)
def test_dates_in_ids(written: str, dashed: str) -> None:
    assert dashed_dates(written) == dashed


# -- the library's file --------------------------------------------------------------------------------------------


def test_the_library_is_flattened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "cache"
    first = load_library(folder)
    assert [path.name.startswith("prices-") for path in folder.iterdir()] == [True]
    monkeypatch.setattr(library_module, "_flatten", lambda: pytest.fail("flattened again"))
    second = load_library(folder)
    assert second.digest == first.digest == LIBRARY.digest
    assert second.find("o3") == first.find("o3")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b"claude", b"fraude", 1),
        lambda data: b'{"providers": []}',
        lambda data: b"\xff\xfe" + data,
    ],
)
def test_a_spoilt_file_is_made_again(spoil: Any, tmp_path: Path) -> None:
    load_library(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert load_library(tmp_path).digest == LIBRARY.digest
    assert path.read_bytes() == whole


def test_an_unwritable_folder_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert load_library(file).digest == LIBRARY.digest


def test_a_folder_in_the_files_place_is_no_error(tmp_path: Path) -> None:
    load_library(tmp_path)
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    assert load_library(tmp_path).digest == LIBRARY.digest
    assert list(tmp_path.iterdir()) == [path]  # and nothing half-written is left


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"POLICYROUTE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ("linux", {"XDG_CACHE_HOME": "/b"}, "/b/policyroute"),
        ("linux", {"HOME": "/home/ann"}, "/home/ann/.cache/policyroute"),
        ("darwin", {"HOME": "/Users/ann"}, "/Users/ann/Library/Caches/policyroute"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/policyroute/Cache"),
    ],
)
def test_cache_folder(platform: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLICYROUTE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path(folder)


def test_genai_prices_is_imported_only_to_flatten(tmp_path: Path) -> None:
    load_library(tmp_path)
    code = (
        "import sys; from pathlib import Path; from policyroute.prices.catalog import load_catalog; "
        "assert load_catalog(folder=Path(sys.argv[1])).price_list('o3'); "
        "sys.exit(bool({'genai_prices', 'duckdb', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


SAMPLE = '{"claude-sonnet-4-5": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}'


@pytest.fixture
def sample(tmp_path: Path) -> PriceFile:
    path = tmp_path / "prices.json"
    path.write_text(SAMPLE)
    return read_price_file(path)


# -- the catalog ---------------------------------------------------------------------------------------------------


def policy(*models: Model) -> Policy:
    return Policy(
        name="p", doc="", timezone="UTC", signals={}, texts={}, tunables={}, models={model.name: model for model in models},
        tiers={}, order=(), forbids=(), rules=(), explore=None, tests=(), constructs=(), digest="",
    )  # fmt: skip


def test_precedence(sample: PriceFile) -> None:
    catalog = Catalog(LIBRARY, sample)
    own = Model("own", "claude-sonnet-4-5", rates=(Rate(None, 7, 8),))
    lists = catalog.for_policy(
        policy(own, Model("listed", "claude-sonnet-4-5"), Model("known", "gpt-4o"), Model("unknown", "smollm2"))
    )
    assert {name: (prices.source, prices.prices[0].input) for name, prices in lists.items()} == {
        "own": ("policy", 7),
        "listed": ("file", 1_000_000),
        "known": ("library", 2_500_000),
    }


def test_policy_rates_by_date() -> None:
    model = Model("m", "x", rates=(Rate(date(2026, 6, 1), 2, 2), Rate(None, 9, 9, cached=1, write=4)))
    prices = CATALOG.for_model(model)
    usage = Usage(10, 0, cached=5, write_1h=2)
    assert cost(usage, prices, datetime(2026, 5, 31, 23, 59)) == cost(usage, prices, datetime(2020, 1, 1))
    assert [getattr(cost(usage, prices, datetime(2026, month, 1)), "picodollars", None) for month in (5, 6)] == [27 + 5 + 8, 20]


def test_complete_fills_what_is_left_out() -> None:
    stated = Model("mine", "gpt-4o", provider="acme", rates=(Rate(None, 0, 0),), context=8_000, can=frozenset())
    whole, diagnostics = complete(
        policy(Model("mini", "gpt-4o-mini"), stated, Model("local", "smollm2", rates=(Rate(None, 0, 0),))), CATALOG
    )
    mini, mine, local = whole.models.values()
    assert not diagnostics
    assert (mini.provider, mini.context, mini.can, mini.rates) == ("openai", 128_000, {"tools", "images", "json"}, ())
    assert mine == stated
    assert (local.provider, local.context, local.can) == (None, None, None)


@pytest.mark.parametrize(
    ("model", "message", "help_"),
    [
        (
            Model("mini", "gpt-4o-mni", span=Span(3, 9)),
            "no price is known for `gpt-4o-mni`",
            "did you mean `gpt-4o-mini`? or state its prices in dollars per million tokens: `in $1 out $5`",
        ),
        (
            Model("mini", "zzzzzzzz", provider="acme", span=Span(3, 9)),
            "no price is known for `zzzzzzzz` at provider `acme`",
            "state its prices in dollars per million tokens: `in $1 out $5`",
        ),
    ],
)
def test_a_price_that_nobody_knows_is_an_error(model: Model, message: str, help_: str) -> None:
    _, (diagnostic,) = complete(policy(model), CATALOG)
    assert (diagnostic.code, diagnostic.message, diagnostic.help, diagnostic.span) == (
        "price-not-found",
        message,
        help_,
        Span(3, 9),
    )


def test_the_version_names_every_source(sample: PriceFile, tmp_path: Path) -> None:
    assert CATALOG.version == f"genai-prices {LIBRARY.version}"
    over = Catalog(LIBRARY, sample)
    assert over.version == f"{CATALOG.version} + file {sample.digest[:12]}"
    assert len({over.digest, CATALOG.digest, Catalog(LIBRARY, PriceFile({}, "other")).digest}) == 3
    path = tmp_path / "p.json"
    path.write_text(SAMPLE)
    assert load_catalog(path, NO_FOLDER).digest == over.digest


@pytest.mark.parametrize(
    ("model_id", "context", "can"),
    [
        ("gpt-4o-mini", 128_000, {"tools", "images", "json"}),
        ("anthropic/claude-haiku-4-5", 200_000, {"tools", "images", "json"}),
        ("gpt-3.5-turbo", 16_385, {"tools", "json"}),
        ("smollm2", None, None),
    ],
)
def test_abilities(model_id: str, context: int | None, can: set[str] | None) -> None:
    facts = CATALOG.facts(model_id)
    assert (facts.context, facts.can) == (context, can)


def test_the_abilities_file_is_small_and_says_where_it_is_from() -> None:
    path = Path(library_module.__file__).with_name("abilities.json")
    data = json.loads(path.read_text("utf-8"))
    assert path.stat().st_size < 150_000
    assert {"source", "version", "licence"} <= data.keys()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_the_abilities_file_is_what_its_script_builds() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
    try:
        import build_abilities
    finally:
        sys.path.pop(0)
    source = SHARED / "data/prices/litellm_1.109.1_model_prices_and_context_window.json.gz"
    assert build_abilities.build(source, "1.109.1") == build_abilities.TARGET.read_text("utf-8")


def shelf(provider: str, rate: int) -> dict[str, Any]:
    row = [None, None, None, "standard", 0, rate, rate, None, None, None, 0]
    return {
        "id": provider,
        "model_match": None,
        "provider_match": None,
        "fallback": [],
        "models": [["M", ["equals", "m"], 5, True, [row]]],
    }


@pytest.mark.parametrize(("rates", "sold_by"), [((7, 7), "openai"), ((7, 8), None)])
def test_an_id_at_several_providers_has_a_price_if_they_agree(rates: tuple[int, int], sold_by: str | None) -> None:
    library = Library(json.dumps([shelf("azure", rates[0]), shelf("openai", rates[1])]).encode(), "0")
    found = library.find("m")
    assert (found.provider if found else None) == sold_by
    assert library.find("m", "azure") == PriceList("M", "azure", (Price(7, 7),), "library", context=5)
