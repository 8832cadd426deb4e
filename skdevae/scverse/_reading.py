"""Reading: the table of an AnnData, with the names of its genes, and what is known of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..table.lacking_columns import first_names
from ..table.refused import is_anndata
from ..table.stored import StoredTable
from ..table.validation import check_real


@dataclass(frozen=True)
class Places:
    """Where, in an AnnData, the table stands and what is known of its cells.

    Attributes
    ----------
    layer : str or None
        None for ``adata.X``.
    batch_key : str or None
    covariate_keys : tuple of str
    size_factor_key : str or None
    key : str
        What results are named by.
    """

    layer: str | None
    batch_key: str | None
    covariate_keys: tuple[str, ...]
    size_factor_key: str | None
    key: str

    def facts(self, adata: Any, told: Places | None = None) -> dict[str, Any]:
        """What methods of estimators are told about the cells, beside the table.

        Covariates have the names that they had where the estimator was ``told`` of them, whatever ``adata`` calls them.
        """
        facts: dict[str, Any] = {}
        covariates = _covariates(adata, self.batch_key, self.covariate_keys)
        if covariates is not None:
            facts["covariates"] = covariates if told is None else covariates.set_axis(self._as_named(told), axis=1)
        if self.size_factor_key is not None:
            facts["size_factors"] = numbers_of_cells(adata, self.size_factor_key, "size_factor_key")
        return facts

    @property
    def _conditioning(self) -> tuple[str, ...]:
        return self.covariate_keys if self.batch_key is None else (self.batch_key, *self.covariate_keys)

    def _as_named(self, told: Places) -> list[str]:
        """Names that covariates had at fit: keys that it knew stay as they are, others follow in the order of fit."""
        if (self.batch_key is None) != (told.batch_key is None) or len(self.covariate_keys) != len(told.covariate_keys):
            raise ValueError(
                f"The model was fitted with batch_key={told.batch_key!r} and covariate_keys="
                f"{list(told.covariate_keys)}, and adata is read with batch_key={self.batch_key!r} and "
                f"covariate_keys={list(self.covariate_keys)}. Name one column of adata.obs for each of those of the "
                "fit, in the same order."
            )
        names = {} if told.batch_key is None else {self.batch_key: told.batch_key}
        others = iter(key for key in told.covariate_keys if key not in self.covariate_keys)
        names |= {key: key if key in told.covariate_keys else next(others) for key in self.covariate_keys}
        return [names[key] for key in self._conditioning]


def as_keys(keys: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several as a tuple."""
    return (keys,) if isinstance(keys, str) else tuple(keys)


def check_anndata(adata: Any) -> None:
    """Raise unless an object is an AnnData whose genes have names of their own."""
    if not is_anndata(adata):
        raise TypeError(
            f"adata is a {type(adata).__name__}, and no AnnData. Arrays and data frames go to the estimator's own "
            "methods: estimator.fit(X)."
        )
    if getattr(adata, "isbacked", False) and getattr(adata, "is_view", False):
        raise ValueError(
            "adata is a view of an AnnData that is backed by a file, and AnnData lets nobody write results into such a "
            "view. Pass adata.to_memory(); or pass the whole AnnData, whose genes to model are marked in "
            "adata.var['highly_variable']."
        )
    names = adata.var_names
    if not names.is_unique:
        raise ValueError(
            f"Several genes of adata are called {names[names.duplicated()][0]!r}. Call adata.var_names_make_unique() "
            "first: genes are told by their names."
        )


def of_cells(adata: Any, key: str, argument: str) -> pd.Series:
    """A column of ``adata.obs``; the message says which argument has named it."""
    if key not in adata.obs:
        known = ", ".join(repr(name) for name in adata.obs.columns) or "no columns"
        raise ValueError(f"{argument}={key!r} is no column of adata.obs, which has {known}.")
    return adata.obs[key]


def numbers_of_cells(adata: Any, key: str, argument: str) -> np.ndarray:
    """A column of ``adata.obs`` as numbers, NaN where there is none; raise where it holds something else."""
    values = of_cells(adata, key, argument)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    check_real(f"{argument}={key!r}", values.dtype)
    try:
        return values.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{argument}={key!r} is to be a column of numbers, and adata.obs[{key!r}] holds {values.dtype}, such as "
            f"{values.dropna().iloc[0]!r}. Stages that are ordered categories have numbers in adata.obs[{key!r}]"
            ".cat.codes."
        ) from error


