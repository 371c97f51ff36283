"""Files to a checked policy: the policy itself, the files it uses, its files of words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from policyroute.language import syntax
from policyroute.language.checker import SHAREABLE, Unit, check
from policyroute.language.diagnostics import Diagnostic, PolicyError, Severity, ordered
from policyroute.language.given import recorded_paths
from policyroute.language.parser import parse
from policyroute.language.policy import Policy
from policyroute.language.source import Source, Span

Reader = Callable[[Path], str]
LARGEST_FILE = 16 * 1024 * 1024

# What couldn't be read may have been the very thing that is missed: of that, only what is certain is reported.
_UNREAD = ("syntax-error", "bad-number", "condition-too-large")
_MISSES_A_PART = ("otherwise-missing", "edition-missing", "policy-missing", "order-missing")
_MISSES_A_NAME = ("unknown-name", "unknown-words", "unknown-model", "unknown-key", "order-unknown", "unknown-rule", "unknown-actor")
_NAMES = re.compile(r"\b(?:signal|words|pattern|let|tunable|classifier|model|tier|rule|quota|budget)\s+([a-z_][a-z0-9_]*)")


class Checked:
    """What loading found: the policy, its diagnostics in order, and the sources that their spans point into."""

    def __init__(self, policy: Policy, diagnostics: list[Diagnostic], sources: list[Source]) -> None:
        self.policy = policy
        self.diagnostics = ordered(diagnostics)
        self.sources = tuple(sources)

    @property
    def failed(self) -> bool:
        """Whether an error keeps the policy from being used."""
        return any(found.severity is Severity.ERROR for found in self.diagnostics)


def read_text(path: Path) -> str:
    """A file's text. Raises OSError, and ValueError where it isn't UTF-8 or is larger than 16 MiB."""
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError("it is larger than 16 MiB")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None


def check_file(
    path: Path, read: Reader = read_text, *, library: bool = False, tunables: Mapping[str, int] | None = None
) -> Checked:
    """Read and check the policy in `path` with the files that it uses.

    With `library`, a file that holds declarations only, for others to `use`, needs neither `policy` nor `otherwise`.
    `tunables` are values in place of the written ones; the digest is that of the changed policy. One that is not declared, or a
    value outside its range, is a diagnostic.

    Raises OSError or ValueError where `path` itself can't be read; a used file that can't be is a diagnostic.
    """
    return _Loader(path.parent, read).load(Source(path.as_posix(), read(path)), path, library, tunables)


def check_text(
    text: str,
    name: str = "policy.route",
    folder: Path = Path(),
    read: Reader = read_text,
    *,
    tunables: Mapping[str, int] | None = None,
) -> Checked:
    """Check a policy given as text; `folder` is where the files that it uses are looked for, `tunables` as for `check_file`."""
    return _Loader(folder, read).load(Source(name, text), folder / name, tunables=tunables)


def load(path: str | Path, *, tunables: Mapping[str, int] | None = None) -> Policy:
    """The policy in the file `path`, with `tunables` in place of its own values.

    Raises `PolicyError` with every diagnostic where it has errors.
    """
    checked = check_file(Path(path), tunables=tunables)
    if checked.failed:
        raise PolicyError(checked.diagnostics, checked.sources)
    return checked.policy


class _Loader:
    def __init__(self, folder: Path, read: Reader) -> None:
        self.folder = folder
        self.read = read
        self.sources: list[Source] = []
        self.diagnostics: list[Diagnostic] = []
        self.units: list[Unit] = []
        self.done: set[Path] = set()
        self.unread = False  # whether a used file is missing

    def load(self, source: Source, path: Path, library: bool = False, tunables: Mapping[str, int] | None = None) -> Checked:
        main = self._unit(source, path, (_identity(path),))
        main.recorded.update(self._recorded((*self.units, main), path.parent))
        policy, diagnostics = check(main, self.units, tunables)
        uncertain: tuple[str, ...] = ()
        if self.unread or any(found.code in _UNREAD for found in self.diagnostics):
            uncertain = _MISSES_A_PART
            diagnostics = [found for found in diagnostics if not self._perhaps_declared(found)]
        elif library and main.declarations and all(isinstance(node, SHAREABLE) for node in main.declarations):
            uncertain = ("otherwise-missing", "policy-missing")
        certain = [found for found in diagnostics if found.code not in uncertain]
        return Checked(policy, self.diagnostics + certain, self.sources)

    def _perhaps_declared(self, found: Diagnostic) -> bool:
        if found.code not in _MISSES_A_NAME or self.unread:
            return self.unread and found.code in _MISSES_A_NAME
        name = self.sources[found.span.file].text[found.span.start : found.span.end].split()[-1:]
        return any(name == [declared] for source in self.sources for declared in _NAMES.findall(source.text))

    def _unit(self, source: Source, path: Path, above: tuple[Path, ...]) -> Unit:
        number = len(self.sources)
        self.sources.append(source)
        declarations, diagnostics = parse(source, number)
        self.diagnostics += diagnostics
        phrases: dict[str, tuple[str, ...]] = {}
        for node in declarations:
            if isinstance(node, syntax.Use):
                self._use(node, path.parent, above)
            elif isinstance(node, syntax.Words) and node.path is not None:
                phrases[node.path.value] = self._phrases(node.path, path.parent)
        return Unit(declarations, phrases)

    def _use(self, node: syntax.Use, folder: Path, above: tuple[Path, ...]) -> None:
        path = folder / node.path.value
        resolved = _identity(path)
        if resolved in above:
            self.diagnostics.append(
                Diagnostic(
                    "use-cycle", f"`{node.path.value}` uses itself", node.path.span, "move what both files need into a third one"
                )
            )
            return
        if resolved in self.done:
            return
        self.done.add(resolved)
        text = self._text(path, node.path)
        if text is None:
            self.unread = True
            return
        unit = self._unit(Source(path.as_posix(), text), path, (*above, resolved))
        for declaration in unit.declarations:
            if not isinstance(declaration, SHAREABLE):
                span = _place(declaration)
                self.diagnostics.append(
                    Diagnostic(
                        "not-in-used-file",
                        "a used file holds declarations only",
                        span,
                        "keep rules, limits, state and claims in the policy's own file",
                    )
                )
        self.units.append(Unit([d for d in unit.declarations if isinstance(d, SHAREABLE)], unit.phrases))

    def _phrases(self, path: syntax.Name, folder: Path) -> tuple[str, ...]:
        text = self._text(folder / path.value, path)
        lines = (line.strip() for line in (text or "").splitlines())
        return tuple(line for line in lines if line and not line.startswith("#")) if text is not None else ("?",)

    def _recorded(self, units: Sequence[Unit], folder: Path) -> Iterator[tuple[str, str]]:
        """The files that the tests of the last unit give requests by, which could be read."""
        nodes = [node for unit in units for node in unit.declarations]
        declared = frozenset(node.name.value for node in nodes if isinstance(node, syntax.Signal))
        tests = [node for node in units[-1].declarations if isinstance(node, syntax.Test)]
        for path in [path for test in tests for path in recorded_paths(test, declared)]:
            text = self._text(folder / path.value, path)
            if text is not None:
                yield path.value, text

    def _text(self, path: Path, name: syntax.Name) -> str | None:
        try:
            return self.read(path)
        except (OSError, ValueError) as error:
            reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
            self.diagnostics.append(
                Diagnostic(
                    "file-unreadable",
                    f"`{name.value}` can't be read: {reason}",
                    name.span,
                    "the path is looked for beside the file that names it",
                )
            )
            return None


def _identity(path: Path) -> Path:
    """One path for one file, whatever leads there."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # no file has such a name; reading it says so
        return path


def _place(node: syntax.Declaration) -> Span:
    if isinstance(node, syntax.Escalate):
        return node.tiers[0].span
    for attribute in ("name", "key", "share", "zone"):
        leaf = getattr(node, attribute, None)
        if leaf is not None:
            return leaf.span  # type: ignore[no-any-return]
    return getattr(node, "span", Span.NONE)
