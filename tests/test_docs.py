"""README and docs/: every fenced block is run or checked, and what scripts write is current.

`python scripts/build_readme.py` writes anew what these tests find out of date. language.md and codes.md have tests of their
own in test_reference_docs.py.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from policyroute.cli import COMMANDS, cli
from policyroute.language import check_text

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
ELSEWHERE = {"language.md", "codes.md"}
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)(#[^)]*)?\)|<img[^>]* src=\"(?!https?:)([^\"]+)\"")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts that make the pages, as modules."""
    path = list(sys.path)
    sys.path.insert(0, str(ROOT / "scripts"))
    yield {name: importlib.import_module(name) for name in ("console", "build_readme")}
    sys.path[:] = path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all commands, so that prices are flattened once."""
    return tmp_path_factory.mktemp("cache")


def fenced(tag: str) -> list[tuple[str, str]]:
    """Blocks with this tag on the pages that are tested here: place and text."""
    pages = [(path.name, path.read_text("utf-8")) for path in PAGES if path.name not in ELSEWHERE]
    return [
        (f"{name}:{page.count(chr(10), 0, block.start()) + 1}", block[1])
        for name, page in pages
        for block in re.finditer(rf"^```{tag}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]


def by_place(tag: str) -> pytest.MarkDecorator:
    """Parametrises a test by the blocks of a tag."""
    return pytest.mark.parametrize(("place", "text"), fenced(tag), ids=[place for place, _ in fenced(tag)])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_has_a_known_tag(path: Path, scripts: dict[str, ModuleType]) -> None:
    """A block of another kind would be one that nothing checks."""
    known = {"console", "route", "json", "toml", "python", "sh", *({"", "route fragment"} if path.name in ELSEWHERE else ())}
    assert {block.tag for block in scripts["console"].blocks(path.read_text("utf-8"))} <= known


@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in ELSEWHERE], ids=lambda path: path.name)
def test_page_is_current(path: Path, scripts: dict[str, ModuleType], cache: Path) -> None:
    """All commands of a page print what it says, and its generated parts are those that the script writes."""
    build = scripts["build_readme"]
    wanted = build.commands_page(cache) if path == build.COMMANDS_PAGE else build.current(path, cache)
    assert path.read_text("utf-8") == wanted


def test_picture_is_current(scripts: dict[str, ModuleType], cache: Path) -> None:
    """The picture holds the text that the command prints."""
    build = scripts["build_readme"]
    drawn = build.picture_text(build.picture(cache))
    assert build.picture_text(build.PICTURE.read_text("utf-8")) == drawn
    assert any("under the policy" in piece for piece in drawn) and any("quick_question" in piece for piece in drawn)


@by_place("route")
def test_policies_are_good(place: str, text: str) -> None:
    """A policy on a page is accepted as it stands."""
    assert [diagnostic.message for diagnostic in check_text(text).diagnostics] == [], place


@pytest.mark.parametrize(("place", "text"), fenced("toml") + fenced("json"))
def test_data_can_be_read(place: str, text: str) -> None:
    """What is called JSON or TOML is that."""
    assert json.loads(text) if text.lstrip()[0] in "{[" else tomllib.loads(text), place


@by_place("python")
def test_python_runs(place: str, text: str, scripts: dict[str, ModuleType], cache: Path, tmp_path: Path) -> None:
    """A program on a page ends without an error."""
    workplace = scripts["console"].Workplace(tmp_path, cache)
    (tmp_path / "block.py").write_text(text, "utf-8")
    workplace.run("python block.py")


@by_place("sh")
def test_shell_commands_are_commands(place: str, text: str) -> None:
    """Commands that are shown without their output name commands, options and files as the command line takes them."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and words[0].endswith("policyroute"):
                assert not misused(words[1:]), place


def misused(words: list[str]) -> str:
    """What is wrong with a command line of policyroute, or the empty string."""
    command = cli.get_command(click.Context(cli), words[0])
    if command is None:
        return f"no command is named {words[0]}"
    try:
        given = command.make_context(words[0], words[1:]).params
    except click.UsageError as error:
        return error.format_message()
    policies = [name for name in given.get("traces", ()) if name.endswith(".route")]
    return f"not a trace: {policies}" if policies else ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of the repository names one that is there."""
    targets = [found[1] or found[3] for found in LINK.finditer(path.read_text("utf-8"))]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_readme_has_the_two_commands() -> None:
    """One command runs the main job, one passes the tests; `.ci/run` takes both from the page."""
    readme = [text for place, text in fenced("sh") if place.startswith("README.md")]
    assert len(readme) == 2 and "policyroute simulate" in readme[0] and "pytest" in readme[1]
    assert all(len(text.splitlines()) == 1 for text in readme)
    page = (ROOT / "README.md").read_text("utf-8")
    assert page.index("```sh") < page.index("<img") < page.index("\n## ")


def test_readme_names_every_command() -> None:
    """The tour of the README mentions all that `policyroute --help` lists."""
    page = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"policyroute {name}" not in page] == []


def test_result_fields_are_documented(scripts: dict[str, ModuleType], cache: Path, tmp_path: Path) -> None:
    """Each field of the JSON result and each column of `--output` stands on the page about it."""
    workplace = scripts["console"].Workplace(tmp_path, cache)
    result = json.loads(workplace.run("policyroute simulate traces/support.parquet --output decisions.parquet --json"))
    columns = workplace.run('python -c "import duckdb; print(*duckdb.sql(\'FROM \\"decisions.parquet\\"\').columns)"').split()
    page = (ROOT / "docs" / "simulate.md").read_text("utf-8")
    names = set(fields({key: value for key, value in result.items() if key != "segments"}))
    names |= set(fields(list(result["segments"].values())))
    assert [name for name in sorted(names | set(columns)) if f"`{name}`" not in page] == []


def fields(value: object) -> Iterator[str]:
    """The keys of all objects in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner)


def test_elisions(scripts: dict[str, ModuleType]) -> None:
    """`...` stands for any lines, or for the rest of one, and for nothing more."""
    matches = scripts["console"]._matches
    assert matches(["a", "...", "d"], "a\nb\nc\nd\n") and matches(["...", "d"], "d\n") and matches(["ab..."], "abc\n")
    assert not matches(["a", "...", "d"], "a\nb\n") and not matches(["ab..."], "ba\n") and not matches(["a"], "a\nb\n")


def test_sessions(scripts: dict[str, ModuleType], cache: Path, tmp_path: Path) -> None:
    """A wrong output is replaced, a right one with an elision kept, and a command that fails is an error."""
    console = scripts["console"]
    workplace = console.Workplace(tmp_path, cache)
    page = "```console\n$ echo one &&\n> echo two\n...\ntwo\n$ echo three\nfour\n```\n"
    assert console.rerun(page, workplace) == page.replace("four", "three")
    with pytest.raises(console.CommandError):
        console.rerun("```console\n$ false\n```\n", workplace)
