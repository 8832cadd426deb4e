"""How many files does a reader of one call pass through? Files and crossings of fit, transform and score_samples.

    python benchmarks/crossings.py                              # this checkout
    PYTHONPATH=<old checkout> python benchmarks/crossings.py    # another one

Calls are traced while they run. Two small tables: measurements (wine), and counts of cells, with likelihood "nb".

files
    Files of the package in which a function was called.
crossings
    Calls by which control went straight from one file of the package into another, each counted once: a pair of the
    calling file and the function that is called. Calls from one file of ``nn/`` to another are not counted, because
    who reads an estimator reads ``nn/`` as one library of layers. Calls that other libraries make (torch calls forward,
    skorch the batches, scikit-learn the methods that it wraps) are not counted either.
all
    The same with the calls inside ``nn/``.
both ways
    Pairs of files that call each other: what is read in one of them is not understood without the other.
functions
    Functions and methods that were called.

Before the package was divided into families and layers (commit f16104d and earlier), a fit crossed 25 to 32 files with
75 to 157 crossings, transform of VampVAE on counts 11 files with 10, score_samples of DGDEmbedder on counts 20 with 21.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from common import print_table
from sklearn.datasets import load_wine

import skdevae
from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_cell_clusters

ROOT = f"{Path(skdevae.__file__).resolve().parent}/"
METHODS = ("fit", "transform", "score_samples")


def estimators(likelihood: str) -> dict[str, Any]:
    """All six, to be fitted for a few epochs: longer fits call nothing else."""
    common = {"likelihood": likelihood, "max_epochs": 3, "random_state": 0}
    return {
        "BasisDeVAEClusterer": BasisDeVAEClusterer(**common),
        "BasisVAEClusterer": BasisVAEClusterer(4, **common),
        "DeVAETransformer": DeVAETransformer(**common),
        "VAETransformer": VAETransformer(2, **common),
        "VampVAE": VampVAE(2, **common),
        "DGDEmbedder": DGDEmbedder(2, n_clusters=3, **common),
    }


def file_of(code: CodeType) -> str:
    """The file of the package in which code stands, from the package on; empty for other code."""
    name = code.co_filename
    return name.removeprefix(ROOT) if name.startswith(ROOT) else ""


class Trace:
    """Calls of functions of the package, each with the file that calls it (empty for another library)."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str, str]] = set()  # calling file, called file, called function

    def of(self, run: Callable[[], object]) -> Trace:
        """Trace one call."""
        sys.setprofile(self._note)
        try:
            run()
        finally:
            sys.setprofile(None)
        return self

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        called = file_of(frame.f_code)
        if called:
            caller = frame.f_back
            self.calls.add((file_of(caller.f_code) if caller else "", called, frame.f_code.co_qualname))

    @property
    def files(self) -> set[str]:
        return {called for _, called, _ in self.calls}

    @property
    def crossings(self) -> set[tuple[str, str, str]]:
        return {call for call in self.calls if call[0] and call[0] != call[1]}

    def summary(self) -> dict[str, int]:
        """What the table says."""
        within = {call for call in self.crossings if is_nn(call[0]) and is_nn(call[1])}
        links = {(caller, called) for caller, called, _ in self.crossings}
        return {
            "files": len(self.files),
            "crossings": len(self.crossings - within),
            "all": len(self.crossings),
            "both ways": sum((called, caller) in links for caller, called in links) // 2,
            "functions": len({call[1:] for call in self.calls}),
        }


def is_nn(file: str) -> bool:
    return file.startswith("nn/")


def traced(estimator: Any, X: Any) -> dict[str, Trace]:
    """The three methods of one estimator."""
    return {method: Trace().of(lambda method=method: getattr(estimator, method)(X)) for method in METHODS}


def main() -> None:
    """Fit, trace, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--files", action="store_true", help="also print the files of each call, by crossings into them"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"skdevae: {sum(1 for _ in Path(ROOT).rglob('*.py'))} files")
    tables = {
        "gaussian": ("measurements", load_wine().data),
        "nb": ("counts", make_cell_clusters(200, 60, random_state=1).data),
    }
    for likelihood, (name, X) in tables.items():
        rows = []
        for estimator, unfitted in estimators(likelihood).items():
            for method, trace in traced(unfitted, X).items():
                rows.append({"estimator": estimator, "method": method, **trace.summary()})
                if options.files:
                    into = Counter(called for _, called, _ in trace.crossings)
                    print(f"\n{estimator}.{method}:", ", ".join(f"{f} {into[f]}" for f in sorted(trace.files)))
        print(f"\n{name} ({likelihood})")
        print_table(rows)


if __name__ == "__main__":
    main()
