"""`policyroute vocabulary`: the signals and operators that every policy has."""

from __future__ import annotations

import json

import click

from policyroute.language.policy import EnumType, IntType, Type
from policyroute.language.vocabulary import OPERATORS, SIGNALS


@click.command(name="vocabulary")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(as_json: bool) -> None:
    """List the built-in signals and operators, from the table that every part of policyroute reads."""
    if as_json:
        rows = [
            {"signal": row.name, "type": _type(row.type), "default": row.default, "meaning": row.doc, "example": row.example}
            for row in SIGNALS.values()
        ]
        operators = [{"operator": row.name, "meaning": row.doc, "example": row.example} for row in OPERATORS.values()]
        click.echo(json.dumps({"signals": rows, "operators": operators}, ensure_ascii=False, indent=2))
        return
    click.secho("Signals", bold=True)
    for row in SIGNALS.values():
        click.echo(f"  {row.name:<13} {_type(row.type):<18} {row.doc}\n  {'':<32} {click.style(row.example, dim=True)}")
    click.secho("Operators", bold=True)
    for operator in OPERATORS.values():
        click.echo(f"  {operator.name:<13} {operator.doc:<18} {click.style(operator.example, dim=True)}")


def _type(type_: Type) -> str:
    match type_:
        case IntType(low, high):
            return f"int {low}..{high}"
        case EnumType(open=True):
            return "open enum"
        case EnumType(members=members):
            return " | ".join(members) if len(members) < 4 else f"{members[0]} .. {members[-1]}"
        case _:
            return type(type_).__name__.removesuffix("Type").lower()