def chosen_genes(adata: Any, use_highly_variable: bool) -> list[str]:
    """Names of the genes to be modelled."""
    if not use_highly_variable or "highly_variable" not in adata.var:
        return [str(name) for name in adata.var_names]
    chosen = _as_marks(adata.var["highly_variable"])
    if not chosen.any():
        raise ValueError(
            "No gene is marked in adata.var['highly_variable']. Mark some, as sc.pp.highly_variable_genes does, or "
            "pass use_highly_variable=False to model all genes."
        )
    return [str(name) for name in adata.var_names[chosen]]


def table_of(adata: Any, layer: str | None, genes: list[str], *, counts: bool) -> Any:
    """Some genes of an AnnData, by name and in this order: a data frame, or a stored table with names.

    Tables in memory are sparse where the model is one of counts and they are sparse there. Genes that the AnnData does
    not have are NaN, in a dense table.
    """
    X = _matrix(adata, layer)
    columns = adata.var_names.get_indexer(genes)
    known = columns[columns >= 0]
    stored = StoredTable.of(X)
    if stored is not None:
        if len(known) < len(genes):
            raise ValueError(
                "Genes that adata lacks can be left open in memory only, and adata is backed by a file: pass "
                "adata.to_memory()."
            )
        return stored.of_columns(columns).with_names(genes)
    if not sp.issparse(X) and not isinstance(X, np.ndarray):
        raise TypeError(
            f"The table of adata is a {type(X).__module__.partition('.')[0]} {type(X).__name__}. Pass "
            "adata.to_memory(); or fit the estimator to the table itself, estimator.fit(adata.X)."
        )
    X = X[:, known]
    if X.dtype == bool:
        X = X.astype(np.float32)
    if sp.issparse(X) and counts and len(known) == len(genes):
        return pd.DataFrame.sparse.from_spmatrix(sp.csc_matrix(X), index=adata.obs_names, columns=genes)
    dense = X.toarray() if sp.issparse(X) else np.asarray(X)
    if len(known) < len(genes):
        whole = np.full((adata.n_obs, len(genes)), np.nan, dtype=np.promote_types(dense.dtype, np.float32))
        whole[:, columns >= 0] = dense
        dense = whole
    return pd.DataFrame(dense, index=adata.obs_names, columns=genes)


def check_genes(adata: Any, genes: list[str], owner: str) -> None:
    """Raise where an AnnData lacks genes, and name them."""
    lacking = [gene for gene in genes if gene not in adata.var_names]
    if not lacking:
        return
    if len(lacking) == len(genes):
        raise ValueError(
            f"adata has none of the {len(genes)} genes that the {owner} was fitted to. Its genes are called "
            f"{first_names(list(adata.var_names))}, and those of the fit {first_names(genes)}: are these names of two "
            "kinds?"
        )
    raise ValueError(
        f"adata lacks {len(lacking)} of the {len(genes)} genes that the {owner} was fitted to: {first_names(lacking)}. "
        "Pass the AnnData before genes were filtered; or, if they were not measured, allow_missing_genes=True: they "
        "then say nothing about the cells."
    )


def _as_marks(column: pd.Series) -> np.ndarray:
    """Which genes a column marks, (D,). Where AnnData were concatenated, it is missing for genes that only one had."""
    marks = column.astype(object).where(column.notna(), False)
    other = [value for value in marks.unique() if value not in (True, False)]
    if other:
        raise ValueError(
            f"adata.var['highly_variable'] holds {other[0]!r}, which is neither True nor False. Make it a column of "
            "booleans, or pass use_highly_variable=False to model all genes."
        )
    return marks.to_numpy(dtype=bool)


def place_of(layer: str | None) -> str:
    """How messages call the table."""
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def _matrix(adata: Any, layer: str | None) -> Any:
    if layer is not None and layer not in adata.layers:
        known = ", ".join(repr(name) for name in adata.layers) or "none"
        raise ValueError(f"layer={layer!r} is no layer of adata. Its layers: {known}. layer=None is adata.X.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        known = ", ".join(repr(name) for name in adata.layers)
        raise ValueError(f"adata.X is None. Name the layer that has the table, layer=...: {known}.")
    return X


def _covariates(adata: Any, batch_key: str | None, covariate_keys: tuple[str, ...]) -> pd.DataFrame | None:
    """Columns of ``adata.obs`` that condition; batches are categories, whatever they are called."""
    columns = {key: of_cells(adata, key, "covariate_keys") for key in covariate_keys}
    if batch_key is not None:
        columns = {batch_key: of_cells(adata, batch_key, "batch_key").astype("category"), **columns}
    return pd.DataFrame(columns) if columns else None
