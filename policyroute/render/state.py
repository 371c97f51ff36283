"""What sticky, quotas and budgets did in a replay: for a terminal, for Markdown, for the page. Figures are taken from the result."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyroute.render.sentences import Json, count, usd

MOST = 8  # lines in a terminal


def state(result: Json, console: Console) -> None:
    """Print what acted, and what never did."""
    found = result.get("state")
    if not found:
        return
    if found["acted"]:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("[not dim bold]By state[/]", overflow="fold")
        for column in ("changed", "moved", "refused", "users", "by the rules", "as it is", "difference"):
            table.add_column(column, justify="right", no_wrap=True)
        for line in found["acted"][:MOST]:
            table.add_row(escape(named(line)), *cells(line))
        console.print()
        console.print(table)
    for line in notes(found):
        console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def named(line: Json) -> str:
    """What acted, one or several together."""
    return ", then ".join(line["by"])


def cells(line: Json) -> list[str]:
    """A line's figures as text: changed decisions, moved and refused requests, users, dollars."""
    money = [usd(line[key]) for key in ("rules_usd", "routed_usd")]
    users = "-" if line["users"] is None else f"{line['users']:,}"
    return [
        f"{line['rows']:,}",
        f"{line['moved']:,}",
        f"{line['refused']:,}",
        users,
        *money,
        usd(line["difference_usd"], signed=True),
    ]


def notes(found: Json) -> Iterator[str]:
    """What never acted, and which requests state could not follow."""
    if found["idle"]:
        yield f"never acted on these requests: {', '.join(found['idle'])}"
    if found["not_replayable"]:
        told = count(found["not_replayable"], "request")
        yield f"{told} depend on what the trace doesn't tell of a limit or a conversation, and are not replayed"
    if found["outside"]:
        yield f"{count(found['outside'], 'request')} leave no state behind: refused by a rule, not replayable, or without a time"
