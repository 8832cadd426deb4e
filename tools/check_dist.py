"""Archives: check that those in dist/ are complete and clean, and that README.md is fit for an index page.

An index page shows README.md alone, so its links have to be absolute. Those into the repository have to begin with the
address in pyproject.toml and to name a file that exists.
"""

from __future__ import annotations

import argparse
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: what someone who packages skdevae needs beside the package, one file or folder each
IN_SDIST = (
    "skdevae/__init__.py",
    "skdevae/py.typed",
    "tests/conftest.py",
    "tests/agreement.py",
    "examples/plot_tumour_biomarkers.py",
    "benchmarks/common.py",
    "docs/architecture.md",
    "docs/images/tumour_biomarkers.png",
    "tools/portability.py",
    "Makefile",
    "constraints.txt",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "pyproject.toml",
    "PKG-INFO",
)
IN_WHEEL = ("skdevae/__init__.py", "skdevae/py.typed")

#: parts of a path that have no place in an archive
UNWANTED = re.compile(r"(^|/)(__pycache__|\.venv[^/]*|\.[a-z]+_cache|\.hypothesis|figures|shared|htmlcov)/|\.py[co]$")

#: an inline link or image, and a definition: [text](address), [name]: address
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


def archive_problems(kind: str, names: set[str], expected: tuple[str, ...]) -> Iterator[str]:
    """What is missing in an archive, and what should not be there."""
    for name in expected:
        if name not in names:
            yield f"the {kind} lacks {name}"
    for name in sorted(names):
        if UNWANTED.search(name):
            yield f"the {kind} contains {name}"


def readme_problems(text: str, repository: str) -> Iterator[str]:
    """Links that an index page would show broken."""
    in_repository = re.compile(re.escape(repository) + r"/(?:blob|raw|tree)/main/([^#]+)")
    for address in (inline or defined for inline, defined in LINK.findall(text)):
        inside = in_repository.match(address)
        if inside:
            if not (ROOT / inside[1]).exists():
                yield f"README.md links to {address}, and there is no {inside[1]}"
        elif not address.startswith(("https://", "mailto:", "#")):
            yield f"README.md has a relative link: {address}"
        elif address.startswith("https://github.com/") and not address.startswith(repository):
            yield f"README.md links to {address}, which is not in {repository}"


def main() -> int:
    """Print every problem; the status says whether there is one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tag", default="", help="the tag of a release, which has to be v and the version")
    tag = parser.parse_args().tag
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources, wheels = list((ROOT / "dist").glob("*.tar.gz")), list((ROOT / "dist").glob("*.whl"))
    if (len(sources), len(wheels)) != (1, 1):
        print("dist/ should hold one source archive and one wheel: run `make build`")
        return 1
    with tarfile.open(sources[0]) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheels[0]) as archive:
        in_wheel = set(archive.namelist())
    strays = sorted(name for name in in_wheel if not re.match(r"skdevae(-[^/]+\.dist-info)?/", name))
    problems = [
        *archive_problems("source archive", in_source, IN_SDIST),
        *archive_problems("wheel", in_wheel, IN_WHEEL),
        *(f"the wheel contains {name}" for name in strays),
        *readme_problems((ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Repository"]),
    ]
    if tag and tag != f"v{project['version']}":
        problems.append(f"the tag {tag} does not name version {project['version']}")
    print(*problems, sep="\n", end="\n" if problems else "")
    if not problems:
        print(f"{sources[0].name}: {len(in_source)} files, {wheels[0].name}: {len(in_wheel)} files; links are absolute")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
