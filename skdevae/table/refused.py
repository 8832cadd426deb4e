"""Refused tables: objects that hold a table, or a table that a likelihood cannot read, and what to pass instead.

Nothing is imported of the libraries that these objects come from: what counts is what an object has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import scipy.sparse as sp

#: attributes that AnnData has, and no table
_OF_ANNDATA = ("X", "obs", "var", "obsm", "layers", "n_obs", "n_vars")
#: groups that a stored AnnData has
_GROUPS_OF_ANNDATA = ("X", "obs", "var")


def is_anndata(X: Any) -> bool:
    """Whether an object is an AnnData, or can do what one can."""
    return all(hasattr(type(X), name) or name in getattr(X, "__dict__", ()) for name in _OF_ANNDATA)


def check_is_table(X: Any) -> None:
    """Raise where what is passed holds a table among other things: the message says how to pass the table."""
    if is_anndata(X):
        layers = [repr(name) for name in X.layers][:3]
        of_layers = f", or one of its layers, such as adata.layers[{layers[0]}]" if layers else ""
        raise TypeError(
            f"X is an AnnData of {X.n_obs} cells x {X.n_vars} genes, which holds a table and what is known of its rows "
            "and columns. skdevae.scverse.fit(estimator, adata), and skdevae.scverse.transform where the estimator is "
            "fitted, keep the names of the genes and write into adata. All else takes the table: adata.to_df() or "
            f"adata.X{of_layers}."
        )
    attributes: Any = getattr(X, "attrs", None)
    if not isinstance(attributes, Mapping) or not hasattr(X, "keys") or hasattr(type(X), "columns"):
        return
    if attributes.get("encoding-type") == "anndata" or all(name in X for name in _GROUPS_OF_ANNDATA):
        layers = [f" or file[{f'layers/{name}'!r}]" for name in (X["layers"].keys() if "layers" in X else ())][:1]
        raise TypeError(
            "X is an AnnData in a file, which holds a table and what is known of its rows and columns. Pass the table, "
            f"file['X']{''.join(layers)}. Or open the file with anndata.read_h5ad(path, backed='r') and call "
            "skdevae.scverse.fit(estimator, adata), which keeps the names of the genes: rows are read in chunks."
        )


def check_not_sparse(X: Any, likelihood: str) -> None:
    """Raise where a table in memory is sparse: for likelihoods that are not of counts."""
    is_frame = isinstance(X, pd.DataFrame) and X.shape[1] > 0
    if sp.issparse(X) or (is_frame and all(isinstance(dtype, pd.SparseDtype) for dtype in X.dtypes)):
        raise TypeError(f"{sparse_complaint(likelihood)} Otherwise pass X.toarray(), if it fits into memory.")


def sparse_complaint(likelihood: str) -> str:
    """What is wrong with a sparse table under a likelihood that is not of counts, and what to do if it has counts."""
    return (
        f"Sparse data was passed, but likelihood={likelihood!r} is for measurements, and needs dense data. For counts "
        "set likelihood='nb'."
    )
