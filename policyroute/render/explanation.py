"""What a policy says of a request, for a terminal: the decision, the rules in order, the models with their costs.

Every figure is taken from the value. Names, conditions and values may hold what rich takes for markup: they are escaped.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyroute.language.wording import value_text
from policyroute.render.sentences import count

Json = dict[str, Any]
APIS = {"chat": "Chat Completions", "responses": "Responses", "messages": "Messages"}


def explanation(found: Json, console: Console) -> None:
    """Print the whole explanation."""
    console.print(
        f"[bold]{escape(found['request'])}[/] to {APIS[found['api']]}, {_time(found['at'])}, under {escape(found['policy'])}",
        soft_wrap=True,
    )
    console.print(f"[bold]Decided[/]  {_decision(found['decision'])}", soft_wrap=True)
    _rules(found, console)
    _models(found, console)
    console.print(f"\n[bold]Seen[/]  {escape(', '.join(_signals(found['signals'])))}", soft_wrap=True)
    for note in _notes(found):
        console.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)


def _time(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC" if at.endswith("+00:00") else at


def _decision(decision: Json) -> str:
    rule = f"[bold green]{escape(decision['rule'])}[/]"
    if not decision["chain"]:
        return f'{rule} → [red]refused[/] "{escape(decision["refused"] or "")}"'
    asides = [f"tier {decision['tier']}"] if decision["tier"] else []
    asides += [f"arm {decision['arm'] + 1}"] if decision["arm"] is not None else []
    asides += ["explored: another model first"] if decision["explored"] else []
    return f"{rule} → {escape(', '.join(decision['chain']))}" + (f" [dim]({escape('; '.join(asides))})[/]" if asides else "")


def _rules(found: Json, console: Console) -> None:
    table = _table("Rules", ("", "left"), ("rule", "left"), ("what did not hold", "left"))
    for rule in found["tried"]:
        mark = "[green]✓[/]" if rule["takes"] else "[dim]·[/]"
        name = escape(rule["rule"]) + (" [dim](shadow)[/]" if rule["shadow"] else "")
        shadow = "it would take the request" if rule["shadow"] else "it takes the request"
        table.add_row(mark, name, f"[green]{shadow}[/]" if rule["takes"] else escape("\n".join(rule["why_not"])))
    console.print(table)
    if found["below"]:
        console.print(f"  [dim]{count(len(found['below']), 'rule')} below: {escape(', '.join(found['below']))}[/]", soft_wrap=True)


def _models(found: Json, console: Console) -> None:
    """The chain first, in its order; a model that the request can't reach says why."""
    chain = found["decision"]["chain"]
    gone = {one["model"]: one for one in found["removed"]}
    table = _table("Models", ("", "right"), ("model", "left"), ("at least", "right"), ("at most", "right"), ("why not", "left"))
    for name in [*chain, *(one for one in found["models"] if one not in chain)]:
        model = found["models"][name]
        limit = gone.get(name, {"named": False, "why": "", "by": ""})
        place = str(chain.index(name) + 1) if name in chain else "[red]✗[/]" if limit["named"] else ""
        why = "\n".join(part for part in (limit["why"], limit["by"]) if part)
        costs = (f"${model['cost_usd'][end]}" if model["cost_usd"][end] is not None else "unknown" for end in ("least", "most"))
        table.add_row(place, f"[bold]{escape(name)}[/]" if name in chain else escape(name), *costs, escape(why))
    console.print(table)


def _table(title: str, *columns: tuple[str, Any]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _signals(signals: Json) -> list[str]:
    """What holds of the request; conditions that don't hold are left out."""
    return [name if value is True else f"{name} {value_text(value)}" for name, value in signals.items() if value is not False]


def _notes(found: Json) -> list[str]:
    notes = [f"`{name}` was out of its range: clamped, or its default" for name in found["out_of_range"]]
    asked = [title for title in found["left_out"] if title.startswith("classifier ")]
    others = [title for title in found["left_out"] if title not in asked]
    if others:
        notes.append(f"one request doesn't tell what {', '.join(f'`{title}`' for title in others)} would do")
    if asked:
        notes.append(f"{', '.join(f'`{title}`' for title in asked)} is not asked: the answer is taken to be that of a failure")
    return notes
