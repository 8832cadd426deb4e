"""The plan of the house holds: who may import whom, what, and when. ``docs/architecture.md`` says why."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from house import laws

import skdevae

ROOT = Path(skdevae.__file__).parent
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

#: Parts of the package, lowest layer first. A part imports from lower layers, and from no other part of its own.
LAYERS = (
    ("_optional", "_sklearn", "_typing", "_version", "_warnings"),
    ("datasets", "metrics", "nn"),
    ("table",),
    ("inference",),
    ("training",),
    ("_base",),
    ("embedding", "trajectory"),
    ("export", "inspection"),
    ("display", "scverse"),
    ("skdevae",),
)

#: all the parts that these may import: less than everything below them
ONLY = {
    "datasets": {"_sklearn"},
    "metrics": {"_sklearn", "_typing", "_warnings"},
    "nn": {"_optional"},  # mathematics, for whoever has torch: no estimators, no tables, no settings
    "table": {"_optional", "_sklearn", "_typing", "_warnings", "nn"},
    "display": {
        "_optional",
        "_sklearn",
        "_typing",
        "_warnings",
        "inspection",
        "metrics",
    },  # what it shows, it asks the estimator
}

#: libraries that a part knows, beside Python's own
LIBRARIES = {
    "_sklearn": {"sklearn"},
    "_typing": {"numpy", "skorch"},
    "nn": {"numpy", "torch"},
    "table": {"joblib", "numpy", "pandas", "scipy", "sklearn", "torch"},
    "inference": {"numpy", "scipy", "sklearn", "torch"},
    "training": {"numpy", "sklearn", "skorch", "threadpoolctl", "torch", "tqdm"},
    "_base": {"numpy", "pandas", "scipy", "sklearn", "skorch", "torch"},
    "trajectory": {"numpy", "scipy", "sklearn", "torch"},
    "embedding": {"numpy", "pandas", "scipy", "sklearn", "skorch", "torch"},
    "datasets": {"numpy", "pandas", "scipy", "sklearn"},
    "metrics": {"numpy", "pandas", "sklearn"},
    "export": {"numpy", "sklearn", "torch"},
    "inspection": {"joblib", "numpy", "pandas", "scipy", "sklearn", "torch"},
    "display": {"matplotlib", "numpy", "pandas", "scipy", "sklearn", "threadpoolctl"},
    "scverse": {"numpy", "pandas", "scipy", "sklearn"},
}

#: libraries of extras
OPTIONAL = {"accelerate", "matplotlib", "umap", "zuko"}
#: names by which libraries are installed, where they differ
DISTRIBUTIONS = {"umap": "umap-learn", "sklearn": "scikit-learn"}

#: A file is read as a whole. Above this length nobody does; a third of an estimator's file documents its parameters.
MOST_LINES = 650


@pytest.fixture(scope="module")
def package() -> laws.Package:
    return laws.Package.read(ROOT)


@pytest.fixture(scope="module")
def project() -> dict:
    if not PYPROJECT.exists():
        pytest.skip("needs pyproject.toml, which is not part of an installed package")
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def assert_none(violations: list[str]) -> None:
    if violations:
        pytest.fail("\n".join(violations), pytrace=False)


def test_imports_run_downwards(package):
    assert_none(laws.imports_that_do_not_run_down(package, LAYERS, ONLY))


def test_no_modules_import_each_other(package):
    assert_none(laws.circles(package))


def test_parts_know_their_own_libraries_only(package):
    assert_none(laws.libraries_out_of_place(package, LIBRARIES))


def test_torch_modules_know_no_scikit_learn(package):
    assert_none(laws.torch_modules_that_know_more(package, {"sklearn", "_sklearn", "pandas"}))


def test_one_file_knows_private_names_of_scikit_learn(package):
    assert_none(laws.private_names(package, "sklearn", allowed_in="skdevae._sklearn"))


@pytest.mark.parametrize("library", ["numpy", "pandas", "scipy", "skorch", "torch"])
def test_no_file_knows_private_names_of_other_libraries(package, library):
    assert_none(laws.private_names(package, library, allowed_in=""))


def test_one_file_gives_warnings(package):
    assert_none(laws.warnings_given(package, allowed_in="skdevae._warnings"))


def test_optional_libraries_are_imported_late(package):
    assert_none(laws.early_imports(package, OPTIONAL, door="skdevae._optional"))


def test_no_file_is_too_long(package):
    assert_none(laws.long_files(package, MOST_LINES))


def test_tables_name_no_part_that_is_gone(package):
    parts = {package.part(name) for name in package.modules}
    named = {part for layer in LAYERS for part in layer} | set(ONLY) | set(LIBRARIES)
    assert named <= parts


def requirements(lines: list[str]) -> set[str]:
    """Names of distributions, without versions."""
    return {line.partition(">=")[0].partition("~=")[0].strip() for line in lines}


def test_errors_name_the_extra_that_helps(package, project):
    extras = {extra: requirements(lines) for extra, lines in project["optional-dependencies"].items()}
    assert_none(laws.wrong_extras(package, "import_optional", extras, DISTRIBUTIONS))


def test_libraries_are_declared(project):
    declared = requirements(project["dependencies"])
    known = set().union(*LIBRARIES.values())
    assert {DISTRIBUTIONS.get(library, library) for library in known - OPTIONAL} == declared
    assert not {DISTRIBUTIONS.get(library, library) for library in OPTIONAL} & declared


def test_import_leaves_libraries_alone_until_they_are_needed():
    script = f"""
