"""Makes the pictures of the HTML report in docs/img: light from its top, dark from the flow between models.

    python scripts/build_pictures.py

Replays the example trace as README does, writes the report, and has a headless Chromium draw it. The same browser with the
same fonts gives the same bytes; another one may not, so these pictures are made by hand and no test compares them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from console import Workplace  # noqa: E402

IMAGES = ROOT / "docs" / "img"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COMMAND = "policyroute simulate traces/support.parquet --html report.html"
WIDTH, HEIGHT = 1000, 1500
MOST_BYTES = 300_000
DARK = "@media (prefers-color-scheme: dark)"
BELOW = ":is(header, section):has(~ #flows) { display: none; }</style>"  # what stands above the flow between models is left out


def browser() -> str:
    """The first browser that is installed."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"no browser: install one of {', '.join(BROWSERS)}")
    return found


def report(folder: Path) -> str:
    """The report of the example trace."""
    place = Workplace(folder / "place", folder / "cache")
    place.run(COMMAND)
    return (place.folder / "report.html").read_text("utf-8")


def draw(page: str, target: Path, folder: Path) -> None:
    """Draws the first part of a page."""
    source = folder / "page.html"
    source.write_text(page, "utf-8")
    command = [
        browser(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={target}", source.as_uri()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    size = target.stat().st_size
    sys.stderr.write(f"{target.relative_to(ROOT)} written, {size:,} bytes\n")
    if size > MOST_BYTES:
        sys.exit(f"{target.name} is over {MOST_BYTES:,} bytes")


def main() -> None:
    """Both pictures. The dark one is made of a page whose dark colours hold always, so that no setting of the browser matters."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "place").mkdir()
        page = report(folder)
        draw(page, IMAGES / "report-light.png", folder)
        draw(page.replace(DARK, "@media all").replace("</style>", BELOW, 1), IMAGES / "report-dark.png", folder)


if __name__ == "__main__":
    main()
