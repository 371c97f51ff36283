"""What an analysis finds: a diagnostic, with the requests that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policyroute.language.diagnostics import Diagnostic
from policyroute.language.policy import Expression, Value


@dataclass(frozen=True, slots=True)
class Finding:
    """`region` is the condition of the requests concerned, to be counted in a trace; `values` is one of them; both where there are any."""

    diagnostic: Diagnostic
    region: Expression | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
