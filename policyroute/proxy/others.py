"""What the gateway answers beside model calls: dry run, models, token counts, feedback, stored responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from policyroute.proxy import headers as heads
from policyroute.proxy.calls import Calls
from policyroute.proxy.explain import explanation
from policyroute.proxy.feedback import FeedbackError, feedback, kept
from policyroute.proxy.keys import facts_of
from policyroute.proxy.outgoing import Incoming
from policyroute.proxy.passing import counted, forwarded
from policyroute.proxy.refusal import JSON, Answer, Refusal
from policyroute.proxy.upstream.transport import UpstreamFailed
from policyroute.proxy.wire.models import listed, one_listed
from policyroute.proxy.wire.surface import SURFACES

Environ = dict[str, Any]

DRY_RUN, COUNT_TOKENS, MODELS, FEEDBACK = "/v1/route", "/v1/messages/count_tokens", "/v1/models", "/v1/feedback"


class Others:
    """Serves the other paths of a gateway; who calls and what is sent is read by `calls`."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.gateway = calls, calls.gateway

    def other(self, method: str, path: str, environ: Environ) -> Answer | None:
        """Dry run, models, token counts, stored responses; None for a path that nobody knows. Raises Refusal."""
        found = heads.of_environ(environ)
        service = self.gateway.service
        if path in (DRY_RUN, COUNT_TOKENS, FEEDBACK) and method != "POST":
            raise Refusal(405, f"`{path}` takes POST", "method_not_allowed")
        if path == DRY_RUN:
            return self._dry_run(environ, found)
        if path == FEEDBACK:
            return self._feedback(environ, found)
        if path == COUNT_TOKENS:
            return self._count_tokens(environ, found)
        if path == MODELS and method in ("GET", "HEAD"):
            self.calls.caller(environ, found)
            return 200, [JSON], listed(service.policy, anthropic="anthropic-version" in found)
        if path.startswith(f"{MODELS}/") and method in ("GET", "HEAD"):
            self.calls.caller(environ, found)
            body = one_listed(service.policy, path.removeprefix(f"{MODELS}/"), anthropic="anthropic-version" in found)
            if body is None:
                raise Refusal(404, "the policy declares no such model", "model_not_found")
            return 200, [JSON], body
        if path.startswith(f"{SURFACES['responses'].path}/"):
            return self._stored(method, path, environ, found)
        return None

    def _stored(self, method: str, path: str, environ: Environ, found: Mapping[str, str]) -> Answer:
        """What the Responses API offers beside the call itself (stored responses, compaction): for the one provider that has it."""
        caller = self.calls.caller(environ, found)
        if caller.models is not None:
            raise Refusal(403, "a key that is limited to models can't reach stored responses", "model_not_permitted")
        service = self.gateway.service
        able = {endpoint.base_url: endpoint for endpoint in service.endpoints.values() if "responses" in endpoint.apis}
        if len(able) != 1:
            many = "several providers" if able else "no provider"
            raise Refusal(404, f"{many} of the policy could keep this response", "not_found")
        body = self.calls.read(environ) if method == "POST" else b""
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        (endpoint,) = able.values()
        try:
            return forwarded(self.gateway.means, endpoint, method, path.removeprefix("/v1") + query, found, body, 60.0)
        except UpstreamFailed as error:
            raise Refusal(503, f"the provider could not be reached: {error.cause}", "no_upstream", [("retry-after", "1")]) from None

    def _dry_run(self, environ: Environ, found: Mapping[str, str]) -> Answer:
        caller = self.calls.caller(environ, found)
        _, fields = self.calls.body(environ)
        service, at = self.gateway.service, datetime.now(UTC)
        values = service.deciding.reader(facts_of(fields, found, caller, at, service.policy))
        decided = self.gateway.keeping.peek(service.deciding, service.deciding.decide(values), values, at)
        return 200, [JSON], json.dumps(explanation(service.deciding, service.sources, values, decided, at)).encode()

    def _feedback(self, environ: Environ, found: Mapping[str, str]) -> Answer:
        caller = self.calls.caller(environ, found)
        _, fields = self.calls.body(environ)
        gateway = self.gateway
        try:
            told = feedback(fields)
            if told.rating is not None:
                if gateway.journal is None:
                    raise Refusal(400, "no journal is kept, to which a rating could belong", "no_journal")
                kept(gateway.journal.folder, told, caller.name)
        except FeedbackError as error:
            raise Refusal(400, str(error), "invalid_feedback") from None
        except OSError as error:
            raise Refusal(503, f"the rating can't be kept: {(error.strerror or str(error)).lower()}", "not_kept") from None
        escalated = told.escalate and gateway.service.wishes and gateway.keeping.wish(told.conversation, datetime.now(UTC))
        return (
            200,
            [JSON],
            json.dumps({"decision_id": told.decision, "rated": told.rating is not None, "escalated": escalated}).encode(),
        )

    def _count_tokens(self, environ: Environ, found: Mapping[str, str]) -> Answer:
        """By the provider where the decided model speaks the API itself, else our own count, which is called an estimate."""
        caller = self.calls.caller(environ, found)
        body, fields = self.calls.body(environ)
        service, at = self.gateway.service, datetime.now(UTC)
        values = service.deciding.reader(facts_of(fields, found, caller, at, service.policy))
        decision = self.gateway.keeping.peek(service.deciding, service.deciding.decide(values), values, at).decision
        model = decision.chain[0] if decision.chain else ""
        if model and service.endpoints[model].counts_tokens:
            query = environ.get("QUERY_STRING", "")
            incoming = Incoming(SURFACES["messages"], fields, body, found, query, caller, self.gateway.means.clock())
            answer = counted(self.gateway.means, service, incoming, model)
            if answer is not None:
                return 200, [JSON], answer
        tokens = getattr(values, service.policy.signals["tokens"].identifier)
        return 200, [JSON, ("x-policyroute-estimate", "o200k")], json.dumps({"input_tokens": tokens}).encode()
