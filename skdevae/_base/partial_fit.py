"""Streams, as users see them: models on a grid that are fitted table by table."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from skorch.history import History

from .._sklearn import available_if, fit_context
from .._typing import CovariatesLike, SizeFactors, TableLike
from .._warnings import warn_user
from ..nn.binned_columns import N_BINS
from ..nn.models import ExactModel, build_model
from ..nn.row_context import RowContext
from ..table.precision import training_dtype
from ..table.row_labels import check_row_labels
from ..table.source import RowSource
from ..table.table import Table
from ..table.validation import check_rows, first_columns
from ..table.weighted_rows import checked_weights
from ..training.device import resolve_device
from ..training.exact import BETAS, grid_of
from ..training.fitting import TrainingOptions
from ..training.stream_sums import StreamSums, strata_of
from ..training.streaming import N_STEPS, Stream, bound_of, step_
from ..training.threads import fitting_threads
from .level_curves import LevelCurvesMixin

#: Relative difference up to which bounds are those of the same table. It is far above rounding, and far below what
#: other samples would make it.
_SAME_BOUND = 1e-3


def _is_exact(estimator: Any) -> bool:
    """True where the latent is integrated on a grid; else an AttributeError."""
    if estimator._resolved_inference() != "exact":
        raise AttributeError(
            "partial_fit needs inference='exact': an encoder is trained on rows, which sums cannot stand for."
        )
    return True


class StreamingMixin(LevelCurvesMixin):
    """Base of estimators that can be fitted to tables that come one after another."""

    #: rows that :meth:`partial_fit` has read
    n_samples_seen_: int
    #: what is known of these rows
    _stream_: Stream

    @available_if(_is_exact)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: TableLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        pass_ends: bool | None = None,
    ) -> Self:
        """Fit the model to one more table of a stream. Earlier tables need not be kept.

        The first call fits the model to its table as :meth:`fit` does, with all starts, annealing and the search for
        clusters. It decides what stays: the columns, their units, the scale of size factors, and which way the axis
        points. So the first table should be like the others, and have some hundreds of samples. After that, each call
        places the samples of its table on the axis, adds what they say of every feature to the sums of earlier tables,
        and moves curves and clusters to what the sums say. After every call the model answers as a fitted one does.

        A model that was fitted by :meth:`fit` goes on, too, if the first table is that of the fit once more.

        Parameters
        ----------
        X : array-like, DataFrame or (for count likelihoods) sparse array of shape (n_samples, n_features)
            Samples in rows, with the columns of the first table. One sample is enough after the first call.
        y : ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            As for :meth:`fit`.
        size_factors : array-like of shape (n_samples,), default=None
            As for :meth:`fit`. If the first table comes with sizes, all others have to.
        covariates : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_covariates), default=None
            As for :meth:`fit`. The first table needs every level that later ones have, and all tables come with
            covariates or none.
        pass_ends : bool, default=None
            None is stepwise expectation maximisation, for tables that are seen once: curves move at every call. Of all
            N samples so far, the n-th counts as much as the square root of n / N, so that places which samples had
            under early curves are forgotten.
            True and False make a pass over tables that can be read again, in chunks of any size and order. False holds
            the curves, and only adds the table to the sums of the pass. True adds the last table and ends the pass:
            the sums of the pass take the place of all former ones, and curves move. This is one step of expectation
            maximisation on all samples of the pass: up to rounding it is the same in whatever chunks and order they
            come, if none is set aside.

        Returns
        -------
        self : object
            The estimator, fitted to what it has seen.

        Raises
        ------
        ValueError
            As :meth:`fit` raises; if a later table has other columns than the first; if the model was fitted by
            :meth:`fit` to another table, of which it keeps no sums; with ``early_stopping`` or ``interactions``; or if
            a pass has begun that ``pass_ends=None`` would break. The model then stays as it was before the call, and so
            it does if the call is interrupted.

        Warns
        -----
        UserWarning
            If columns are constant in the first table (of counts: zero). They are left out for good. And if the first
            table has less than 20 samples.

        See Also
        --------
        fit : Fits the model to one table, and forgets all tables of a stream.

        Notes
        -----
        Samples and entries that are far from all others of their table are set aside as :meth:`fit` does it. That takes
        tables of 20 samples at least: of smaller ones everything is taken as it is. Behaviours are judged anew when a
        tenth more samples have come since they were last judged, and at the end of a pass.

        ``n_samples_seen_`` is the number of samples that were read, those of repeated passes included.
        ``lower_bound_`` is that of the sums, in which older samples count less. ``history_`` goes on from call to call,
        with one epoch for every update. ``n_init``, ``max_epochs`` and ``random_state`` are those of the first call.

        Examples
        --------
        >>> from skdevae import BasisDeVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> progression = make_progression(600, random_state=0)
        >>> clusterer = BasisDeVAEClusterer(random_state=0, max_epochs=60)
        >>> for chunk in progression.data.reshape(3, 200, -1):
        ...     clusterer = clusterer.partial_fit(chunk)
        >>> clusterer.n_samples_seen_
        600
        >>> clusterer.cluster_names_[clusterer.labels_[[0, 30, 40]]].tolist()
        ['transient', 'increasing', 'decreasing']
        """
        if pass_ends is not None and not isinstance(pass_ends, (bool, np.bool_)):
            raise ValueError(f"pass_ends={pass_ends!r}: give True, False or None.")
        ends = None if pass_ends is None else bool(pass_ends)
        trial = self._twin(with_fitted_state=True)
        facts = {"sample_weight": sample_weight, "size_factors": size_factors, "covariates": covariates}
        check_row_labels(X, **facts)
        step = partial(trial._partial_fit, X, facts, ends)
        if trial._attempt(step).noted:
            raise KeyboardInterrupt  # before the end of the call, so that nothing is kept
        return self._take_over(trial)

    def _partial_fit(self, X: TableLike, facts: dict[str, Any], pass_ends: bool | None) -> None:
        is_first, was_fitted = not hasattr(self, "_stream_"), hasattr(self, "module_")
        if is_first:
            self._check_can_stream()
            self.n_samples_seen_ = 0
        elif pass_ends is None and self._stream_.of_pass is not None:
            raise ValueError(
                "A pass has begun (pass_ends=False) and not ended. End it with pass_ends=True in the call with its "
                "last table."
            )
        if not was_fitted:
            self._fit(X, **facts)
        table, n_rows = self._read_chunk(X, **facts, warns=was_fitted)
        if is_first:
            self._warn_of_first_table(n_rows)
        self.n_samples_seen_ = self.n_samples_seen_ + n_rows
        dtype = training_dtype(table.values, self._is_count_model(), on_grid=True)
        source = table.source(torch.zeros((), dtype=dtype, device=resolve_device(self.device)))
        module = self._module_in_training(source)
        with fitting_threads(self._gains_from_threads(source)):
            if is_first:
                self._open_stream(module, table, source, in_pass=pass_ends is False, was_fitted=was_fitted)
            else:
                self._follow(module, table, source, pass_ends)

    def _open_stream(
        self, module: ExactModel, table: Table, source: RowSource, *, in_pass: bool, was_fitted: bool
    ) -> None:
        """Keep the sums of the table that the model was fitted to; raise if it is another one."""
        grid = grid_of(source, self._settings())
        sums = StreamSums.of(module, source, grid, table.row_constants())
        if was_fitted:
            bound = bound_of(module, sums, grid) + sums.constants / sums.n_rows
            is_that_of_fit = sums.n_rows == self._config_["n_samples"] and np.isclose(
                bound, self.lower_bound_, rtol=_SAME_BOUND, atol=_SAME_BOUND
            )
            if not is_that_of_fit:
                raise ValueError(
                    f"This {type(self).__name__} was fitted by fit, which keeps no sums that another table could be "
                    "added to. Give partial_fit the table of fit once more, as it was, and then others. Or start with "
                    "partial_fit on an unfitted copy (sklearn.base.clone)."
                )
        self._stream_ = Stream.opened(sums, grid, in_pass=in_pass)

    def _check_can_stream(self) -> None:
        """Raise where parameters ask for what no stream can have."""
        settings = self._settings()
        if getattr(self, "_axis_map_", None) is not None:
            raise ValueError(
                "The model was fitted along a given axis, and partial_fit finds its axis. Start with partial_fit on an "
                "unfitted copy (sklearn.base.clone)."
            )
        if settings.early_stopping:
            raise ValueError(
                "partial_fit holds out no rows, so early_stopping must be False. Score tables of your own between "
                "calls."
            )
        if self.interactions is not None:
            raise ValueError(
                "partial_fit compares no curves between levels: that needs the rows of all tables at once. Set "
                "interactions=None, or use fit."
            )

    def _warn_of_first_table(self, n_rows: int) -> None:
        """Warn where a first table has too little for what the stream keeps of it."""
        if n_rows < N_BINS:
            warn_user(
                f"The first table has {n_rows} samples only, and the stream keeps the units and the axis that are "
                "learned from it. Start with some hundreds."
            )
        left_out = self._reader_.columns.left_out
        if len(left_out):
            warn_user(
                f"The first table has one value only, or none, in {first_columns(self._feature_names(), left_out)}. "
                "These columns are left out, whatever later tables hold. If they do vary, start with a larger table, "
                "or with another."
            )

    def _read_chunk(
        self,
        X: TableLike,
        sample_weight: ArrayLike | None,
        size_factors: ArrayLike | None,
        covariates: CovariatesLike,
        *,
        warns: bool,
    ) -> tuple[Table, int]:
        """The rows of a table of the stream that training uses, and how many rows the table has."""
        values, conditioning = self._validate(X, reset=False)
        weight = checked_weights(sample_weight, values)
        check_rows(values, weight)
        reader = self._reader_
        sizes: SizeFactors = self._sizes_of(size_factors, self._config_["likelihood"]["name"])
        if reader.units.center is not None:
            reader.units.check_reach(cast(np.ndarray, values), self._feature_names())
        outliers = self._set_aside(values, reader.columns, sizes, weight, warns=warns)
        used = np.setdiff1d(np.nonzero(weight > 0)[0], outliers.rows)
        counts = None if (weight[used] == 1).all() else weight
        unknown = self._settings().unknown_covariate
        design = reader.design(conditioning, covariates, values.shape[0], unknown=unknown)
        table = reader.read(values, size_factors=sizes, context=RowContext(weight=counts, covariates=design))
        table = replace(table, bounds=outliers.bounds)
        return table if len(used) == len(table) else table.take(used), values.shape[0]

    def _module_in_training(self, source: RowSource) -> ExactModel:
        """A copy of the fitted module that gradient steps can move."""
        module = cast(ExactModel, build_model(self._config_, torch.Generator()))
        module.load_state_dict(self.module_.state_dict())
        return module.to(source.like)

    def _follow(self, module: ExactModel, table: Table, source: RowSource, pass_ends: bool | None) -> None:
        """Add a later table to the stream, and fit a module to its sums unless a pass goes on."""
        stream = self._stream_
        grid = stream.grid(module.n_components, source.like)
        strata = strata_of(module, source, stream.sums)
        self._check_strata(None if strata is None else strata.numpy())
        new = StreamSums.of(module, source, grid, table.row_constants(), stream.sums)
        if pass_ends is False:
            self._stream_ = stream.held(new)
        else:
            stream = stream.after_pass(new) if pass_ends else stream.after(new)
            options, judges = self._step_options(stream, new.n_rows), stream.is_to_be_judged
            history, bound = step_(module, stream.sums, grid, options, self.callbacks or (), judges=judges)
            self._stream_ = stream.judged() if judges else stream
            self.lower_bound_ = bound + stream.sums.constants / stream.sums.n_rows
            self._config_ = {**self._config_, "n_samples": stream.sums.n_rows}
            self.module_ = module.float().eval().requires_grad_(False)
            self.history_ = History([*self.history_, *history])
            self.n_iter_ = len(self.history_)
            self._store_results()
            self._effect_sds_ = None  # they are those of rows, of which sums know too little
        self._widen(source, new.n_rows / stream.sums.n_rows)

    def _step_options(self, stream: Stream, n_new: float) -> TrainingOptions:
        """How curves move: the less, the smaller the part of what they are fitted to that is new."""
        settings = self._settings()
        share = min(n_new / stream.sums.n_rows, 1 / stream.n_updates)
        rate = settings.learning_rate or self._training_defaults.exact_learning_rate
        options = settings.options(1, N_STEPS, learning_rate=rate, betas=BETAS, annealed_share=0.0)
        return replace(options, learning_rate=share * rate)

    def _widen(self, source: RowSource, share: float) -> None:
        """Take the rows of a table, a share of all, into the range of the training samples."""
        inference, in_float64 = self._inference(), source.to(torch.float64)
        model, placement = inference.model, inference.placed(in_float64)
        self._training_range_ = self._training_range_.including(model, in_float64, placement, min(share, 1.0))
        positions, (lowest, highest) = placement.position.cpu().numpy(), self._latent_range_
        lowest, highest = np.minimum(lowest, positions.min(0)), np.maximum(highest, positions.max(0))
        self._latent_range_ = np.stack([lowest, highest])
