"""The house's own rules: floors, sizes, and what must not be written anywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "policyroute").rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MOST_LINES, LONGEST_FUNCTION = 400, 60

by_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())


def nodes(path: Path) -> Iterator[ast.AST]:
    """All syntax nodes of a module."""
    yield from ast.walk(ast.parse(path.read_text("utf-8")))


@by_module
def test_sizes(path: Path) -> None:
    """No file over 400 lines, no function over 60."""
    assert path.read_text("utf-8").count("\n") <= MOST_LINES
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


@by_module
def test_module_says_what_it_is(path: Path) -> None:
    """Each module begins with a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


@by_module
def test_public_names_say_what_they_are(path: Path) -> None:
    """Public functions and classes of a module have a docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


EDGES = {"policyroute/proxy/app.py", "policyroute/proxy/recorder.py"}
"""The last place before a client, and the thread that writes requests down: there a fault is logged and goes no further."""


@by_module
def test_no_broad_except(path: Path) -> None:
    """An `except` names what it expects; at the two edges, one each doesn't."""
    caught = [node.type for node in nodes(path) if isinstance(node, ast.ExceptHandler)]
    names = [getattr(each, "id", "") for type_ in caught for each in (type_.elts if isinstance(type_, ast.Tuple) else [type_])]
    broad = [name for name in names if name in ("Exception", "BaseException")]
    assert None not in caught and broad == (["Exception"] if path.relative_to(ROOT).as_posix() in EDGES else [])


@by_module
def test_nothing_is_left_undone(path: Path) -> None:
    """No note of work to do, and nothing that raises NotImplementedError."""
    text = path.read_text("utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b", text)


@by_module
def test_no_global_state_is_changed(path: Path) -> None:
    """No `global` statement."""
    assert not [node for node in nodes(path) if isinstance(node, ast.Global)]


def test_floors_hold() -> None:
    """The import contracts of pyproject.toml are kept."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def floors() -> list[str]:
    """The package's floors from the top down, as the contract names them."""
    contract = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [name.strip() for layer in contract["layers"] for name in layer.split("|")]


def test_every_folder_is_a_floor() -> None:
    """The contract names all folders of the package and no others."""
    folders = {path.parent.name for path in (ROOT / "policyroute").glob("*/__init__.py")}
    assert set(floors()) == folders


def test_the_plan_shows_every_floor() -> None:
    """The table in docs/architecture.md has the floors in the order of the contract."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == floors()


def test_tests_run_as_readme_says() -> None:
    """Warnings are errors, unknown marks too, and an expected failure that passes fails."""
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"] == ["error"] and options["xfail_strict"] and "--strict-markers" in options["addopts"]


def test_ci_is_a_program() -> None:
    """`.ci/run` can be started, and stops at the first failure."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text("utf-8")
