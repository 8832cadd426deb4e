"""Examples in docstrings and documents: which of them run, and what is put away after each."""

import sys
from importlib.util import find_spec

import pytest

#: Examples that need anndata run where it is there. It asks for an older pandas than other tests have.
collect_ignore = [] if find_spec("anndata") else ["skdevae/scverse/_answers.py"]


@pytest.fixture(autouse=True)
def _no_open_figures(request):
    """Close the figures that an example has drawn: they stay open otherwise, and matplotlib warns of many."""
    yield
    if isinstance(request.node, pytest.DoctestItem) and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
