"""LatentEstimator: a fit that is whole or not there at all, and how a fitted model reads tables."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.history import History

from .._sklearn import CallbackSupport, FitTask, Interval, StrOptions, begin_fit, check_parameters
from .._typing import Activation, Callbacks, CovariatesLike, RandomState, SizeFactors, TableLike
from .._warnings import recorded_warnings
from ..inference import Inference, inference_for
from ..nn.layers import ACTIVATIONS
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import GenerativeModel
from ..nn.row_context import RowContext
from ..table.canonical import canonical_counts
from ..table.columns import Columns, find_columns
from ..table.conditioning import ConditioningColumns, covariate_table, without_rows
from ..table.covariates import Covariates
from ..table.dask_tables import known_here
from ..table.lacking_columns import explained_columns
from ..table.outliers import NO_OUTLIERS, Outliers, find_outliers
from ..table.refused import check_not_sparse
from ..table.row_labels import check_row_labels
from ..table.size_factors import settled_size_factors
from ..table.stored import StoredTable
from ..table.table import Table, TableReader, Values
from ..table.validation import (
    as_plain_table,
    check_counts,
    check_not_infinite,
    check_single_precision,
    check_stored,
    named_entries,
)
from ..training.interrupts import FitInterrupted, Interrupts
from ..training.net import ADVICE
from ..training.progress import Progress
from ..training.settings import FitSettings
from .answers import AnswersMixin
from .doc_link import DOC_LINK
from .persistence import restored, stored
from .summary import SummaryMixin, report_of_table, report_of_training


def is_fitted_state(name: str) -> bool:
    """Whether an attribute is what a fit has found: its name, private or not, ends with an underscore."""
    return name.endswith("_") and not name.endswith("__")


class LatentEstimator(SummaryMixin, AnswersMixin, CallbackSupport, BaseEstimator):
    """Base of all estimators: a fit that is whole or not there at all, and the answers of a fitted model.

    Subclasses fill in :meth:`_fit`, which works on an estimator without fitted state, and may set attributes as it goes
    along. Whatever ends with an underscore, private or not, is fitted state: it is taken over at the end of a fit, all
    at once. A fit that fails leaves the last one as it was.
    """

    # What scikit-learn's figure of an estimator links to. Classes of users, outside of skdevae, have no link.
    _doc_link_module: ClassVar[str] = "skdevae"
    _doc_link_template: ClassVar[str] = DOC_LINK

    # Parameters that every estimator has.
    likelihood: str
    activation: Activation
    noise_floor: float
    batch_size: int
    max_epochs: int | None
    n_iter_no_change: int
    tol: float
    n_init: int
    device: str
    random_state: RandomState
    verbose: int
    callbacks: Callbacks

    # Fitted state that every estimator has.
    module_: GenerativeModel
    history_: History
    n_iter_: int
    n_features_in_: int
    #: how tables are read
    _reader_: TableReader
    #: fields of what says which columns of X condition the others; None where none do
    _conditioning_: dict[str, Any] | None
    #: what :meth:`summary` says of the fit and nothing else knows: plain values
    _report_: dict[str, Any]

    _parameter_constraints: ClassVar[dict] = {
        "likelihood": [StrOptions(LIKELIHOODS.keys())],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "noise_floor": [Interval(Real, 0, 1, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [None, list, tuple],
    }
    #: what parameters that a saved file does not know stood for when it was saved, where that is not their default
    _parameters_of_older_files: ClassVar[dict[str, Any]] = {}
    #: Whether expected values follow the curves alone, so that a feature behaves as its curve does. Otherwise a
    #: likelihood may depend on the latent by other ways, as by excess zeros.
    _features_follow_curves: ClassVar[bool] = False
    #: Whether dispersions grow with the size of a sample. The log-likelihood is then linear in sizes too.
    _scales_dispersion: ClassVar[bool] = False
    #: parameters that a fitted model reads, where the estimator has them: they may have been set since the fit
    _parameters_of_answers: ClassVar[frozenset[str]] = frozenset(
        {"n_importance_samples", "latent_tol", "size_factors", "unknown_covariate"}
    )
    #: fitted attributes that have a value for each training row, and that no answer needs
    _of_training_rows: ClassVar[frozenset[str]] = frozenset()
    #: constraints of estimators with size factors
    _size_factor_constraints: ClassVar[dict] = {
        "size_factors": [None, StrOptions({"sum"}), "array-like", callable],
    }
    #: constraints of estimators with covariates
    _covariate_constraints: ClassVar[dict] = {
        "covariates": [None, str, Integral, "array-like", dict, callable],
        "unknown_covariate": [StrOptions({"error", "average"})],
    }

    # ---- a fit: whole, or not at all --------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, *table: Any, **facts: Any) -> None:
        """Fit this estimator, which has no fitted state, to a table and facts about its rows, and set all of it."""

    def _fit_afresh(self, X: TableLike, **facts: Any) -> Self:
        """Fit a copy of this estimator that has only its parameters, and take over what that has found."""
        trial = self._twin(with_fitted_state=False)
        check_row_labels(X, **facts)
        task = begin_fit(self, X)
        interrupts = trial._attempt(partial(trial._fit, X, **known_here(facts)), task)
        self._take_over(trial)
        if interrupts.noted:
            raise FitInterrupted(
                f"fit was interrupted after {self.n_iter_} epochs. What was learned until then is kept: the estimator "
                "is fitted. It is also this exception's attribute estimator (in a notebook: sys.last_value.estimator).",
                self,
            )
        return self

    def _twin(self, *, with_fitted_state: bool) -> Self:
        """Another estimator with the same attributes, or with only those that no fit has found."""
        twin = object.__new__(type(self))
        twin.__dict__ = {
            name: value for name, value in vars(self).items() if with_fitted_state or not is_fitted_state(name)
        }
        return twin

    def _attempt(self, fit: Callable[[], None], task: FitTask | None = None) -> Interrupts:
        """Run what fits this estimator, and check what it has found; the interrupts that have come meanwhile."""
        check_single_precision(self.get_params(deep=False))
        progress = Progress(self, bool(self.verbose), task)
        with Interrupts() as interrupts, recorded_warnings() as met, progress:
            try:
                fit()
                progress.end()
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
                raise ValueError(f"Training ended with a model that nothing can be computed from. {ADVICE}") from error
        interrupts.raise_if_abandoned()
        self._check_result()
        self._complete_report(met, interrupted=interrupts.noted)
        return interrupts

    def _complete_report(self, warnings: list[str], *, interrupted: bool) -> None:
        """Add to what :meth:`summary` reports how the training ended, and the warnings that were met."""
        settings, before = self._settings(), getattr(self, "_report_", {})
        training = report_of_training(
            self.history_, settings.n_iter_no_change, settings.tol, by_validation=settings.early_stopping
        )
        met = list(dict.fromkeys([*before.get("warnings", []), *warnings]))
        self._report_ = {**before, **training, "warnings": met, "interrupted": bool(interrupted)}

    def _take_over(self, trial: Self) -> Self:
        """Replace all fitted state by that of a trial."""
        own = {name: value for name, value in vars(self).items() if not is_fitted_state(name)}
        found = {name: value for name, value in vars(trial).items() if is_fitted_state(name)}
        self.__dict__ = own | found
        return self

    def _check_result(self) -> None:
        """Raise where a number that a fit has found is not finite."""
        for name, value in vars(self).items():
            if is_fitted_state(name) and isinstance(value, float) and not np.isfinite(value):
                raise ValueError(f"The fit ended with {name}={value}. {ADVICE}")

    def _settings(self) -> FitSettings:
        return FitSettings.of(self)

    def _likelihood_config(self) -> dict[str, Any]:
        """Name (in ``LIKELIHOODS``) and constructor arguments of the likelihood."""
        n_components = 0 if self._features_follow_curves else self._settings().n_components
        options = LIKELIHOODS[self.likelihood].options(noise_floor=self.noise_floor, n_components=n_components)
        if LIKELIHOODS[self.likelihood].has_dispersion:
            options["scales_dispersion"] = self._scales_dispersion
        return {"name": self.likelihood, **options}

    def _store_results(self) -> None:
        """Set the fitted attributes that are read off ``module_``."""
        device, columns = next(self.module_.parameters()).device, self._reader_.columns
        sizes = self._reader_.units.sizes
        units = torch.as_tensor(sizes if np.isscalar(sizes) else columns.of(sizes), dtype=torch.float64, device=device)
        for name, values in self.module_.likelihood.reported(units).items():
            setattr(self, name, columns.spread(values.cpu().numpy(), np.nan))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        counts = isinstance(self.likelihood, str) and self.likelihood in LIKELIHOODS and self._is_count_model()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = counts
        tags.input_tags.positive_only = counts
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.module_.n_components

    # ---- tables -----------------------------------------------------------------------------------------------------

    def _is_count_model(self) -> bool:
        return LIKELIHOODS[self.likelihood].counts

    def _validate(self, X: TableLike, reset: bool) -> tuple[Values, Any]:
        """The columns of a user's table that are modelled, and those that condition, as a data frame or None."""
        if reset:
            return self._validated(as_plain_table(X), reset)
        names, conditioning = getattr(self, "feature_names_in_", None), self._conditioning
        covariates = () if conditioning is None else conditioning.names
        X = as_plain_table(X)
        with explained_columns(X, names, self.n_features_in_, covariates):
            return self._validated(X, reset)

    def _validated(self, X: Any, reset: bool) -> tuple[Values, Any]:
        # Parameters set after a fit are for the next one.
        likelihood = self.likelihood if reset else self._config_["likelihood"]["name"]
        counts = LIKELIHOODS[likelihood].counts
        conditioning = None
        least_rows = 2 if reset else 1
        checks = {
            "accept_sparse": "csr" if counts else False,
            "dtype": [np.float64, np.float32],
            "ensure_all_finite": False,
            "ensure_min_samples": least_rows,
        }
        if reset:
            chosen = ConditioningColumns.chosen(X, self._settings().covariates)
            self._conditioning_ = None if chosen is None else vars(chosen)
        if self._conditioning is not None:
            validate_data(self, without_rows(X), reset=reset, skip_check_array=True)
            X, conditioning = self._conditioning.split(X)
        if isinstance(X, StoredTable):
            if conditioning is None:
                validate_data(self, without_rows(X), reset=reset, skip_check_array=True)
            check_stored(X, likelihood, counts=counts, least_rows=least_rows, names=self._feature_names())
            return X, conditioning
        if not counts:
            check_not_sparse(X, likelihood)
        with named_entries(X), np.errstate(over="ignore"):  # what overflows is infinite, and found below
            if conditioning is None:
                X = validate_data(self, X, reset=reset, **checks)
            else:
                X = check_array(X, estimator=self, input_name="X", **checks)
        check_not_infinite(X, self._feature_names())
        if sp.issparse(X):
            X = canonical_counts(X)
        if counts:
            check_counts(X, likelihood, self._feature_names())
        return X, conditioning

    @property
    def _conditioning(self) -> ConditioningColumns | None:
        fields = getattr(self, "_conditioning_", None)  # older files know of none
        return None if fields is None else ConditioningColumns(**fields)

    @property
    def modelled_columns_(self) -> np.ndarray:
        """Positions of the columns of X that are modelled.

        They are those that results on features are about: all but those that condition (``covariates``).

        Examples
        --------
        >>> import pandas as pd
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=2, n_decreasing=1, n_transient=0, as_frame=True, random_state=0).data
        >>> X.insert(1, "sex", ["f", "m"] * 30)
        >>> DeVAETransformer(covariates=["sex"], max_epochs=5, random_state=0).fit(X).modelled_columns_.tolist()
        [0, 2, 3]
        """
        check_is_fitted(self, "n_features_in_")
        conditioning = self._conditioning
        return np.arange(self.n_features_in_) if conditioning is None else conditioning.modelled

    def _feature_names(self) -> np.ndarray | None:
        """Names of the columns that are modelled."""
        names, conditioning = getattr(self, "feature_names_in_", None), self._conditioning
        return names if names is None or conditioning is None else names[conditioning.modelled]

    def _learn_covariates(
        self, of_columns: Any, given: CovariatesLike, n_rows: int, weights: np.ndarray | None = None
    ) -> tuple[Covariates | None, np.ndarray | None]:
        """Covariates of a training table, and their design (N, C): columns of it, and those that were given beside."""
        table = covariate_table(of_columns, given, n_rows)
        if table is None:
            return None, None
        kinds = None if self._conditioning is None else self._conditioning.kinds
        covariates, design = Covariates.learn(table, weights, kinds)
        return covariates, design if covariates.columns else None

    def _look_over(
        self,
        X: Values,
        size_factors: SizeFactors,
        weights: np.ndarray,
        held_out: np.ndarray | None = None,
    ) -> tuple[Columns, Outliers]:
        """Which columns of a training table have something to teach, and what training sets aside; with warnings.

        Rows (N,) that are held out teach nothing: a count column with events in these alone would be fitted a rate
        that falls with every epoch.
        """
        names = self._feature_names()
        columns = find_columns(X, self.likelihood, weights if held_out is None else weights * ~held_out, names)
        outliers = self._set_aside(X, columns, size_factors, weights)
        self._report_ = report_of_table(X, columns, outliers, weights, held_out)
        return columns, outliers

    def _set_aside(
        self, X: Values, columns: Columns, size_factors: SizeFactors, weights: np.ndarray, *, warns: bool = True
    ) -> Outliers:
        """What training sets aside of a table, with warnings unless these have been given before."""
        if columns.kind == "binary" or size_factors is not None:
            return NO_OUTLIERS  # rows that differ in size are not comparable as they are
        outliers = find_outliers(X, columns.kind == "counts", columns.kept, weights)
        if warns:
            outliers.warn(self._feature_names())
        return outliers

    def _pools_units(self) -> bool:
        """Whether all columns of measurements have one unit."""
        return False

    # ---- inference, in float64 and independent of how rows are batched ----------------------------------------------

    def _float64_module(self) -> GenerativeModel:
        return copy.deepcopy(self.module_).double().eval()

    def _inference(self) -> Inference:
        """How latents and likelihoods are inferred, with a float64 copy of the module."""
        return inference_for(self._float64_module(), self._settings().n_importance_samples)

    def _sizes_of(self, given: ArrayLike | None, likelihood: str) -> SizeFactors:
        """Size factors of a table's rows, given with them or by the estimator's rule; None without any."""
        return settled_size_factors(self._settings().size_factors, given, likelihood, type(self).__name__)

    def _read(self, X: TableLike, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None) -> Table:
        """A user's table as the fitted model reads it."""
        check_is_fitted(self, "module_")
        own = self._parameter_constraints
        constraints = {name: own[name] for name in self._parameters_of_answers & own.keys()}
        check_parameters(constraints, self.get_params(deep=False), type(self).__name__)
        check_row_labels(X, size_factors=size_factors, covariates=covariates)
        X, conditioning = self._validate(X, reset=False)
        unknown = self._settings().unknown_covariate
        design = self._reader_.design(conditioning, covariates, X.shape[0], unknown=unknown)
        sizes = self._sizes_of(size_factors, self._config_["likelihood"]["name"])
        return self._reader_.read(X, size_factors=sizes, context=RowContext(covariates=design))

    def _dtype_of(self, X: TableLike, **facts: Any) -> np.dtype:
        """The dtype in which a table is read; raises where its columns or facts do not suit the fitted model."""
        return self._read(X, **facts).values.dtype

    # ---- persistence ------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return stored(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters = inspect.signature(type(self).__init__).parameters
        defaults = {name: known.default for name, known in parameters.items() if known.default is not known.empty}
        settled = {**defaults, **self._parameters_of_older_files, **state}
        super().__setstate__(restored(settled, type(self).__name__))
