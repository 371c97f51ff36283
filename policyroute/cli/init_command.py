"""`policyroute init`: a working policy, its tests, a trace and a workflow, in a folder that has none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import click

from policyroute.cli.common import CannotRun
from policyroute.cli.init.trace import lines

TEMPLATES: Mapping[str, str] = {
    "policyroute.toml": "policyroute.toml",
    "policies/assistant.route": "assistant.route",
    ".github/workflows/policyroute.yml": "workflow.yml",
}
TRACE = "traces/sample.jsonl"
NEXT = (
    ("policyroute check", "what is wrong with the policy, for every possible request"),
    ("policyroute test", "its own tests"),
    ("policyroute simulate traces/sample.jsonl", "what it would have cost (the trace is made up: put your own beside it)"),
)


@click.command(name="init")
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write a working policy with tests and guarantees, a small made-up trace, and a workflow for pull requests into FOLDER.

    Nothing is overwritten: where one of the files is there, none is written.
    """
    texts = {name: files("policyroute.cli.init").joinpath(template).read_text("utf-8") for name, template in TEMPLATES.items()}
    texts[TRACE] = "".join(lines())
    there = [name for name in texts if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise CannotRun(f"`{(folder / there[0]).as_posix()}` is there already", "choose an empty folder: `policyroute init NAME`")
    try:
        _written(folder, texts)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotRun(f"`{folder.as_posix()}` can't be written to: {reason}", "nothing was changed") from None
    for name in texts:
        click.echo(f"wrote {(folder / name).as_posix()}")
    there_ = "" if folder == Path() else f"cd {folder.as_posix()}\n"
    click.echo(f"\nnext:\n{there_}" + "\n".join(f"{line:<42} # {what}" for line, what in NEXT))


def _written(folder: Path, texts: Mapping[str, str]) -> None:
    """All files or none: they are made beside the folder's own and moved in at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".policyroute-init-", dir=folder))
    placed: list[Path] = []
    try:
        for number, text in enumerate(texts.values()):
            (made / str(number)).write_text(text, "utf-8", newline="\n")
        for number, name in enumerate(texts):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(made / str(number), target)  # fails where a file has come to be in the meantime
            placed.append(target)
    except OSError:
        for path in placed:
            path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
