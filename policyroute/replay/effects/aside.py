"""Calls beside the answer: classifiers that are asked, and first answers that were too weak and were asked again one tier up.

- What the trace records of them (a gateway's journal: `classifier_cost_usd`, `escalated_from`, `escalated_cost_usd`) was paid under the
  recorded models, and is part of the baseline `recorded`.
- Under the policy, a classifier is asked where evaluation reaches it. Its call costs what was recorded, else at most: its prompt and what it
  is shown as input (the last user message, else the whole request), and a few tokens of answer.
- An answer is weak where the trace records that the model which the policy decides on gave a weak one. Answers that nobody knows are taken to
  be strong, which the report says with their number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from policyroute.backends.sql import RULE, expression, literal, quoted
from policyroute.language.policy import FALSE, TRUE, Apply, Expression, Policy, Read
from policyroute.language.statements import Classifier
from policyroute.signals.tokens import count

FRAMING = 20  # tokens around a classifier's prompt and what it is shown
ANSWERED = 8  # tokens of its answer at most: one word
JOURNAL = ("escalated_from", "escalated_cost_usd", "classifier_cost_usd")


class Aside:
    """The side calls of one policy, as SQL over a ledger's rows. `columns` are the trace's, `names` the signals that it tells."""

    def __init__(self, policy: Policy, columns: Collection[str], names: Collection[str]) -> None:
        self.policy, self.columns, self.names = policy, frozenset(columns), frozenset(names)
        self.asked_now: dict[str, str] = {}  # by classifier, the source's column of what asking it now has cost
        self.escalates = bool(policy.escalations) and "escalated_from" in self.columns
        self.classifiers = tuple(one for one in policy.classifiers.values() if one.name in self.names and one.ask in policy.models)

    def passed(self) -> dict[str, str]:
        """Columns that a row needs of the trace."""
        has = self.columns
        return {
            "$weak": "CAST(escalated_from AS VARCHAR)" if "escalated_from" in has else "CAST(NULL AS VARCHAR)",
            "$first_paid": _picodollars("escalated_cost_usd") if "escalated_cost_usd" in has else "CAST(NULL AS HUGEINT)",
            "$classified_paid": _picodollars("classifier_cost_usd") if "classifier_cost_usd" in has else "CAST(NULL AS HUGEINT)",
            **{f"${column}": f"CAST({quoted(column)} AS HUGEINT)" for column in self.asked_now.values()},
        }

    @property
    def needed(self) -> bool:
        """Whether there is anything beside the answers."""
        return self.escalates or bool(self.classifiers) or not self.columns.isdisjoint(JOURNAL)

    def escalated(self, model: str, tier: str) -> str:
        """Whether the decided model (the SQL of its name) gave a weak answer, in a tier from which weak answers go up."""
        if not self.escalates:
            return "FALSE"
        tiers = ", ".join(literal(name) for name in self.policy.escalates)
        return f'coalesce("$weak" = {model} AND {tier} IN ({tiers}), FALSE)'

    def slots(self) -> Iterator[tuple[str, str, str]]:
        """Of each classifier: the name of its price slot, its model's place in the policy, its input tokens at most."""
        for number, one in enumerate(self.classifiers):
            yield f"ask_{number}", str(list(self.policy.models).index(one.ask)), self._shown(one)

    def _shown(self, one: Classifier) -> str:
        known = [quoted(name) for name in (("last_tokens", "tokens") if one.text == "last" else ("tokens",)) if name in self.names]
        shown = f"coalesce({', '.join(known)})" if len(known) > 1 else known[0] if known else "CAST(NULL AS BIGINT)"
        return f"({shown} + {count(one.prompt) + FRAMING})"

    def asked(self, one: Classifier) -> str:
        """Whether evaluation reaches the classifier."""
        found = []
        for number, rule in enumerate(self.policy.rules):
            condition = asks(rule.condition, one.name)
            if condition != FALSE:
                here = "TRUE" if condition == TRUE else f"coalesce({expression(condition)}, TRUE)"
                found.append(f"({RULE} >= {number} AND {here})")
        return f"({' OR '.join(found)})" if found else "FALSE"

    def before(self) -> str:
        """What was paid beside the recorded answer, in picodollars."""
        weak = 'CASE WHEN "$weak" IS NULL THEN 0 ELSE "$first_paid" END'
        return f'(coalesce("$classified_paid", 0) + {weak})'

    def after(self, costs: dict[str, str]) -> str:
        """What is paid beside the policy's answer, in picodollars, NULL where that isn't known; `costs` has each classifier's slot's cost."""
        calls = [
            f"CASE WHEN {self.asked(one)} THEN coalesce({', '.join(self._known(one))}, {costs[name]}) ELSE 0 END"
            for one, (name, _, _) in zip(self.classifiers, self.slots(), strict=True)
        ]
        weak = 'CASE WHEN "$escalated" THEN "$first_paid" ELSE 0 END'
        return f"({' + '.join([*calls, weak])})"

    def _known(self, one: Classifier) -> list[str]:
        """What asking the classifier is known to have cost, recorded or now."""
        now = self.asked_now.get(one.name)
        return ['"$classified_paid"', *([quoted(f"${now}")] if now else [])]


def asks(condition: Expression, name: str) -> Expression:
    """The condition under which evaluation of `condition`, from left to right, comes to read `name`."""
    match condition:
        case Read(signal):
            return TRUE if signal == name else FALSE
        case Apply("and" | "or" as operator, arguments):
            found: list[Expression] = []
            for place, argument in enumerate(arguments):
                inner = asks(argument, name)
                if inner != FALSE:
                    before = [a if operator == "and" else Apply("not", (a,)) for a in arguments[:place]]
                    found.append(_all([*before, inner]))
            return FALSE if not found else found[0] if len(found) == 1 else Apply("or", tuple(found))
        case Apply(_, arguments):
            return TRUE if any(asks(argument, name) != FALSE for argument in arguments) else FALSE
        case _:
            return FALSE


def _all(conditions: list[Expression]) -> Expression:
    kept = tuple(condition for condition in conditions if condition != TRUE)
    return TRUE if not kept else kept[0] if len(kept) == 1 else Apply("and", kept)


def _picodollars(column: str) -> str:
    return f"CAST(TRY_CAST({column} AS DECIMAL(24,12)) * 1000000000000 AS HUGEINT)"
