"""Canonical rows: sparse counts in the one form in which equal rows hold equal arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def canonical_counts(X: Any, first_row: int = 0) -> sp.csr_array:
    """A sparse table as a CSR array with sorted indices, without duplicates and explicit zeros; NaN is an error.

    ``first_row`` is the number, for the error, of the first row.
    """
    X = sp.csr_array(X)
    missing = np.isnan(X.data)
    if missing.any():
        entry = int(missing.argmax())
        row = first_row + int(np.searchsorted(X.indptr, entry, side="right")) - 1
        raise ValueError(
            "A sparse X must not contain NaN: pass tables with missing entries as dense arrays. The first NaN is in "
            f"row {row}, column {X.indices[entry]}."
        )
    if not X.has_canonical_format or (X.data == 0).any():
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    return X
