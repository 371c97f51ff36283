"""Makes README.md, docs/tour.md, docs/simulate.md, docs/architecture.md, docs/commands.md and the picture current.

    python scripts/build_readme.py [--check]

Runs every `console` block of those pages and writes down what it prints, writes the help of all commands, draws the
picture, and quotes the tables of benchmarks/results. With --check nothing is written; the exit code is 1 where something is out of
date. The reference pages language.md and codes.md are made by scripts/build_docs.py.
"""

from __future__ import annotations

import html
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from console import Workplace, rerun  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from policyroute.cli import COMMANDS  # noqa: E402
from policyroute.render.simulation import simulation  # noqa: E402

ELSEWHERE = {"language.md", "codes.md"}
COMMANDS_PAGE, PICTURE = ROOT / "docs" / "commands.md", ROOT / "docs" / "img" / "simulate.svg"
RESULTS = ROOT / "benchmarks" / "results"
SHOWN = "policyroute simulate traces/support.parquet"
WIDTH = 104
UNTIL = "From model to model"  # the picture ends before this heading
_MARK = re.compile(r"<!-- generated: benchmarks -->\n.*?<!-- end -->", re.DOTALL)
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # rich's, fetched from a host that a page may not reach


def sources() -> list[Path]:
    """The pages that are written by hand, with blocks that are run."""
    return [
        ROOT / "README.md",
        *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in ELSEWHERE and p != COMMANDS_PAGE),
    ]


def current(path: Path, cache: Path) -> str:
    """What the page at `path` should hold."""
    page = path.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = rerun(page, Workplace(Path(folder), cache))
    return _MARK.sub(lambda _: f"<!-- generated: benchmarks -->\n\n{benchmarks()}\n<!-- end -->", page)


def commands_page(cache: Path) -> str:
    """The help of every command."""
    text = "# Commands\n\nWhat `--help` prints. This page is written by `scripts/build_readme.py`.\n\n```console\n$ policyroute --help\n```\n"
    text += "".join(f"\n## {name}\n\n```console\n$ policyroute {name} --help\n```\n" for name in COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        return rerun(text, Workplace(Path(folder), cache))


def benchmarks() -> str:
    """The lines of benchmarks/results for which a goal is set, one table per file."""
    results = sorted(RESULTS.glob("*.json")) if RESULTS.is_dir() else []
    return "\n".join(_benchmark(json.loads(path.read_text("utf-8"))) for path in results) or "No results are kept yet.\n"


def _benchmark(found: dict[str, Any]) -> str:
    lines = [f"`python benchmarks/{found['name']}.py`, on {found['cores']} cores, {found['system']}, Python {found['python']}:", ""]
    lines += ["| what | measured | ours is faster by | goal | |", "|---|---:|---:|---:|---|"]
    lines += [_measured(row) for row in found["rows"] if row["claim"] is not None]
    return "".join(f"{line}\n" for line in lines)


def _measured(row: dict[str, Any]) -> str:
    value = f"not measured: {row['note']}" if row["value"] is None else f"{_three(row['value'])} {row['unit']}".strip()
    ratio = "" if row["ratio"] is None else f"{_three(row['ratio'])}×"
    goal = f"{'≤' if row['at_most'] else '≥'} {row['claim']:,g}{'×' if row['ratio'] is not None else ' ' + row['unit']}"
    held = {True: "reached", False: "**missed**", None: ""}[row["holds"]]
    return f"| {row['what']} | {value} | {ratio} | {goal} | {held} |"


def _three(number: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def picture(cache: Path) -> str:
    """The first part of a simulation's report as it looks in a terminal, as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        result = json.loads(Workplace(Path(folder), cache).run(f"{SHOWN} --json"))
    whole = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    simulation(result, whole)
    lines = whole.export_text(styles=True).split("\n")
    end = next(number for number, line in enumerate(lines) if UNTIL in line)
    part = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    part.print(Text.from_ansi("\n".join(lines[:end]).rstrip()))
    drawn = _FONT_FACE.sub("", part.export_svg(title=f"$ {SHOWN}", unique_id="policyroute"))
    drawn = drawn.replace("font-family: Fira Code,", "font-family: Menlo, Consolas, DejaVu Sans Mono,")
    return drawn.replace("font-family: arial;", "font-family: arial, sans-serif;")


def picture_text(svg: str) -> list[str]:
    """The text in a picture, piece by piece."""
    return [html.unescape(piece).replace("\xa0", " ").rstrip() for piece in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)]


def stale(cache: Path) -> dict[Path, str]:
    """What is out of date, with what it should hold."""
    wanted = {path: current(path, cache) for path in sources()} | {COMMANDS_PAGE: commands_page(cache)}
    found = {path: text for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text}
    drawn = picture(cache)
    if not PICTURE.is_file() or picture_text(PICTURE.read_text("utf-8")) != picture_text(drawn):
        found[PICTURE] = drawn
    return found


def main() -> int:
    """Write what is out of date, or with --check name it; the exit code."""
    check = "--check" in sys.argv
    with tempfile.TemporaryDirectory() as cache:
        found = stale(Path(cache))
    for path, text in found.items():
        sys.stderr.write(f"{path.relative_to(ROOT)} {'is out of date' if check else 'written'}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return 1 if found and check else 0


if __name__ == "__main__":
    sys.exit(main())
