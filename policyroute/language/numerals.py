"""Tunables' numbers in a policy's text: where they stand, and the text with others in their place.

Nothing but the numerals is touched. A text that was in the house's layout stays in it: where a number became longer or shorter,
the padding before comments at line ends follows.
"""

from __future__ import annotations

from collections.abc import Mapping

from policyroute.language import syntax
from policyroute.language.diagnostics import PolicyError
from policyroute.language.formatter import format_source
from policyroute.language.manual import number_text
from policyroute.language.parser import parse
from policyroute.language.source import Source, Span


def numerals(source: Source) -> dict[str, Span]:
    """The place of each tunable's value in `source`, by name. Raises `PolicyError` where the text doesn't parse."""
    declarations, diagnostics = parse(source, 0)
    if diagnostics:
        raise PolicyError(diagnostics, [source])
    return {node.name.value: node.value.span for node in declarations if isinstance(node, syntax.Tunable)}


def renumbered(source: Source, values: Mapping[str, int]) -> str:
    """The text of `source` with these values of the tunables that it declares; names that it doesn't declare are left alone."""
    text = source.text
    places = {name: span for name, span in numerals(source).items() if name in values}
    for name, span in sorted(places.items(), key=lambda item: item[1].start, reverse=True):
        text = f"{text[: span.start]}{number_text(values[name])}{text[span.end :]}"
    return format_source(Source(source.name, text)) if format_source(source) == source.text else text
