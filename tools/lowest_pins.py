"""Floors: print the lowest version of every dependency that pyproject.toml admits, one pin a line, as pip reads them.

``python tools/lowest_pins.py test`` follows the extra ``test``, and the extras of skdevae itself that it names.
``--set torch=2.13.0`` takes another version of one package. Needs ``packaging``.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

#: what a dependency brings along that cannot be imported beside the floors in its newest version
BROUGHT_ALONG = {"dask": "pyarrow<25"}  # later ones ask for NumPy 2, and say so only when they are imported
#: operators of a version specifier that state a floor
FLOORS = (">=", "~=", "==")


def requirements(project: dict[str, Any], extras: list[str]) -> Iterator[Requirement]:
    """What the project needs, and what its extras need; extras that name each other are followed."""
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for line in lines:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            yield from requirements({**project, "dependencies": []}, sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def floor(requirement: Requirement) -> str:
    """The version below which a requirement does not go."""
    floors = [part.version for part in requirement.specifier if part.operator in FLOORS]
    if len(floors) != 1:
        raise SystemExit(f"pyproject.toml states no single floor for {requirement.name}: '{requirement}'")
    return floors[0]


def main() -> None:
    """Print the pins."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("extras", nargs="*", help="extras whose floors are wanted too")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VERSION", help="another version of a package")
    arguments = parser.parse_args()
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(found.name): floor(found) for found in requirements(project, arguments.extras)}
    for name, _, version in (item.partition("=") for item in arguments.set):
        if name not in pins:
            raise SystemExit(f"--set {name}: pyproject.toml names no such dependency")
        pins[name] = version
    print(*(f"{name}=={version}" for name, version in sorted(pins.items())), sep="\n")
    print(*(line for name, line in BROUGHT_ALONG.items() if name in pins), sep="\n")


if __name__ == "__main__":
    main()
