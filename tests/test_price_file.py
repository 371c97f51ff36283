"""LiteLLM's price map, as users keep it: what is read from it, and what is refused."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyroute.prices.cost import Usage, cost
from policyroute.prices.library import load_library
from policyroute.prices.litellm import PriceFile, PriceFileError, read_price_file
from policyroute.prices.price import PriceList

SHARED = Path(__file__).parents[2] / "shared"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LIBRARY = load_library(Path(__file__) / "no folder")

SAMPLE = """{
  "sample_spec": {"input_cost_per_token": "a text"},
  "Acme-Large": {
    "litellm_provider": "acme", "mode": "chat", "max_input_tokens": 64000,
    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06,
    "input_cost_per_token_above_200k_tokens": 6e-06, "output_cost_per_token_above_200k_tokens": 2.25e-05,
    "input_cost_per_token_batches": 1.5e-06, "output_cost_per_token_batches": 7.5e-06,
    "input_cost_per_token_above_200k_tokens_batches": 3e-06, "output_cost_per_token_above_200k_tokens_batches": 1.125e-05,
    "supports_function_calling": true, "supports_vision": false
  },
  "acme/steps": {
    "mode": "chat", "output_cost_per_token": 1e-06,
    "tiered_pricing": [
      {"range": [0, 256000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
      {"range": [256000.0, 1000000.0], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}]
  },
  "bedrock/odd": {"litellm_provider": "bedrock_converse", "input_cost_per_token": 1.5e-13, "output_cost_per_token": 0},
  "claude-sonnet-4-5": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
  "drawer": {"mode": "image_generation", "input_cost_per_token": 1e-06}
}"""


@pytest.fixture
def sample(tmp_path: Path) -> PriceFile:
    path = tmp_path / "prices.json"
    path.write_text(SAMPLE)
    return read_price_file(path)


def found(prices: PriceList | None, usage: Usage, tier: str = "standard") -> int | None:
    total = cost(usage, prices, NOW, tier)
    return total and total.picodollars


@pytest.mark.parametrize(
    ("model_id", "usage", "tier", "picodollars"),
    [
        ("acme-large", Usage(100, 10), "standard", 450_000_000),
        ("ACME/acme-large", Usage(100, 10), "standard", 450_000_000),
        ("acme-large", Usage(100, 0, cached=100), "standard", 30_000_000),
        ("acme-large", Usage(100, 0, write_5m=50, write_1h=50), "standard", 487_500_000),
        ("acme-large", Usage(200_000, 0), "standard", 600_000_000_000),
        ("acme-large", Usage(200_001, 0), "standard", 1_200_006_000_000),
        ("acme-large", Usage(200_001, 0), "batch", 600_003_000_000),
        ("acme-large", Usage(100, 0, cached=100), "batch", 30_000_000),
        ("acme/steps", Usage(256_000, 0), "standard", 12_800_000_000),
        ("acme/steps", Usage(256_001, 1), "standard", 64_002_250_000),
        ("odd", Usage(1, 0), "standard", None),  # under its provider only
        ("drawer", Usage(1, 0), "standard", None),
        ("sample_spec", Usage(1, 0), "standard", None),
    ],
)
def test_litellm_prices(sample: PriceFile, model_id: str, usage: Usage, tier: str, picodollars: int | None) -> None:
    assert found(sample.find(model_id), usage, tier) == picodollars


def test_litellm_facts(sample: PriceFile) -> None:
    large, odd = sample.find("acme-large"), sample.find("odd", "aws")
    assert large
    assert (large.context, large.can, large.exact, large.provider) == (64_000, {"tools", "json"}, True, "acme")
    assert odd
    assert (odd.prices[0].input, odd.can, odd.exact, odd.provider) == (0, None, False, "aws")
    assert sample.find("acme-large", "somebody-else") is None
    assert sample.find("claude-sonnet-4-5", "anthropic") is not None  # an entry without a provider is anybody's


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xff", "is not JSON"),
        (b"[]", "is no price map"),
        (b'{"a": 1}', "is no price map"),
        (b'{"a": {"input_cost_per_token": "cheap"}}', "is no price: cheap"),
        (b'{"a": {"input_cost_per_token": -1e-6}}', "is no price"),
        (b'{"a": {"input_cost_per_token": NaN}}', "is no price"),
        (b'{"a": {"input_cost_per_token": 1e99999}}', "is no price"),
        (b'{"a": {"output_cost_per_token_batches": true}}', "is no price"),
        (gzip.compress(SAMPLE.encode(), mtime=0)[:-30], "can't read"),
        (b"\x1f\x8b\x08\x00 broken", "can't read"),
    ],
)
def test_a_bad_price_file_says_so(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(PriceFileError, match=message) as caught:
        read_price_file(path)
    assert caught.value.help


def test_a_missing_price_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"can't read the price file `none\.json`"):
        read_price_file(tmp_path / "none.json")


def test_plain_and_gzip_are_one_file(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_text(SAMPLE)
    packed.write_bytes(gzip.compress(SAMPLE.encode(), mtime=0))
    assert read_price_file(plain) == read_price_file(packed)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_the_library_agrees_with_litellm() -> None:
    """Input, output and cached rates of today, standard tier: a change of either side shows in the counts."""
    prices = read_price_file(SHARED / "data/prices/litellm_trimmed_chat_7_providers.json")
    agree = differ = 0
    for key, entry in prices.entries.items():
        theirs, ours = prices.find(key), LIBRARY.find(key, str(entry["litellm_provider"]))
        usage = Usage(1000, 1000)
        if entry["litellm_provider"] in ("openai", "anthropic") and theirs and ours and found(ours, usage) is not None:
            same = found(theirs, usage) == found(ours, usage)
            agree, differ = agree + same, differ + (not same)
    assert agree > 50
    assert differ <= agree // 20, (agree, differ)
