"""Validation: checks of user input that scikit-learn does not have.

Every error says what is wrong, where, and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp

#: whole numbers above it are not exact in double precision
_LARGEST_COUNT = 2.0**53


def column_label(feature_names: np.ndarray | None, column: int) -> str:
    """How an error message calls a column."""
    return f"column {column}" if feature_names is None else f"column {feature_names[column]!r}"


def _first_columns(feature_names: np.ndarray | None, columns: np.ndarray) -> str:
    shown = ", ".join(column_label(feature_names, int(column)) for column in columns[:3])
    return f"{shown} and {len(columns) - 3} more" if len(columns) > 3 else shown


def canonical_counts(X: Any) -> sp.csr_array:
    """A sparse table as a CSR array with sorted indices, without duplicates and explicit zeros; NaN is an error."""
    X = sp.csr_array(X)
    if np.isnan(X.data).any():
        raise ValueError("A sparse X must not contain NaN: pass tables with missing entries as dense arrays.")
    if not X.has_canonical_format or (X.data == 0).any():
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    return X


def check_counts(X: Any, likelihood: str, feature_names: np.ndarray | None) -> None:
    """Raise unless all entries are non-negative whole numbers (0 or 1 for bernoulli); NaN passes."""
    entries: np.ndarray = X.data if sp.issparse(X) else X
    complaints = [
        (entries < 0, f"Negative values in data passed to a model with likelihood={likelihood!r}"),
        (
            (entries != np.floor(entries)) & ~np.isnan(entries),
            f"Fractional values where {likelihood!r} needs raw counts",
        ),
        (entries > _LARGEST_COUNT, "Counts above 2**53, which double precision does not hold exactly"),
    ]
    if likelihood == "bernoulli":
        complaints.append((entries > 1, "Values above 1 where likelihood='bernoulli' needs zeros and ones"))
    for bad, complaint in complaints:
        if bad.any():
            columns = np.unique(X.indices[bad] if sp.issparse(X) else np.nonzero(bad)[1])
            raise ValueError(
                f"{complaint}: {int(bad.sum())} entries, in {_first_columns(feature_names, columns)}. "
                "Use likelihood='gaussian' for measurements and for transformed counts."
            )


def check_missing(X: np.ndarray, feature_names: np.ndarray | None) -> None:
    """Raise if a column or a row has no observed entry at all."""
    missing = np.isnan(X)
    if not missing.any():
        return
    columns = np.nonzero(missing.all(0))[0]
    if len(columns):
        raise ValueError(f"{_first_columns(feature_names, columns)}: every entry is NaN. Drop such columns before fit.")
    rows = np.nonzero(missing.all(1))[0]
    if len(rows):
        raise ValueError(
            f"{len(rows)} rows have no observed entry (the first is row {rows[0]}). Drop them before fit; "
            "transform and posterior accept them and answer with the prior."
        )


def check_layer_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Widths of hidden layers as integers; raise unless all are positive whole numbers."""
    widths = tuple(sizes)
    if any(not isinstance(width, Integral) or width < 1 for width in widths):
        raise ValueError(f"{name}={sizes!r}: give the width of each hidden layer as a positive integer.")
    return tuple(int(width) for width in widths)


def resolve_behaviors(
    n_clusters: int | None, behaviors: Sequence[str] | str | None, known: Sequence[str]
) -> tuple[str, ...]:
    """The behaviours to fit: those named, or the first ``n_clusters`` known ones (four unless said otherwise)."""
    if behaviors is None:
        n = 4 if n_clusters is None else n_clusters
        if n > len(known):
            raise ValueError(
                f"n_clusters={n}, but there are {len(known)} behaviours to choose from: {', '.join(known)}."
            )
        return tuple(known[:n])
    chosen = (behaviors,) if isinstance(behaviors, str) else tuple(behaviors)
    unknown = [name for name in chosen if not isinstance(name, str) or name not in known]
    if unknown or not chosen:
        raise ValueError(f"behaviors={behaviors!r}: choose one or more of {', '.join(known)}.")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"behaviors={behaviors!r} names a behaviour twice.")
    if n_clusters is not None and n_clusters != len(chosen):
        raise ValueError(
            f"n_clusters={n_clusters} disagrees with the {len(chosen)} behaviors {chosen!r}. Give one of the two."
        )
    return chosen


def resolve_basis(basis: Sequence[str] | str | None, n_clusters: int, known: Sequence[str]) -> tuple[str, ...] | None:
    """A behaviour for each of K functions, those named in turn, equal ones next to each other; None stays None."""
    if basis is None:
        return None
    chosen = (basis,) if isinstance(basis, str) else tuple(basis)
    if not chosen or any(not isinstance(name, str) or name not in known for name in chosen):
        raise ValueError(f"basis={basis!r}: choose one or more of {', '.join(known)}.")
    chosen = tuple(str(name) for name in chosen)  # NumPy's strings among them
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"basis={basis!r} names a behaviour twice.")
    if len(chosen) > n_clusters:
        raise ValueError(f"basis={basis!r} names {len(chosen)} behaviours for n_clusters={n_clusters} functions.")
    return tuple(name for position, name in enumerate(chosen) for _ in range(position, n_clusters, len(chosen)))


def check_scale_bounds(bounds: Sequence[float]) -> tuple[float, float]:
    """Least and largest scale; raise unless they are two positive numbers in ascending order."""
    pair = tuple(bounds)
    if len(pair) != 2 or not all(isinstance(bound, Real) for bound in pair) or not 0 < pair[0] < pair[1] < math.inf:
        raise ValueError(f"scale_bounds={bounds!r}: give the least and the largest scale, 0 < least < largest.")
    return float(pair[0]), float(pair[1])
