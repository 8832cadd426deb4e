"""Association tests: whether a feature changes along the axis that the other features make."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control
from sklearn.base import clone
from sklearn.utils import check_random_state

from .._base.answers import Query
from .._base.fitting import LatentVariableModel
from .._sklearn import Interval, StrOptions, validate_params, without_callbacks
from .._typing import CovariatesLike, RandomState, TableLike
from .._warnings import warn_user
from ..metrics._pipelines import given_facts
from ..table.components import principal_components
from ..table.covariates import CategoricalCovariate
from ..table.given_axis import GivenAxis
from ..table.passes import columns_in_memory
from ..table.row_labels import check_row_labels
from ..table.stored import StoredTable
from ..table.table import Table, Values
from ..table.validation import as_plain_table
from ..table.weighted_rows import checked_weights
from ..training.progress import counted, quietly
from ._input import reach
from ._permutation import Conditions, Floats, Integers, Places, Result, permutation_test, smooth_effects, strata

#: features of which moments are computed at a time
_BLOCK = 256
#: spread of positions, in prior sds, below which they are all the same up to rounding
_NO_AXIS = 1e-6

_NULLS = {
    "leave_one_out": "independent of the other features, given the covariates",
    "in_sample": "none: the feature has helped to make the axis, so small p-values are expected by chance",
    "axis": "independent of the given positions, given the covariates",
}


@dataclass(frozen=True)
class _Rows:
    """N rows, as they reach the estimator.

    Attributes
    ----------
    table : array-like, DataFrame or sparse array
        All columns.
    values : ndarray or CSR array of shape (N, D)
        The features.
    weight : ndarray of shape (N,)
    facts : dict
        What else the estimator is told of the rows.
    """

    table: Any
    values: Values
    weight: Floats
    facts: dict[str, Any]


@validate_params(
    {
        "method": [StrOptions({"leave_one_out", "in_sample"})],
        "n_groups": [Interval(Integral, 2, None, closed="left")],
        "n_permutations": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    },
    prefer_skip_nested_validation=True,
)
def association_test(
    estimator: Any,
    X: TableLike,
    *,
    method: Literal["leave_one_out", "in_sample"] = "leave_one_out",
    n_groups: int = 10,
    n_permutations: int = 999,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    axis: ArrayLike | None = None,
    axis_sd: ArrayLike | None = None,
    size_factors: ArrayLike | None = None,
    covariates: CovariatesLike = None,
    sample_weight: ArrayLike | None = None,
) -> pd.DataFrame:
    """Test whether each feature changes along the axis that the other features make.

    A feature that has helped to make an axis seems to change along it, even if it is noise. So a feature is tested
    along an axis that it has had no part in. The estimator is fitted again without the feature, which places the
    samples by their other features. Then it is asked how well a smooth curve along these positions describes the
    feature, and how well one does after the feature's values have been permuted among the samples.

    If a feature is independent of all others, its values may be permuted, whatever the axis is. So p-values are exact
    at any sample size and for any distribution of the feature, however good or bad the fit. What is tested is no more
    than this independence. A second measurement of the same thing, or a copy of a feature, makes an axis along which
    the first does change: leave such columns out.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with one axis, such as ``BasisDeVAEClusterer``, ``BasisVAEClusterer`` or
        ``DeVAETransformer``, or a Pipeline or search that ends in one.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        Samples in rows, in the user's units; as a rule the table that the estimator was fitted to. Samples must be
        independent of each other: keep one visit of each subject.
    method : {"leave_one_out", "in_sample"}, default="leave_one_out"
        ``"leave_one_out"`` is the test described above. ``"in_sample"`` tests along the axis of the fitted estimator,
        which each feature has helped to make. Its p-values are too small, and it is there to show by how much.
    n_groups : int, default=10
        Groups of features. Features of one group are left out of the axis together, so the estimator is fitted once
        for each group. More groups leave more features to make the axis. With as many groups as features, each is left
        out alone.
    n_permutations : int, default=999
        Permutations of the samples. The smallest p-value is ``1 / (1 + n_permutations)``. If only one of D features
        changes, it takes 20 D permutations for a q-value of 0.05; if many change, fewer will do.
    random_state : int, RandomState instance or None, default=None
        Seed of the permutations. Fits have the seed of the estimator.
    n_jobs : int, default=None
        Number of fits that run at the same time. None means 1, unless a ``joblib.parallel_config`` context says
        otherwise; -1 means one for each processor.
    axis : array-like of shape (n_samples,), default=None
        Known positions of the samples, as for ``fit``. Features are then tested along these positions, nothing is
        fitted, and ``method`` has no part in it: no feature has helped to make a given axis. Needed if the estimator
        was fitted with an axis. Samples whose position is NaN are left out.
    axis_sd : float or array-like of shape (n_samples,), default=None
        Standard deviation of the error of ``axis``, in its units. None means that it is exact.
    size_factors : array-like of shape (n_samples,), default=None
        As for ``fit``, of the rows of X.
    covariates : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_covariates), default=None
        As for ``fit``, of the rows of X.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each sample counts. Only ratios matter: whatever its weight, a sample is one observation.

    Returns
    -------
    tests : DataFrame of shape (n_features, 4)
        One row for each modelled feature, by name.

        - ``statistic``: log evidence of a smooth curve along the axis against none, in nats. The length and the size
          of the curve are averaged over.
        - ``p_value``: share of permutations that reach the statistic, the observed order counted as one of them.
        - ``q_value``: Benjamini and Hochberg's adjusted p-value, for the false discovery rate over all features.
        - ``effect_size``: share of the feature's variance that the curve explains, adjusted for its degrees of freedom
          as in adjusted R². Chance alone gives values around zero.

        All are NaN for features that do not vary, or not within the levels of the covariates. ``tests.attrs["null"]``
        says in words what was tested.

    Raises
    ------
    ValueError
        If the estimator has no single axis, was fitted with an axis and none is given, or models one feature only.

    Warns
    -----
    UserWarning
        If the features without those of a group make no axis. Samples are then placed along the first principal
        component of these features.

    See Also
    --------
    feature_table : What each feature does along the axis.
    event_order : In which order features change.

    Notes
    -----
    Steps of a pipeline before the estimator are taken as they are. Steps that treat each column by itself, such as a
    scaler, leave the test exact. Steps that mix columns do not: after a division by row totals, or an imputation from
    similar rows, columns are no longer independent.

    Groups are dealt out by the skewness of the features, which permutations do not change. They do not depend on the
    order of columns, or on anything that connects features.

    With covariates, values are permuted within the levels of categorical ones. Of numeric covariates a smooth effect is
    taken away, and what is left is permuted among samples with similar values. In the same way counts are compared with
    what is expected of the samples' sizes, in units of their noise, and permuted among samples of similar size.
    With numeric covariates or unequal sizes, p-values are therefore approximate.

    Where entries are missing, a feature's observed entries are permuted among the samples that have one. The test is
    exact if whether an entry is missing does not depend on its value.

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.inspection import association_test
    >>> X = make_progression(100, n_transient=0, n_increasing=3, n_decreasing=2, random_state=0).data
    >>> X = np.column_stack([X, np.random.default_rng(0).normal(size=100)])
    >>> model = DeVAETransformer(max_epochs=20, random_state=0).fit(X)
    >>> tests = association_test(model, X, n_groups=3, n_permutations=199, random_state=0)
    >>> (tests["q_value"] < 0.05).tolist()
    [True, True, True, True, True, False]
    """
    reached = reach(estimator, X)
    values, _ = reached.model._validate(reached.table, reset=False)
    check_row_labels(reached.table, sample_weight=sample_weight, axis=axis, axis_sd=axis_sd)
    weight = checked_weights(sample_weight, values)
    given = _given_places(axis, axis_sd, weight)
    if given is None and getattr(reached.model, "axis_is_given_", False):
        raise ValueError(
            "The estimator was fitted with a given axis, along which features are tested: pass axis=..., the known "
            "positions of the rows of X."
        )
    facts = given_facts(size_factors=size_factors, covariates=covariates)
    rows = _Rows(as_plain_table(reached.table), values, weight, facts)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    if given is not None or method == "in_sample":
        groups = [np.arange(values.shape[1])]
        found = [_tested(reached.model, rows, groups[0], given, n_permutations, seed)]
    else:
        groups = _groups(values, n_groups)
        tested = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_tested_without)(reached.model, rows, group, n_permutations, seed) for group in groups
        )
        found = list(counted(tested, "group of features", len(groups), bool(reached.model.verbose)))
    lost = sum(not has_axis for _, has_axis in found)
    if lost:
        warn_user(
            f"In {lost} of {len(found)} fits the features make no axis. Samples are placed along the first principal "
            "component of the same features there."
        )
    null = _NULLS["axis" if given is not None else method]
    return _as_frame([result for result, _ in found], groups, reached.names, null)


def _as_frame(found: Sequence[Result], groups: Sequence[Integers], names: Sequence[str], null: str) -> pd.DataFrame:
    order = np.argsort(np.concatenate(groups))
    columns = {name: np.concatenate([getattr(part, name) for part in found])[order] for name in Result._fields}
    q_value, known = np.full(len(names), np.nan), ~np.isnan(columns["p_value"])
    q_value[known] = false_discovery_control(columns["p_value"][known])
    frame = pd.DataFrame(columns, index=list(names))
    frame.insert(2, "q_value", q_value)
    frame.attrs["null"] = null
    return frame


# ---- groups of features ---------------------------------------------------------------------------------------------


def _groups(values: Values, n_groups: int) -> list[Integers]:
    """Numbers of the features that are left out together, of features (N, D) that are dealt out by their skewness."""
    n_features = values.shape[1]
    if n_features < 2:
        raise ValueError(
            "The estimator models one feature, and no others make an axis along which it could be tested. Fit it to "
            "more features, or give known positions as axis=..."
        )
    blocks = (np.arange(start, min(start + _BLOCK, n_features)) for start in range(0, n_features, _BLOCK))
    order = np.argsort(np.concatenate([_skewness(columns_in_memory(values, block)) for block in blocks]), kind="stable")
    n_groups = min(n_groups, n_features)
    return [order[first::n_groups] for first in range(n_groups)]


def _skewness(values: Floats) -> Floats:
    """Size of the third standardised moment of columns (N, D): it depends on neither their units nor their order."""
    observed = ~np.isnan(values)
    n_entries = observed.sum(0).clip(1)
    centred = np.where(observed, values, 0.0)
    centred = np.where(observed, centred - centred.sum(0) / n_entries, 0.0)
    largest = np.abs(centred).max(0)
    centred = centred / np.where(largest > 0, largest, 1.0)
    second, third = (centred**2).sum(0) / n_entries, (centred**3).sum(0) / n_entries
    return np.divide(np.abs(third), second**1.5, out=np.zeros_like(second), where=second > 0)


# ---- tests of a group of features ------------------------------------------------------------------------------------


def _tested_without(
    model: LatentVariableModel, rows: _Rows, group: Integers, n_permutations: int, seed: int
) -> tuple[Result, bool]:
    """Test a group of features along the axis of the others."""
    nothing = 0.0 if model._is_count_model() else np.nan
    blank = replace(rows, table=_blanked(rows.table, model.modelled_columns_[group], nothing))
    others = np.delete(rows.values, group, axis=1) if isinstance(rows.values, np.ndarray) else None
    if others is not None:  # rows that nothing places
        blank = replace(blank, weight=rows.weight * ~np.isnan(others).all(1))
    without = without_callbacks(clone(model)).set_params(orientation=None)
    with warnings.catch_warnings(), quietly():
        warnings.simplefilter("ignore")  # that the group has no entries, and what the first fit has warned of
        without.fit(blank.table, sample_weight=blank.weight, **blank.facts)
        return _tested(without, blank, group, None, n_permutations, seed)


def _tested(
    model: LatentVariableModel, rows: _Rows, group: Integers, places: Places | None, n_permutations: int, seed: int
) -> tuple[Result, bool]:
    """Test a group of features along the axis of a model, or where rows have given places; and whether there is one."""
    query, has_axis = model._for_inference(rows.table, **rows.facts), True
    if places is None:
        places, has_axis = _inferred_places(query, model._is_count_model())
    weight = np.where(np.isnan(places.mean), 0.0, rows.weight)
    conditions = _conditions(query.table, weight)
    return permutation_test(columns_in_memory(rows.values, group), places, conditions, n_permutations, seed), has_axis


def _inferred_places(query: Query, counts: bool) -> tuple[Places, bool]:
    """Where a model places rows; where it has found no axis, along their first principal component."""
    fields = query.inference.posterior(query.source)
    mean, sd = (part[:, 0].double().cpu().numpy() for part in (fields.mean, fields.sd))
    if mean.std() > _NO_AXIS:
        return Places(mean, sd), True
    score = principal_components(query.source, counts, 1)[:, 0]
    return Places(score, np.zeros_like(score)), False


def _given_places(axis: ArrayLike | None, axis_sd: ArrayLike | None, weight: Floats) -> Places | None:
    """Places of rows with known positions, NaN for rows without; None where nothing is known of any."""
    given = GivenAxis.checked(axis, axis_sd, weight)
    if given is None:
        return None
    known = np.isfinite(given.sd)
    if len(np.unique(given.position[known])) < 2:
        raise ValueError("axis has fewer than two different positions, along which nothing can change.")
    return Places(np.where(known, given.position, np.nan), np.where(known, given.sd, 0.0))


def _conditions(table: Table, weight: Floats) -> Conditions:
    """What rows are like beside their features, and which of them may be exchanged."""
    n_rows, context = len(table), table.context
    design = np.empty((n_rows, 0)) if context.covariates is None else context.covariates
    covariates = table.reader.covariates
    parts = [] if covariates is None else covariates.parts
    is_level = np.array([isinstance(part, CategoricalCovariate) for part in parts for _ in part.columns], dtype=bool)
    levels, numbers, size = design[:, is_level], [design[:, ~is_level]], np.ones(n_rows)
    effects = np.hstack([levels, *(smooth_effects(number) for number in numbers[0].T)])
    if context.log_size is not None:
        numbers.append(context.log_size[:, None])
        size = np.exp(context.log_size - context.log_size.mean())
    return Conditions(effects, size, weight, strata(levels, np.hstack(numbers)))


def _blanked(table: Any, columns: Integers, value: float) -> Any:
    """A table of which some columns teach nothing: all their entries are the same, or missing."""
    if isinstance(table, StoredTable):
        raise TypeError(
            "association_test fits the model again without some columns of X, and needs all of it in memory. Pass a "
            "table of which that is true, such as X[:] of a dataset on disk, X.compute() of Dask, or some of the rows."
        )
    if sp.issparse(table):
        kept = np.ones(table.shape[1])
        kept[columns] = 0.0
        return sp.csr_array(table) @ sp.diags_array(kept).tocsr()
    if hasattr(table, "columns"):
        frame = table.copy() if isinstance(table, pd.DataFrame) else _as_pandas(table)
        for column in columns:
            is_sparse = isinstance(frame.dtypes.iloc[column], pd.SparseDtype)
            blank = np.full(len(frame), value)
            frame.isetitem(int(column), pd.arrays.SparseArray(blank, fill_value=0.0) if is_sparse else blank)
        return frame
    blanked = np.array(table)
    if blanked.dtype.kind in "iub":
        blanked = blanked.astype(np.float64)
    blanked[:, columns] = value
    return blanked


def _as_pandas(table: Any) -> pd.DataFrame:
    return pd.DataFrame({name: np.asarray(table[name]) for name in table.columns})
