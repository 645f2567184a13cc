"""Packages that are installed for a test, as the documentation describes them."""

import tomllib
from pathlib import Path
from typing import Any

from tests.support.docs import BLOCKS

__all__ = ["install", "project_of"]


def project_of(group: str) -> dict[str, Any]:
    """Return the project in the documentation that has entry points in this group."""
    projects = [tomllib.loads(block.text)["project"] for block in BLOCKS if block.language == "toml"]
    [project] = [project for project in projects if group in project["entry-points"]]
    return dict(project)


def install(site: Path, project: dict[str, Any], **modules: str) -> None:
    """Install the project with its entry points and these modules into the folder `site`."""
    name = project["name"]
    metadata = site / f"{name.replace('-', '_')}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    for group, points in project["entry-points"].items():
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)
