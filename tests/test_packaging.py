"""What is shipped fits together: one version, pins that satisfy the declared ranges, data files inside the wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sao_events import __version__

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^;\s]+)(; .+)?$")


def project() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def lines_of(lock: str) -> list[str]:
    """The lines of a lock file that are instructions to pip."""
    lines = (ROOT / "requirements" / lock).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins(*locks: str) -> dict[str, str]:
    """Version by name of everything that the lock files pin."""
    found = (PIN.match(line) for lock in locks for line in lines_of(lock))
    return {match["name"]: match["version"] for match in found if match}


def test_version_heads_the_changelog() -> None:
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == __version__


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_locks_hold_exact_pins_and_nothing_else(lock: str) -> None:
    assert [line for line in lines_of(lock) if not PIN.match(line) and line != "-r runtime.txt"] == []


def test_nothing_is_pinned_twice() -> None:
    assert pins("runtime.txt").keys() & pins("dev.txt").keys() == set()


@pytest.mark.parametrize(
    ("extra", "locks"),
    [
        (None, ("runtime.txt",)),
        ("dbt", ("runtime.txt",)),
        ("sns", ("runtime.txt",)),
        ("dev", ("runtime.txt", "dev.txt")),
    ],
)
def test_locks_satisfy_what_is_declared(extra: str | None, locks: tuple[str, ...]) -> None:
    declared = project()["optional-dependencies"][extra] if extra else project()["dependencies"]
    pinned = pins(*locks)
    for requirement in map(Requirement, declared):
        if requirement.name != "sao-events":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_each_runtime_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "DEPENDENCIES.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    extras = project()["optional-dependencies"]
    assert documented == {Requirement(line).name for line in project()["dependencies"] + extras["dbt"] + extras["sns"]}


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("sao_events", "hooks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in (
        "pyproject.toml",
        *project()["license-files"],
        *([project()["readme"]] if "readme" in project() else []),
    ):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(copy)], check=True)

    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        scripts = archive.read(f"sao_events-{__version__}.dist-info/entry_points.txt").decode()
    files = {str(path.relative_to(copy)) for path in (copy / "sao_events").rglob("*") if path.is_file()}
    scripts_of_hooks = {path.relative_to(copy / "hooks") for path in (copy / "hooks").rglob("*") if path.is_file()}
    files |= {f"sao_events/hook_scripts/{path}" for path in scripts_of_hooks}
    assert files - names == set()
    assert {"sao_events/py.typed", f"sao_events-{__version__}.dist-info/licenses/LICENSE"} <= names
    assert "sao-events = sao_events.cli:main" in scripts


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")]
    links = [
        (page.relative_to(ROOT), link)
        for page in pages
        for link in re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", link)
    ]
    assert len(links) > 50
    assert [(page, link) for page, link in links if not (ROOT / page.parent / link).exists()] == []
