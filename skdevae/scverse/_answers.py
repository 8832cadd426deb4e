"""Answers: an estimator fitted to an AnnData, and what it says of other cells."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from .._base.estimator import LatentEstimator
from .._warnings import warn_user
from ..nn.likelihoods import LIKELIHOODS
from ._reading import (
    Places,
    as_keys,
    check_anndata,
    check_genes,
    chosen_genes,
    numbers_of_cells,
    place_of,
    table_of,
)
from ._writing import write_cells, write_fit, write_genes

#: what results are named by, unless the user says otherwise
_KEYS = {
    "BasisDeVAEClusterer": "basisdevae",
    "BasisVAEClusterer": "basisvae",
    "DGDEmbedder": "dgd",
    "DeVAETransformer": "devae",
    "VAETransformer": "vae",
    "VampVAE": "vamp",
}
#: fitted state of an estimator that says where its AnnData had what it was fitted to
_PLACES = "_places_"
#: cells that are looked at to tell raw counts from measurements
_ROWS_LOOKED_AT = 1000


def fit(
    estimator: Any,
    adata: Any,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    covariate_keys: str | Sequence[str] = (),
    size_factor_key: str | None = None,
    axis_key: str | None = None,
    weight_key: str | None = None,
    use_highly_variable: bool = True,
    key_added: str | None = None,
) -> Any:
    """Fit an estimator to an AnnData, and write what it says of cells and genes into it.

    The estimator itself is fitted, as ``estimator.fit`` does it, with the names of the genes as names of its features.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package. Its parameters say what the model is: for raw counts set ``likelihood="nb"``.
    adata : AnnData of shape (n_cells, n_genes)
        In memory, or backed by a file: the rows of ``adata.X`` are then read in chunks. Results are written into it.
    layer : str, default=None
        The layer that has the table. None takes ``adata.X``. Sparse measurements, such as log-normalised counts under
        ``likelihood="gaussian"``, become dense after genes are chosen.
    batch_key : str, default=None
        Column of ``adata.obs`` with the batches, a categorical covariate whatever its type. The model is then one of
        the genes given the batch.
    covariate_keys : str or sequence of str, default=()
        Columns of ``adata.obs`` with other covariates. Columns that hold strings, booleans or categories are
        categorical, others numeric.
    size_factor_key : str, default=None
        Column of ``adata.obs`` with sizes of the cells. None leaves them to the estimator's ``size_factors``, whose
        ``"sum"`` is the total count of the genes that are modelled.
    axis_key : str, default=None
        Column of ``adata.obs`` with known positions of the cells, such as a pseudotime, NaN where it is not known. The
        model is then fitted along this axis: see ``BasisDeVAEClusterer.fit``.
    weight_key : str, default=None
        Column of ``adata.obs`` with how often each cell counts, such as its share in a lineage. A cell of weight zero
        is placed and teaches nothing. None counts each cell once.
    use_highly_variable : bool, default=True
        Whether only the genes in ``adata.var["highly_variable"]`` are modelled, where there is such a column. False
        models all genes.
    key_added : str, default=None
        What results are named by. None means "basisdevae", "basisvae", "devae", "vae", "vamp" or "dgd", by the
        estimator.

    Returns
    -------
    estimator : estimator
        The estimator that was passed, which is fitted now. With the key "vamp", for example, it has written into
        ``adata`` what it has to say of:

        ``obsm["X_vamp"]`` : of all estimators
            Latents of the cells, of shape (n_cells, n_components): posterior means, or ``embedding_`` of
            :class:`~skdevae.DGDEmbedder`. It is what ``sc.pp.neighbors(adata, use_rep="X_vamp")`` takes.
        ``obs["vamp_position"]``, ``_sd``, ``_lower``, ``_upper``, ``_beyond_training`` : with one component
            The posterior of each cell's position, by its genes alone, with an interval of 95 %. With ``axis_key`` also
            ``_axis``, the position in units of that column.
        ``obs["vamp_cluster"]``, ``_cluster_probability`` : of DGDEmbedder, and of VampVAE with ``n_clusters``
            The most probable cluster of each cell, as a category, and its probability.
        ``var["vamp_used"]`` : of all estimators
            Whether a gene is modelled. What follows is missing for genes that are not.
        ``var["vamp_behaviour"]`` or ``var["vamp_cluster"]``, ``var["vamp_probability"]`` : of the two clusterers
            Behaviour (BasisDeVAEClusterer) or cluster (BasisVAEClusterer) of each gene, "uncertain" where the
            probability of the most probable one, which stands beside it, is below 0.8.
        ``var["vamp_direction"]``, ``_change``, ``_half_change``, ``_peak``, ``_order`` : with one component
            As in :func:`skdevae.inspection.feature_table`: what the gene does along the axis, by how much, where it has
            made half of its change, and where it turns. ``_half_change_quantile`` and ``_peak_quantile`` are these as
            shares of the cells. ``_order`` numbers the genes from the one that changes first. With ``axis_key`` there
            are ``_half_change_axis`` and ``_peak_axis``, in units of that column.
        ``uns["vamp"]`` : of all estimators
            The estimator's name and parameters, the version, and the keys that it was told.

        Columns with these names that an earlier fit has left are replaced or removed.

    Raises
    ------
    ValueError
        If a key or layer is missing, if genes share a name, if the estimator cannot take an axis or reads covariates
        from columns of X, and where the estimator's own ``fit`` raises.

    See Also
    --------
    transform : What the fitted estimator says of other cells.

    Examples
    --------
    >>> import anndata
    >>> from skdevae import VampVAE, scverse
    >>> from skdevae.datasets import make_cell_clusters
    >>> cells = make_cell_clusters(120, 40, weights=[1, 1], random_state=0)
    >>> adata = anndata.AnnData(cells.data.astype("float32"))
    >>> vamp = VampVAE(n_components=2, n_clusters=2, likelihood="nb", max_epochs=20, random_state=0)
    >>> vamp = scverse.fit(vamp, adata)
    >>> adata.obsm["X_vamp"].shape
    (120, 2)
    >>> adata.obs["vamp_cluster"].cat.categories.tolist()
    ['0', '1']
    """
    _check_estimator(estimator)
    check_anndata(adata)
    key = _key_of(estimator) if key_added is None else key_added
    places = Places(layer, batch_key, as_keys(covariate_keys), size_factor_key, key)
    genes = chosen_genes(adata, use_highly_variable)
    counts = LIKELIHOODS[estimator.likelihood].counts if estimator.likelihood in LIKELIHOODS else False
    table, facts = table_of(adata, layer, genes, counts=counts), places.facts(adata)
    axis = _axis_of(estimator, adata, axis_key)
    weights = None if weight_key is None else numbers_of_cells(adata, weight_key, "weight_key")
    _warn_of_counts(estimator, table, layer)
    with _note_of(adata, layer, genes):
        estimator.fit(table, sample_weight=weights, **facts, **({} if axis is None else {"axis": axis}))
    vars(estimator)[_PLACES] = asdict(places)
    write_cells(adata, key, estimator, table, facts, was_fitted=True)
    write_genes(adata, key, estimator, genes, table, {**facts, "sample_weight": weights, "axis": axis})
    write_fit(adata, key, estimator, {**asdict(places), "axis_key": axis_key, "weight_key": weight_key})
    return estimator


def transform(
    estimator: Any,
    adata: Any,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    covariate_keys: str | Sequence[str] = (),
    size_factor_key: str | None = None,
    key_added: str | None = None,
    allow_missing_genes: bool = False,
) -> np.ndarray:
    """Place the cells of an AnnData by a fitted estimator, and write what it says of them.

    Genes are found by their names: their order does not matter, and genes that the model does not know are left alone.

    Parameters
    ----------
    estimator : estimator
        Fitted by :func:`fit`; or by its own ``fit`` to a data frame whose columns are genes, as ``adata.to_df()``.
    adata : AnnData of shape (n_cells, n_genes)
        In memory, or backed by a file. Results are written into it.
    layer : str, default=None
        Key of ``adata.layers``. As at :func:`fit` where it is not given, and so for the next four.
    batch_key : str, default=None
        Column of ``adata.obs`` with batches.
    covariate_keys : str or sequence of str, default=()
        Columns of ``adata.obs`` that condition.
    size_factor_key : str, default=None
        Column of ``adata.obs`` with sizes of cells.
    key_added : str, default=None
        Name under which results are written.
    allow_missing_genes : bool, default=False
        Whether ``adata`` may lack genes of the fit. They then count as not observed, and the table becomes dense.

    Returns
    -------
    Z : ndarray of shape (n_cells, n_components)
        Latents of the cells. They are also in ``adata.obsm``; and ``adata.obs`` has positions or clusters, as after
        :func:`fit`. ``adata.var`` and ``adata.uns`` stay as they are.

    Raises
    ------
    ValueError
        If ``adata`` lacks genes, a layer or a column of ``obs`` that the model needs: the message names them.

    Warns
    -----
    UserWarning
        With the number of cells that are unlike those of the fit, as ``estimator.transform`` does.

    See Also
    --------
    fit : Fits an estimator to an AnnData.

    Examples
    --------
    >>> import anndata
    >>> from skdevae import BasisDeVAEClusterer, scverse
    >>> from skdevae.datasets import make_progression
    >>> cells = anndata.AnnData(make_progression(150, random_state=0).data)
    >>> study, others = cells[:100].copy(), cells[100:, ::-1].copy()
    >>> clusterer = scverse.fit(BasisDeVAEClusterer(max_epochs=20, random_state=0), study)
    >>> scverse.transform(clusterer, others).shape
    (50, 1)
    >>> others.obs.columns[0]
    'basisdevae_position'
    """
    _check_estimator(estimator)
    check_is_fitted(estimator, "module_")
    check_anndata(adata)
    genes = _genes_of(estimator)
    told = Places(**vars(estimator)[_PLACES]) if _PLACES in vars(estimator) else None
    known = told or Places(None, None, (), None, _key_of(estimator))
    places = Places(
        layer=known.layer if layer is None else layer,
        batch_key=known.batch_key if batch_key is None else batch_key,
        covariate_keys=as_keys(covariate_keys) or tuple(known.covariate_keys),
        size_factor_key=known.size_factor_key if size_factor_key is None else size_factor_key,
        key=known.key if key_added is None else key_added,
    )
    if not allow_missing_genes:
        check_genes(adata, genes, type(estimator).__name__)
    counts = LIKELIHOODS[estimator._config_["likelihood"]["name"]].counts
    table = table_of(adata, places.layer, genes, counts=counts)
    with _note_of(adata, places.layer, genes):
        return write_cells(adata, places.key, estimator, table, places.facts(adata, told), was_fitted=False)


def _check_estimator(estimator: Any) -> None:
    if not isinstance(estimator, LatentEstimator):
        if isinstance(estimator, type):
            raise ValueError(f"estimator is the class {estimator.__name__}. Pass an instance, {estimator.__name__}().")
        raise ValueError(
            f"estimator is a {type(estimator).__name__}, and no estimator of skdevae. Fit a search over such an "
            "estimator to adata.to_df(), and pass search.best_estimator_ to skdevae.scverse.transform. A pipeline "
            "changes the table before the model reads it: call its own methods, pipeline.fit_transform(adata.to_df()), "
            "and write what they say into adata.obsm."
        )
    if getattr(estimator, "covariates", None) is not None:
        raise ValueError(
            f"covariates={estimator.covariates!r} names columns of X, which are genes here: set it to None, and name "
            "columns of adata.obs as batch_key=... or covariate_keys=[...]."
        )


def _key_of(estimator: Any) -> str:
    names = [kind.__name__ for kind in type(estimator).__mro__]
    return next((_KEYS[name] for name in names if name in _KEYS), type(estimator).__name__.lower())


def _genes_of(estimator: Any) -> list[str]:
    """Names of the genes that an estimator was fitted to."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        raise ValueError(
            f"The {type(estimator).__name__} was fitted to a table without names, so nobody knows which genes it has "
            "seen. Fit it by skdevae.scverse.fit(estimator, adata), or to adata.to_df()."
        )
    return [str(name) for name in names]


