"""Rows of cells to columns: neighbouring rows are aligned where the result is a table, and left alone where it isn't.

Cells with the same key begin at the same column. Rows are taken into a table for as long as no line of it grows wider
than the limit and no cell is padded beyond its `slack`; the row that would do so begins the next table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SLACK = 24  # columns


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a row: at least `gap` spaces before it, at most `slack` more."""

    key: str
    text: str
    gap: int = 1
    slack: int = SLACK


Row = tuple[Cell, ...]


def plain(row: Row) -> str:
    """The row without padding."""
    return row[0].text + "".join(" " * cell.gap + cell.text for cell in row[1:])


def tables(rows: Sequence[Row], width: int) -> list[list[str]]:
    """The rows as lines, in as few tables as can be. Keys must come in the same order in all rows."""
    down = _gathered(rows, width)
    up = [table[::-1] for table in reversed(_gathered(rows[::-1], width))]
    # Both ways give the fewest tables; the one with larger tables leaves the odd rows alone.
    return max(down, up, key=lambda found: sum(len(table) ** 2 for table in found))


def _gathered(rows: Sequence[Row], width: int) -> list[list[str]]:
    found: list[_Table] = []
    for row in rows:
        if not (found and found[-1].take(row)):
            found.append(_Table(width, [row], _widened({}, row) or {}))
    return [[_padded(row, table.stops) for row in table.rows] for table in found]


@dataclass(slots=True)
class _Table:
    width: int
    rows: list[Row] = field(default_factory=list)
    stops: dict[str, int] = field(default_factory=dict)  # the column where the cells of a key begin

    def take(self, row: Row) -> bool:
        """Add the row, if the table remains one with it."""
        rows = [*self.rows, row]
        stops, settled = self.stops, False
        changed = [row]
        while not settled:
            settled = True
            for candidate in changed:
                wider = _widened(stops, candidate)
                if wider is not None:
                    stops, settled, changed = wider, False, rows
        if not all(_fits(candidate, stops, self.width) for candidate in changed):
            return False
        self.rows.append(row)
        self.stops = stops
        return True


def _widened(stops: dict[str, int], row: Row) -> dict[str, int] | None:
    """The stops that the row needs, or None where the given ones do."""
    wider, end = dict(stops), len(row[0].text)
    for cell in row[1:]:
        wider[cell.key] = max(wider.get(cell.key, 0), end + cell.gap)
        end = wider[cell.key] + len(cell.text)
    return wider if wider != stops else None


def _fits(row: Row, stops: dict[str, int], width: int) -> bool:
    end = len(row[0].text)
    for cell in row[1:]:
        if stops[cell.key] - end - cell.gap > cell.slack:
            return False
        end = stops[cell.key] + len(cell.text)
    return end <= width


def _padded(row: Row, stops: dict[str, int]) -> str:
    line = row[0].text
    for cell in row[1:]:
        line = line.ljust(stops[cell.key]) + cell.text
    return line
