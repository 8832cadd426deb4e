"""Public names: what users import, from where, and that nothing private is among it."""

import inspect
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import skdevae

#: the packages that users import from; all else in skdevae may change from one version to the next
PUBLIC_MODULES = (
    "skdevae",
    "skdevae.datasets",
    "skdevae.display",
    "skdevae.export",
    "skdevae.inspection",
    "skdevae.metrics",
    "skdevae.scverse",
)
ESTIMATORS = {
    "BasisDeVAEClusterer",
    "BasisVAEClusterer",
    "DGDEmbedder",
    "DeVAETransformer",
    "VAETransformer",
    "VampVAE",
}
NAMES = [(module, name) for module in PUBLIC_MODULES for name in import_module(module).__all__]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_lists_of_public_names_are_in_order(module):
    names = import_module(module).__all__
    assert names == sorted(set(names))


@pytest.mark.parametrize("module, name", NAMES)
def test_public_names_are_there_and_documented(module, name):
    public = getattr(import_module(module), name)
    assert name == "__version__" or not name.startswith("_")
    assert isinstance(public, str) or inspect.getdoc(public)


@pytest.mark.parametrize("module, name", NAMES)
def test_public_names_are_of_this_package(module, name):
    """No name is passed on from another library, and each is public in one place."""
    public = getattr(import_module(module), name)
    if inspect.ismodule(public):
        assert public.__name__ in PUBLIC_MODULES
    elif not isinstance(public, str):
        assert (public.__module__ + ".").startswith(f"{module}.")
        assert [where for where, other in NAMES if other == name] == [module]


def test_public_modules_are_public_names():
    assert {f"skdevae.{name}" for name in skdevae.__all__} >= set(PUBLIC_MODULES[1:])


def test_estimators_are_those_that_the_documentation_names():
    assert {name for name in skdevae.__all__ if inspect.isclass(getattr(skdevae, name))} == ESTIMATORS


@pytest.mark.parametrize("module, name", NAMES)
def test_public_names_can_be_pickled(module, name):
    """Classes and functions are pickled as the place where they are defined, which may be private: files of fitted
    estimators name it, so that a move needs a new format number."""
    public = getattr(import_module(module), name)
    if not inspect.ismodule(public):
        assert pickle.loads(pickle.dumps(public)) is public or isinstance(public, str)


def test_dir_lists_public_names():
    assert set(skdevae.__all__) <= set(dir(skdevae))


@pytest.mark.parametrize("module", PUBLIC_MODULES[1:])
def test_public_packages_hold_no_other_public_modules(module):
    """What is in a public package under a name without an underscore is exported by it."""
    package = import_module(module)
    submodules = {found.name for found in pkgutil.iter_modules(package.__path__)}
    assert all(name.startswith("_") for name in submodules)
    assert {name for name in vars(package) if not name.startswith("_")} == set(package.__all__)


@pytest.mark.parametrize("name", ["displays", "_no_such_name", "VAE"])
def test_other_names_are_missing(name):
    with pytest.raises(AttributeError, match=f"module 'skdevae' has no attribute '{name}'"):
        getattr(skdevae, name)


def test_all_names_can_be_imported_at_once():
    script = """
from skdevae import *
from skdevae import __all__ as names
assert set(names) <= set(globals()) and display.LatentDisplay
"""
    subprocess.run([sys.executable, "-c", script], check=True)
