"""Writes the generated parts of docs/: the tables of language.md between their markers, and codes.md.

    python scripts/build_docs.py [--check]

With --check nothing is written; the exit code is 1 where a page is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from policyroute.language.manual import codes_markdown, operators_markdown, signals_markdown  # noqa: E402
from policyroute.proxy.metric_rows import markdown as metrics_markdown  # noqa: E402
from policyroute.proxy.providers import markdown as providers_markdown  # noqa: E402

DOCS = ROOT / "docs"
TABLES = {
    "signals": signals_markdown,
    "operators": operators_markdown,
    "metrics": metrics_markdown,
    "providers": providers_markdown,
}
_BLOCK = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.DOTALL)

CODES_HEAD = """# Codes

What `policyroute check` can find, one section per code; `policyroute explain PR101` prints the same. A code is never given another meaning.
This page is written by `scripts/build_docs.py` from `policyroute/language/codes.py`.

"""


def filled(page: str) -> str:
    """A page with its tables written anew. Raises KeyError for a marker that names no table."""
    return _BLOCK.sub(lambda found: f"<!-- generated: {found[1]} -->\n\n{TABLES[found[1]]()}\n<!-- end -->", page)


def pages() -> dict[Path, str]:
    """What each page with generated parts should hold."""
    tabled = (DOCS / "language.md", DOCS / "observability.md", DOCS / "serve.md")
    return {page: filled(page.read_text("utf-8")) for page in tabled} | {DOCS / "codes.md": CODES_HEAD + codes_markdown()}


def main() -> int:
    """Write the pages, or with --check compare them; the exit code."""
    stale = {path: text for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        sys.stderr.write(f"{path.relative_to(ROOT)} {'is out of date' if '--check' in sys.argv else 'written'}\n")
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
