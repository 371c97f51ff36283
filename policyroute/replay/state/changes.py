"""Decisions as state left them: the rows that it changed, laid over the rules' own decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from policyroute.backends.sql import ARM, CHAIN, EXPLORED, MODEL, PROPENSITY, RULE, Query, literal
from policyroute.language.decision import PARTS
from policyroute.language.policy import Chain, Policy, Refuse, Route, Split
from policyroute.replay.ledger import Ledger
from policyroute.replay.state.follow import Followed, follow
from policyroute.replay.state.rows import Rows
from policyroute.state.transitions import KEPT, OVER, TIER

ACTED, SOURCE, PLACE, RANK, PLAIN_MODEL = '"$acted"', '"$source"', '"$place"', '"$rank"', '"$plain"'


def changes_of(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, columns: Collection[str], sources: Sequence[str], name: str, scratch: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> Changes:  # fmt: skip
    """Follow a ledger's rows, all parts in one; `columns` are the trace's, `name` tells the table of changes from others."""
    table = f'"$changes_{name}"'
    return Changes(ledger.policy, table, follow(connection, Rows(ledger, columns), sources, table, scratch, advance))


@dataclass(frozen=True)
class Changes:
    """The table of changed rows of one policy. Over a decision it adds ACTED (a place in `followed.acted`, -1: unchanged) and PLAIN_MODEL."""

    policy: Policy
    table: str
    followed: Followed

    def over(self, decided: str, query: Query) -> str:
        """The SELECT `decided` with the decisions that state left."""
        replaced = [f"CAST(CASE WHEN c.row IS NULL THEN d.{MODEL} ELSE c.model END AS SMALLINT) AS {MODEL}"]
        if query.full:
            replaced += [
                f"CASE WHEN c.row IS NULL THEN d.{CHAIN} ELSE {self._chain(query)} END AS {CHAIN}",
                f"d.{EXPLORED} AND c.row IS NULL AS {EXPLORED}",
                f"CASE WHEN c.row IS NULL THEN d.{PROPENSITY} ELSE {self._share()} END AS {PROPENSITY}",
            ]
        added = (
            f"d.{MODEL} AS {PLAIN_MODEL}, CAST(coalesce(c.acted, -1) AS INTEGER) AS {ACTED}, "
            f"c.source AS {SOURCE}, c.place AS {PLACE}, c.tier AS {RANK}"
        )
        return (
            f'SELECT d.* REPLACE ({", ".join(replaced)}), {added} FROM ({decided}) d LEFT JOIN {self.table} c ON c.row = d."$row"'
        )

    def refused(self) -> str:
        """Whether a used-up quota or budget refuses the row."""
        places = [str(place) for place, one in enumerate(self.policy.allowances) if isinstance(one.target, Refuse)]
        return f"coalesce({SOURCE} = {OVER} AND {PLACE} IN ({', '.join(places)}), FALSE)" if places else "FALSE"

    def tier(self, otherwise: str) -> str:
        """The name of the tier that the row was given in the end, `otherwise` where state changed nothing."""
        ranks = "[" + ", ".join(map(literal, self.policy.order)) + "]"
        chains = self._by_place(lambda route: literal(route.tier or ",".join(route.chain)), "NULL")
        ranked = f"WHEN {RANK} >= 0 THEN {ranks}[1 + {RANK}] " if self.policy.order else ""
        return f"CASE WHEN {ACTED} < 0 THEN {otherwise} {ranked}WHEN {SOURCE} = {OVER} THEN {chains} ELSE {otherwise} END"

    def acted(self) -> str:
        """What changed the row, joined by commas; NULL where nothing did."""
        names = "[" + ", ".join(literal(",".join(titles)) for titles in self.followed.acted) + "]"
        return f"CASE WHEN {ACTED} >= 0 THEN {names}[1 + {ACTED}] END" if self.followed.acted else "CAST(NULL AS VARCHAR)"

    def names(self, otherwise: str, query: Query, of: Callable[[Route], Chain]) -> str:
        """Usable models of what `of` gives for the route that the row was given in the end, joined by commas."""
        tiers = {n: query.usable_names(of(Route(self.policy.tiers[tier], tier))) for n, tier in self._raised()}
        whens = " ".join(f"WHEN {n} THEN {sql}" for n, sql in tiers.items())
        beyond = self._by_place(lambda route: query.usable_names(of(route)), "''")
        up = f"WHEN {SOURCE} = {TIER} THEN CASE {RANK} {whens} ELSE '' END " if tiers else ""
        return f"CASE WHEN {ACTED} < 0 THEN {otherwise} {up}WHEN {SOURCE} = {OVER} THEN {beyond} ELSE {otherwise} END"

    def _chain(self, query: Query) -> str:
        """The chain of a changed row, read of the joined tables `d` and `c`."""
        tiers = " ".join(f"WHEN {n} THEN {query.usable_names(self.policy.tiers[tier])}" for n, tier in self._raised())
        up = f"CASE c.tier {tiers} END" if tiers else "''"
        beyond = self._by_place(lambda route: query.usable_names(route.chain), "''", "c.place")
        names = "[" + ", ".join(map(literal, self.policy.models)) + "]"
        rest = f"list_filter(string_split(d.{CHAIN}, ','), lambda name: name <> '' AND name <> {names}[1 + c.model])"
        kept = f"concat_ws(',', {names}[1 + c.model], nullif(array_to_string({rest}, ','), ''))"
        return f"CASE c.source WHEN {TIER} THEN {up} WHEN {OVER} THEN {beyond} WHEN {KEPT} THEN {kept} END"

    def _raised(self) -> list[tuple[int, str]]:
        """The tiers that `never downgrade` can hold a request in, by their places."""
        raises = self.policy.sticky is not None and self.policy.sticky.mode == "never downgrade"
        return list(enumerate(self.policy.order)) if raises else []

    def _by_place(self, of: Callable[[Route], str], otherwise: str, place: str = PLACE) -> str:
        whens = " ".join(
            f"WHEN {n} THEN {of(one.target)}" for n, one in enumerate(self.policy.allowances) if isinstance(one.target, Route)
        )
        return f"CASE {place} {whens} ELSE {otherwise} END" if whens else otherwise

    def _share(self) -> str:
        """The probability of the row's arm: what state changed is not explored."""
        shares = [
            f"WHEN d.{RULE} = {number} AND d.{ARM} = {arm} THEN {made.share}"
            for number, rule in enumerate(self.policy.rules)
            if isinstance(rule.target, Split)
            for arm, made in enumerate(rule.target.arms)
        ]
        return f"CAST(CASE {' '.join(shares)} ELSE {PARTS} END AS DOUBLE) / {PARTS}" if shares else "CAST(1 AS DOUBLE)"