def _warn_of_counts(estimator: Any, table: Any, layer: str | None) -> None:
    """Warn where measurements are asked for and the first rows look like raw counts, which would be mostly depth."""
    if estimator.likelihood != "gaussian":
        return
    rows = slice(0, min(len(table), _ROWS_LOOKED_AT))
    block = table.iloc[rows].to_numpy() if isinstance(table, pd.DataFrame) else table[rows]
    first = block.toarray() if sp.issparse(block) else block
    if (first >= 0).all() and first.max() > 1 and (first == np.floor(first)).all():
        warn_user(
            f"{place_of(layer)} holds whole numbers only, as raw counts do, and likelihood='gaussian' is one of "
            "measurements: what it finds is mostly the total count of a cell. For counts set likelihood='nb', with "
            "size_factors='sum' where the model has it; or pass log-normalised values."
        )


def _axis_of(estimator: Any, adata: Any, axis_key: str | None) -> np.ndarray | None:
    if axis_key is None:
        return None
    if "axis" not in inspect.signature(estimator.fit).parameters:
        raise ValueError(
            f"axis_key={axis_key!r}, but {type(estimator).__name__} has no axis that could be given. Choose "
            "BasisDeVAEClusterer, BasisVAEClusterer or DeVAETransformer, or leave axis_key out."
        )
    return numbers_of_cells(adata, axis_key, "axis_key")


@contextmanager
def _note_of(adata: Any, layer: str | None, genes: list[str]) -> Iterator[None]:
    """Where an estimator raises, a note says which of the tables it has read, and how many of the genes."""
    try:
        yield
    except (TypeError, ValueError) as error:
        others = [repr(name) for name in adata.layers if name != layer]
        of_others = f" adata also has the layers {', '.join(others)}: name one by layer=..." if others else ""
        n_read = int(adata.var_names.isin(genes).sum())
        some = "" if n_read == adata.n_vars else f", {n_read} of its {adata.n_vars} genes"
        error.add_note(f"The table that was read is {place_of(layer)}{some}.{of_others}")
        raise
