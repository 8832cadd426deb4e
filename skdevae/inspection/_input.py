"""What an inspection starts from: the fitted model inside of a pipeline, and a table as it reaches that model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._base.estimator import LatentEstimator
from .._base.fitting import LatentVariableModel
from ..metrics._feature_names import input_names, modelled_names, output_names
from ..metrics._pipelines import flat_steps


@dataclass(frozen=True)
class Reached:
    """A fitted model, and a user's table as it reaches that model.

    Attributes
    ----------
    model : LatentEstimator
    table : array-like of shape (n_samples, n_features)
        The user's table, as the steps before the model transform it.
    names : list of str
        Names of the columns that are modelled.
    earlier : sequence of transformers
        The steps before the model that change units or columns.
    origin : list of int or None
        Which column of the user's table each modelled column is. None where the steps before the model mix columns, or
        cannot be reversed.
    """

    model: LatentEstimator
    table: Any
    names: list[str]
    earlier: Sequence[Any]
    origin: list[int] | None

    @property
    def is_reversible(self) -> bool:
        """Whether values on the scale of the model can be taken back to the user's units."""
        return self.origin is not None

    def in_user_units(self, values: np.ndarray) -> np.ndarray:
        """Values (P, D) of the modelled features in the user's units where they can be taken back, else as they are."""
        if self.origin is None or not self.earlier:
            return values
        modelled = self.model.modelled_columns_
        everything = np.zeros((len(values), self.model.n_features_in_))
        everything[:, modelled] = values
        for step in reversed(self.earlier):
            everything = np.asarray(step.inverse_transform(everything))
        return everything[:, self.origin]


def reach(estimator: Any, X: Any, *, needs_axis: bool = True) -> Reached:
    """The fitted model that a pipeline or search ends in, and X as it reaches that model.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of this package, a Pipeline that ends in one, or a search whose best estimator is one.
    X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
        In the user's units.
    needs_axis : bool, default=True
        Whether the latent must be an axis: one component, and curves of features along it.

    Raises
    ------
    ValueError
        If the estimator does not end in a fitted model of this package, or its latent is not one axis.
    """
    *steps, model = [step for _, step in flat_steps(estimator)]
    if not isinstance(model, LatentEstimator):
        raise ValueError(
            f"Expected a fitted estimator of skdevae, or a Pipeline that ends in one, but the last step is "
            f"{type(model).__name__}."
        )
    check_is_fitted(model, "module_")
    if needs_axis and not (isinstance(model, LatentVariableModel) and model.module_.n_components == 1):
        raise ValueError(
            f"{type(model).__name__} has a latent of {model.module_.n_components} components, and features "
            "change in an order along one axis only. Fit an estimator with n_components=1, such as BasisDeVAEClusterer."
        )
    table = X if hasattr(X, "shape") else np.asarray(X)
    names = before = input_names(estimator, table)
    are_kept, earlier = True, []
    for step in steps:
        n_before = table.shape[1]
        table = step.transform(table)
        if _is_imputer(step) and table.shape[1] == n_before:
            continue  # there is nothing to undo
        earlier.append(step)
        are_known = hasattr(step, "get_feature_names_out") or table.shape[1] == len(names)
        names = output_names(step, names, table.shape[1])
        can_be_undone = hasattr(step, "inverse_transform") and not _is_imputer(step)
        are_kept &= are_known and can_be_undone and set(names) <= set(before)
    if table.shape[1] != model.n_features_in_:
        raise ValueError(
            f"X has {table.shape[1]} features, but {type(model).__name__} is expecting {model.n_features_in_} features "
            "as input: give all columns that it was fitted to."
        )
    origin = [before.index(name) for name in modelled_names(model, names)] if are_kept else None
    # The model's own names, if it was fitted on a data frame, are more certain than those worked out here.
    names = modelled_names(model, list(getattr(model, "feature_names_in_", names)))
    return Reached(model, table, names, earlier, origin)


def _is_imputer(step: Any) -> bool:
    """Whether a step fills in missing entries, and leaves all others in their units."""
    return hasattr(step, "add_indicator") and hasattr(step, "missing_values")
