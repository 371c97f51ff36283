"""One loaded policy with everything that serving it needs. Immutable: a reload makes a new one and swaps it in whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from policyroute.backends.live import Live, compile_policy
from policyroute.language import syntax
from policyroute.language.decision import Decision
from policyroute.language.diagnostics import Diagnostic, PolicyError, Severity
from policyroute.language.load import check_file
from policyroute.language.parser import parse
from policyroute.language.policy import Chain, Policy, Rule
from policyroute.language.reach import above
from policyroute.language.source import Source
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.prices.litellm import PriceFileError
from policyroute.prices.price import PriceList
from policyroute.proxy.convert import available
from policyroute.proxy.convert.findings import Finding, findings
from policyroute.proxy.key_file import exposed
from policyroute.proxy.keys import Keys, KeysError, load_keys
from policyroute.proxy.providers import Endpoint, EndpointError, endpoint_of
from policyroute.proxy.settings import ServeError, Settings
from policyroute.signals.request import Api
from policyroute.signals.values import Reader, Values

APIS: tuple[Api, ...] = ("chat", "responses", "messages")
UNDECIDED = ("sticky", "quota", "budget", "escalate", "classifier")  # constructs whose effect isn't computed yet


@dataclass(frozen=True)
class Deciding:
    """A policy that decides: its compiled function, its reader of requests, its models' prices."""

    policy: Policy
    live: Live
    reader: Reader
    prices: Mapping[str, PriceList]

    def decide(self, values: Values) -> Decision:
        """The decision for a request's values."""
        return self.live.decide(values)

    def allows(self, model: str, values: Values) -> bool:
        """Whether no limit keeps `model` from this request."""
        return not self.live.blocked[model](values)

    def tier(self, decision: Decision) -> str:
        """The tier that the deciding rule names, "" where it names none."""
        routes = self._rules[decision.rule].routes
        return routes[max(decision.arm, 0)].tier if routes else ""

    def above(self, chain: Chain, values: Values) -> Chain:
        """Models of the tiers above the chain's, as far as limits allow them."""
        return tuple(model for model in above(self.policy, chain) if self.allows(model, values))

    @cached_property
    def _rules(self) -> dict[str, Rule]:
        return {rule.name: rule for rule in self.policy.rules}


@dataclass(frozen=True)
class Service:
    """What is served: the deciding policy, the shadow beside it, endpoints by model, keys; `sources` are the policy's texts."""

    deciding: Deciding
    shadow: Deciding | None
    endpoints: Mapping[str, Endpoint]
    apis: tuple[Api, ...]
    keys: Keys | None
    catalog: Catalog
    sources: tuple[Source, ...]
    findings: tuple[Finding, ...]

    @property
    def policy(self) -> Policy:
        """The served policy."""
        return self.deciding.policy

    def watched(self, settings: Settings) -> list[Path]:
        """The files whose change asks for a reload."""
        named = [settings.policy, settings.keys, settings.prices, settings.shadow]
        used = [Path(source.name) for source in self.sources]
        return list(dict.fromkeys(path for path in (*named, *used, *_word_files(self.sources)) if path is not None))


def load_service(settings: Settings, environ: Mapping[str, str]) -> Service:
    """Read, check and compile everything. Raises PolicyError for a policy with errors, ServeError for all else."""
    catalog = _catalog(settings)
    deciding, sources, warnings = _deciding(settings.policy, settings.without, catalog)
    shadow = _deciding(settings.shadow, settings.without, catalog)[0] if settings.shadow else None
    policy = deciding.policy
    try:
        endpoints = {name: endpoint_of(model, environ) for name, model in policy.models.items()}
    except EndpointError as error:
        raise ServeError(error.message, error.help) from None
    reached = {name: endpoint.apis for name, endpoint in endpoints.items()}
    apis = tuple(api for api in APIS if (api in settings.apis if settings.apis else _serves(api, reached)))
    if not apis:
        raise ServeError(
            "no API reaches every model of the policy",
            "install the extra `convert`, or name one: `--api chat` serves it, and passes over the models that it can't reach",
        )
    asked = tuple(api for api in APIS if not settings.apis or api in settings.apis)
    return Service(
        deciding, shadow, endpoints, apis, _keys(settings, policy), catalog, sources,
        (*warnings, *_exposed(settings.keys), *_without_credential(endpoints), *findings(policy, reached, asked)),
    )  # fmt: skip


def _exposed(keys: Path | None) -> Iterator[Finding]:
    others = exposed(keys) if keys is not None else ""
    if others:
        yield Finding("keys-exposed", f"others on this machine may {others} `{keys}`", f"`chmod 600 {keys}`")


def _without_credential(endpoints: Mapping[str, Endpoint]) -> Iterator[Finding]:
    for variable in dict.fromkeys(endpoint.missing for endpoint in endpoints.values() if endpoint.missing):
        models = ", ".join(f"`{name}`" for name, endpoint in endpoints.items() if endpoint.missing == variable)
        yield Finding("credential-missing", f"there is no credential for {models}", f"set `{variable}` in the environment")


def _serves(api: Api, reached: Mapping[str, frozenset[str]]) -> bool:
    return all(api in apis or (available() and apis & set(APIS)) for apis in reached.values())


def _deciding(path: Path, without: tuple[str, ...], catalog: Catalog) -> tuple[Deciding, tuple[Source, ...], tuple[Finding, ...]]:
    try:
        checked = check_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise ServeError(f"`{path}` can't be read: {reason}", "a policy is a UTF-8 text file") from None
    if checked.failed:
        raise PolicyError(checked.diagnostics, checked.sources)
    _refuse_undecided(checked.policy, without)
    policy, unpriced = complete(checked.policy, catalog)
    notes = tuple(_noted(one) for one in (*checked.diagnostics, *unpriced) if one.severity is not Severity.INFO)
    return Deciding(policy, compile_policy(policy, bounds=True), Reader(policy), catalog.for_policy(policy)), checked.sources, notes


def _noted(diagnostic: Diagnostic) -> Finding:
    return Finding(diagnostic.code, diagnostic.message, diagnostic.help)


def _refuse_undecided(policy: Policy, without: tuple[str, ...]) -> None:
    undecided = [construct for construct in policy.constructs if construct.kind in UNDECIDED]
    titles = [construct.title for construct in undecided]
    for name in without:
        if name not in UNDECIDED and name not in titles:
            raise ServeError(f"there is no `{name}` to leave out", f"`--without` takes {', '.join((*UNDECIDED, *titles))}")
    left = [construct for construct in undecided if construct.kind not in without and construct.title not in without]
    if left:
        named = ", ".join(f"`{construct.title}`" for construct in left)
        kinds = ",".join(dict.fromkeys(construct.kind for construct in left))
        raise ServeError(
            f"this version doesn't apply {named}, and won't serve a policy as if it did",
            f"`--without {kinds}` serves it as if it had none of them; a classifier then has its `on failure` member",
        )


def _catalog(settings: Settings) -> Catalog:
    try:
        return load_catalog(settings.prices)
    except PriceFileError as error:
        raise ServeError(str(error), "the price file is a LiteLLM map in JSON") from None


def _keys(settings: Settings, policy: Policy) -> Keys | None:
    if settings.keys is None:
        return None
    try:
        return load_keys(settings.keys, policy)
    except KeysError as error:
        raise ServeError(error.message, error.help) from None


def _word_files(sources: tuple[Source, ...]) -> Iterator[Path]:
    for number, source in enumerate(sources):
        for node in parse(source, number)[0]:
            if isinstance(node, syntax.Words) and node.path is not None:
                yield Path(source.name).parent / node.path.value
