"""Examples in docstrings that need anndata run where it is there. It asks for an older pandas than other tests have."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("anndata") else ["skdevae/scverse/_answers.py"]
