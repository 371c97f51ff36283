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
from policyroute.language.limits import read_signals
from policyroute.language.load import check_file
from policyroute.language.parser import parse
from policyroute.language.policy import Chain, Policy, Rule
from policyroute.language.reach import above
from policyroute.language.source import Source
from policyroute.language.without import without
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.prices.litellm import PriceFileError
from policyroute.prices.price import PriceList
from policyroute.proxy.classifier import Classifiers
from policyroute.proxy.classifier.memory import Memory
from policyroute.proxy.convert import available
from policyroute.proxy.convert.findings import Finding, findings
from policyroute.proxy.key_file import exposed
from policyroute.proxy.keys import Keys, KeysError, load_keys
from policyroute.proxy.means import Means
from policyroute.proxy.providers import Endpoint, EndpointError, endpoint_of
from policyroute.proxy.settings import ServeError, Settings
from policyroute.proxy.weak import Weak
from policyroute.signals.request import Api
from policyroute.signals.values import Reader, Values
from policyroute.state.deciding import Stateful
from policyroute.state.transitions import stateful

APIS: tuple[Api, ...] = ("chat", "responses", "messages")
LEFT_OUT = ("sticky", "quota", "budget", "escalate", "classifier")  # constructs that a policy can be served without, by name


@dataclass(frozen=True)
class Deciding:
    """A policy that decides: its compiled function, its reader of requests, its models' prices; `stateful` is what state makes of its
    decisions, None where it has none."""

    policy: Policy
    live: Live
    reader: Reader
    prices: Mapping[str, PriceList]
    stateful: Stateful | None = None

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
    asking: Reader

    @cached_property
    def weak(self) -> Weak:
        """Judges whether answers are weak."""
        return Weak(self.policy)

    @cached_property
    def wishes(self) -> bool:
        """Whether the policy asks if a better answer is wanted (signal `escalated`)."""
        return "escalated" in read_signals(self.policy)

    @property
    def policy(self) -> Policy:
        """The served policy."""
        return self.deciding.policy

    def watched(self, settings: Settings) -> list[Path]:
        """The files whose change asks for a reload."""
        named = [settings.policy, settings.keys, settings.prices, settings.shadow]
        used = [Path(source.name) for source in self.sources]
        return list(dict.fromkeys(path for path in (*named, *used, *_word_files(self.sources)) if path is not None))


def load_service(
    settings: Settings, environ: Mapping[str, str], means: Means | None = None, memory: Memory | None = None
) -> Service:
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
        _asking(deciding, endpoints, means, memory),
    )  # fmt: skip


def _asking(deciding: Deciding, endpoints: Mapping[str, Endpoint], means: Means | None, memory: Memory | None) -> Reader:
    if means is None or not deciding.policy.classifiers:
        return deciding.reader
    return Reader(deciding.policy, Classifiers(deciding.policy, endpoints, deciding.prices, means, memory).classify)


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


def _deciding(path: Path, left_out: tuple[str, ...], catalog: Catalog) -> tuple[Deciding, tuple[Source, ...], tuple[Finding, ...]]:
    try:
        checked = check_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise ServeError(f"`{path}` can't be read: {reason}", "a policy is a UTF-8 text file") from None
    if checked.failed:
        raise PolicyError(checked.diagnostics, checked.sources)
    policy, unpriced = complete(_without(checked.policy, left_out), catalog)
    notes = tuple(_noted(one) for one in (*checked.diagnostics, *unpriced) if one.severity is not Severity.INFO)
    live, prices = compile_policy(policy, bounds=True), catalog.for_policy(policy)
    _unpriced_budget(policy, prices)
    machine = Stateful(live, prices) if stateful(policy) else None
    return Deciding(policy, live, Reader(policy), prices, machine), checked.sources, notes


def _noted(diagnostic: Diagnostic) -> Finding:
    return Finding(diagnostic.code, diagnostic.message, diagnostic.help)


def _without(policy: Policy, names: tuple[str, ...]) -> Policy:
    """The policy without the constructs that are named, by their kind or title. Raises ServeError for a name that it doesn't know."""
    titles = [construct.title for construct in policy.constructs]
    for name in names:
        if name not in LEFT_OUT and name not in titles:
            raise ServeError(f"there is no `{name}` to leave out", f"`--without` takes {', '.join((*LEFT_OUT, *titles))}")
    return without(policy, names)


def _unpriced_budget(policy: Policy, prices: Mapping[str, PriceList]) -> None:
    """A budget can't count what has no price. Raises ServeError."""
    for one in policy.allowances:
        unknown = [model for model in one.of or policy.models if one.kind == "budget" and model not in prices]
        if unknown:
            raise ServeError(
                f"`{one.title}` can't be kept: there is no price of {', '.join(f'`{model}`' for model in unknown)}",
                "state it in the policy: `in $1 out $4`, or give a price file with `--prices`",
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
