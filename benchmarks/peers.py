"""Peers in an environment of their own: a venv in the user's cache, which is appended to `sys.path`.

The packages that policyroute itself needs are found first, where it is installed; a peer brings what only it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

# Distribution to module.
PEERS = {
    "cel-python": "celpy",
    "common-expression-language": "cel",
    "cedarpy": "cedarpy",
    "hobofan-regorus": "hobofan_regorus",
    "rule-engine": "rule_engine",
    "datalogic-py": "datalogic_py",
    "polars": "polars",
}
QUICK = ("rule-engine", "datalogic-py", "polars")  # what a smoke run installs


class AbsentError(Exception):
    """A peer that can't be installed or imported, with the reason in one line."""


def folder() -> Path:
    """Where the environment is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "policyroute-benchmarks" / f"peers-{sys.version_info.major}.{sys.version_info.minor}"


def module(distribution: str, smoke: bool = False) -> ModuleType:
    """The peer's module, installed at need. Raises AbsentError."""
    if smoke and distribution not in QUICK:
        raise AbsentError("left out of smoke runs")
    place = folder()
    python = place / "bin" / "python" if os.name != "nt" else place / "Scripts" / "python.exe"
    if not python.exists():
        venv.create(place, with_pip=True)
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if packages not in sys.path:
        site.addsitedir(packages)
    name = PEERS[distribution]
    if importlib.util.find_spec(name) is None:
        _install(python, distribution)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AbsentError(f"it can't be imported ({error})") from error


def _install(python: Path, distribution: str) -> None:
    arguments: Sequence[str] = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", distribution)
    found = subprocess.run([python, *arguments], capture_output=True, text=True, check=False)
    if found.returncode:
        lines = [line for line in found.stderr.splitlines() if line.strip()]
        raise AbsentError(f"pip can't install it ({lines[-1][:120] if lines else 'no message'})")