import sys, skdevae
late = {{"torch", "sklearn", "scipy", "pandas", "skorch"}} & set(sys.modules)
assert not late, late
from skdevae import {", ".join(name for name in skdevae.__all__ if name[0].isupper())}
late = ({{"skdevae.display", "torch._dynamo", "torch._inductor", "sympy"}} | {OPTIONAL}) & set(sys.modules)
assert not late, late
assert skdevae.display.LatentDisplay.__module__.startswith("skdevae.display")
assert "umap" not in sys.modules and "zuko" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- each law can fail -----------------------------------------------------------------------------------------------

TOY_LAYERS = (("_gate", "_noise", "_private"), ("nn",), ("table",), ("left", "right"), ("toy",))
#: a package that keeps all laws
TOY = {
    "__init__.py": "from .left import Left\n",
    "_gate.py": "import importlib\n",
    "_noise.py": "import warnings\nwarnings.warn('psst', stacklevel=2)\n",
    "_private.py": "from sklearn.utils._secret import thing\n",
    "nn/__init__.py": "from .rows import Rows\n",
    "nn/rows.py": "import numpy\nclass Rows: pass\n",
    "nn/model.py": "from torch import nn\nclass Model(nn.Module): pass\n",
    "table/__init__.py": "",
    "table/source.py": "from typing import TYPE_CHECKING\nfrom ..nn import Rows\nif TYPE_CHECKING:\n    import ink\n",
    "left/__init__.py": "from ._left import Left\n",
    "left/_left.py": "from .._gate import open\nclass Left:\n    def draw(self):\n        import ink.pens\n",
    "right/__init__.py": "",
}
LAWS = {
    "layers": lambda toy: laws.imports_that_do_not_run_down(toy, TOY_LAYERS, {"table": {"nn"}}),
    "circles": laws.circles,
    "libraries": lambda toy: laws.libraries_out_of_place(
        toy,
        {"nn": {"numpy", "torch"}, "table": {"ink"}, "left": {"ink"}, "_private": {"sklearn"}},
    ),
    "torch": lambda toy: laws.torch_modules_that_know_more(toy, {"numpy", "_private"}),
    "private": lambda toy: laws.private_names(toy, "sklearn", allowed_in="toy._private"),
    "warnings": lambda toy: laws.warnings_given(toy, allowed_in="toy._noise"),
    "optional": lambda toy: laws.early_imports(toy, {"ink"}, door="toy._gate"),
    "extras": lambda toy: laws.wrong_extras(toy, "open", {"print": {"ink"}}, {"pens": "pen-and-ink"}),
    "length": lambda toy: laws.long_files(toy, 6),
}


@pytest.fixture
def toy(tmp_path):
    """Build the package that keeps all laws, with some files changed."""

    def build(**files: str) -> laws.Package:
        for name, source in {**TOY, **files}.items():
            path = tmp_path / "toy" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return laws.Package.read(tmp_path / "toy")

    return build


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_package_that_keeps_the_law(law, toy):
    assert law(toy()) == []


