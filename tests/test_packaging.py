"""What is shipped: the wheel holds all that it needs and works away from the source, and `check` starts light."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"duckdb", "pyarrow", "z3", "genai_prices"}
PRICED, UNPRICED = "policies/seeds/two_models.route", "policies/support.route"  # with prices of their own, and without

# Runs the command line as `policyroute` does, then says which modules are loaded.
PROBE = """
import sys
from policyroute.cli import main
try:
    main()
except SystemExit as stopped:
    print("exit", stopped.code)
print("loaded", *sys.modules)
"""


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints on stdout; one that fails is an error with all that it printed."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=folder, env=known | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def probe(cache: Path, *arguments: str) -> tuple[str, set[str]]:
    """Runs the command line from the source: how it ended, and which heavy packages it has imported."""
    command = [sys.executable, "-c", PROBE, *arguments]
    *_, ended, loaded = run(command, ROOT, PYTHONPATH=str(ROOT), POLICYROUTE_CACHE=str(cache)).splitlines()
    return ended, HEAVY & set(loaded.split())


@pytest.mark.parametrize("policy", [PRICED, UNPRICED])
def test_check_starts_light(tmp_path: Path, policy: str) -> None:
    """A check needs no engine; prices, contexts and abilities are flattened from the library once, and then in the cache."""
    assert probe(tmp_path, "check", policy) == ("exit 0", {"genai_prices"})
    assert probe(tmp_path, "check", policy) == ("exit 0", set())


def test_a_policy_that_does_not_load_needs_no_prices(tmp_path: Path) -> None:
    """With its own prices and an error, nothing is read but the file."""
    broken = tmp_path / "broken.route"
    broken.write_text((ROOT / PRICED).read_text("utf-8").replace("otherwise", "otherwize"), "utf-8")
    assert probe(tmp_path / "cache", "check", str(broken)) == ("exit 1", set())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("arguments", [("fmt", "--check", "policies"), ("explain", "PR101"), ("vocabulary",), ("--help",)])
def test_small_commands_start_light(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Commands that read no trace import no engine."""
    assert probe(tmp_path, *arguments) == ("exit 0", set())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist; the wheel is made from the sdist, in isolation."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], folder)
    return folder


@pytest.mark.slow
def test_wheel_holds_the_package(dist: Path) -> None:
    """Every module, the grammar, the table of abilities and the mark of a typed package; no tests, no examples."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "policyroute").rglob("*.py")}
    assert names == modules | {
        "policyroute/language/route.lark",
        "policyroute/prices/abilities.json",
        "policyroute/py.typed",
        "policyroute/render/html/style.css",
        *(f"policyroute/cli/init/{name}" for name in ("assistant.route", "policyroute.toml", "workflow.yml")),
    }


@pytest.mark.slow
def test_sdist_holds_what_tests_need(dist: Path) -> None:
    """Source, examples, docs and tests: one can run the tests from it."""
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {
        "grammar/route.lark", "policies/support.route", "policies/words/faq.txt", "traces/support.parquet", "tests/test_packaging.py",
        "tests/corpus/syntax.route", "docs/img/simulate.svg", "scripts/build_readme.py", "policyroute.toml", "README.md", "CHANGELOG.md", "LICENSE",
    }  # fmt: skip
    assert wanted <= names


@pytest.mark.slow
def test_wheel_works_away_from_the_source(dist: Path, tmp_path: Path) -> None:
    """In an environment with nothing but the wheel and what it asks for, the examples give the same result as from the source."""
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    binaries, place = tmp_path / "env" / "bin", tmp_path / "place"
    same_prices = f"genai-prices=={version('genai-prices')}"
    run([str(binaries / "pip"), "install", "-q", "--disable-pip-version-check", str(wheel), same_prices], tmp_path)
    for name in ("policies", "traces"):
        shutil.copytree(ROOT / name, place / name)
    caches = {"POLICYROUTE_CACHE": str(tmp_path / "cache")}
    policyroute = str(binaries / "policyroute")
    found = run([str(binaries / "python"), "-c", "import policyroute; print(policyroute.__file__)"], place)
    assert Path(found.strip()).is_relative_to(tmp_path)
    run([str(binaries / "pip"), "check"], place)
    run([policyroute, "check", "policies", "--allow", "dead-end", "--allow", "unused-declaration"], place, **caches)
    run([policyroute, "init", "new"], place)
    run([policyroute, "check", "new/policies"], place, **caches)
    assert "passed" in run([policyroute, "test", "policies"], place, **caches)
    simulate = ["simulate", "traces/support.parquet", "--policy", "policies/support.route", "--json"]
    installed = json.loads(run([policyroute, *simulate], place, **caches))
    source = json.loads(run([sys.executable, "-m", "policyroute", *simulate], ROOT, PYTHONPATH=str(ROOT), **caches))
    assert installed == source and installed["headline"]["rows"] > 2_000