#: law, file, its source, and what the law says about it
BROKEN = [
    ("layers", "nn/rows.py", "from ..table.source import x", "nn imports table, which is not in a lower layer"),
    ("layers", "nn/rows.py", "import toy.table.source", "nn imports table, which is not in a lower layer"),
    ("layers", "nn/rows.py", "from .. import table", "nn imports table, which is not in a lower layer"),
    ("layers", "nn/rows.py", "from .. import __version__", "nn imports toy, which is not in a lower layer"),
    ("layers", "nn/rows.py", "def f():\n    from ..left import x", "nn imports left, which is not in a lower layer"),
    (
        "layers",
        "nn/rows.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..left import x",
        "nn imports left, which is not in a lower layer",
    ),
    ("layers", "right/__init__.py", "from ..left import x", "right imports left, which is not in a lower layer"),
    ("layers", "_noise.py", "from ._gate import x", "_noise imports _gate, which is not in a lower layer"),
    ("layers", "table/source.py", "from .._noise import x", "table imports _noise, and may import nn alone"),
    ("layers", "attic/__init__.py", "", "no layer is named for attic"),
    ("circles", "nn/rows.py", "from .model import x\nfrom . import y", "toy.nn, toy.nn.rows"),
    ("circles", "nn/rows.py", "import toy.nn", "toy.nn, toy.nn.rows"),
    ("circles", "nn/rows.py", "from ..table.source import x", "toy.nn, toy.nn.rows, toy.table.source"),
    ("circles", "_gate.py", "def f():\n    from .left._left import x", "toy._gate, toy.left, toy.left._left"),
    ("circles", "table/__init__.py", "import toy", None),  # nothing that toy needs needs table
    ("libraries", "nn/rows.py", "import pandas as pd", "nn imports pandas"),
    ("libraries", "right/__init__.py", "def f():\n    from numpy import linalg", "right imports numpy"),
    ("libraries", "__init__.py", "from sklearn import base", "toy imports sklearn"),
    ("torch", "nn/model.py", "import numpy.linalg\nfrom torch import nn\nclass A(nn.Module): pass", "numpy.linalg"),
    (
        "torch",
        "left/_left.py",
        "from torch.nn import Module\nfrom .._private import x\nclass A(Module): pass",
        "_private",
    ),
    ("private", "left/_left.py", "from sklearn.utils._secret import thing", "imports sklearn.utils._secret.thing"),
    ("private", "left/_left.py", "from sklearn.utils import _thing", "imports sklearn.utils._thing"),
    ("private", "left/_left.py", "import sklearn._secret", "imports sklearn._secret"),
    ("private", "left/_left.py", "from sklearn import __version__", None),
    ("warnings", "left/_left.py", "import warnings\nwarnings.warn('x')", "uses warnings.warn"),
    ("warnings", "left/_left.py", "from warnings import warn", "imports from warnings"),
    ("warnings", "left/_left.py", "tell('x', stacklevel=3)", "counts frames"),
    ("warnings", "left/_left.py", "import warnings\nwarnings.simplefilter('error')", None),
    ("optional", "left/_left.py", "import ink", "imports ink with its module"),
    ("optional", "left/_left.py", "class A:\n    from ink import pens", "imports ink with its module"),
    ("optional", "right/__init__.py", "def f():\n    import ink", "imports ink without toy._gate"),
    ("extras", "left/_left.py", "open('ink.pens', extra='paint')", "extra 'paint' does not install ink"),
    ("extras", "left/_left.py", "open('pens', extra='print')", "extra 'print' does not install pens"),
    ("extras", "left/_left.py", "open('ink.pens', extra='print')", None),
    ("length", "nn/rows.py", "\n" * 7, "has 7 lines"),
]


@pytest.mark.parametrize("law, file, source, complaint", BROKEN)
def test_a_package_that_breaks_the_law(law, file, source, complaint, toy):
    violations = LAWS[law](toy(**{file: source}))
    if complaint is None:
        assert violations == []
    else:
        assert len(violations) == 1
        assert complaint in violations[0]
