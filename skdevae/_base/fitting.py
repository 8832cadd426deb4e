"""LatentVariableModel: how a model with an axis or an encoder is fitted, from starts to the best result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .._sklearn import Interval, StrOptions, fit_context
from .._typing import CovariatesLike, Integrator, LayerSizes, SizeFactors, TableLike
from .._warnings import warn_user
from ..inference import TrainingRange, placement_on_grid
from ..inference.base import has_many_strata
from ..nn.latent_grid import GridStatistics
from ..nn.likelihoods import LIKELIHOODS, ColumnSummary
from ..nn.models import AmortizedModel, ExactModel, GenerativeModel, build_model
from ..nn.strata import MOST_STRATA
from ..table.column_summary import summarize_columns
from ..table.components import landmarks, principal_components, starting_positions
from ..table.covariates import Covariates
from ..table.distributed import DistributedTable
from ..table.given_axis import GivenAxis, completed, components_beside
from ..table.grid_source import designs_of
from ..table.linear_effects import without_linear_effects
from ..table.precision import training_dtype
from ..table.source import RowSource
from ..table.table import Values
from ..table.validation import check_layer_sizes, check_rows
from ..table.weighted_rows import checked_weights, rows_of_a_fit
from ..training.amortized import fit_amortized
from ..training.batches import starting_statistics
from ..training.data_parallel import Processes, processes_of_a_fit
from ..training.device import resolve_device
from ..training.exact import MAX_EXACT_COMPONENTS, exact_options, fit_exact, grid_of, settle_
from ..training.fitting import Fit
from ..training.heats import worth_fitting
from ..training.progress import announce, labelled, numbered
from ..training.seeds import generator_from, spawn_seeds
from ..training.threads import fitting_threads
from .defaults import TrainingDefaults
from .estimator import LatentEstimator
from .grid_warnings import warn_of_grid
from .no_axis import warn_without_axis
from .orientation import axis_signs, orientation_reference, reference_of_rows
from .starts import Start, has_order_of, starts_from
from .stopping import warn_unless_met
from .totals import warn_if_totals_decide
from .training_table import TrainingTable, held_out_rows, own_sizes

#: width, in prior sds, of the bumps in which samples start around their first positions
_STARTING_WIDTH = 0.3


class LatentVariableModel(LatentEstimator):
    """Base of the estimators that are fitted by maximising a bound of the likelihood, on a grid or with an encoder.

    Subclasses say which decoder they fit (:meth:`_decoder_config`), whether features choose between curves
    (:meth:`_assignment_config`), and what is read off the result (:meth:`_store_results`). Parameters that only some of
    them have are read through :meth:`_settings`, which knows the value that they are settled to in the others.
    """

    hidden_layer_sizes: LayerSizes | None
    encoder_hidden_layer_sizes: LayerSizes
    orientation: str | int | None

    # Parameters of those whose decoders are integrals along an axis.
    integrator: Integrator
    n_knots: int
    z_max: float

    #: the bound that the fit maximised, in nats per training sample and the units of X
    lower_bound_: float
    #: fields of the map from a given axis to the latent; None where the axis was found
    _axis_map_: dict[str, np.ndarray] | None

    _training_defaults: ClassVar[TrainingDefaults] = TrainingDefaults()
    #: whether a start is one started model, which costs next to nothing
    _starts_once: ClassVar[bool] = True
    #: whether curves can follow a path that bends, and a fit may begin there
    _follows_paths: ClassVar[bool] = False
    #: whether covariates add to curves, and decoders see nothing of them
    _has_additive_effects: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict] = {
        **LatentEstimator._parameter_constraints,
        "hidden_layer_sizes": ["array-like"],
        "encoder_hidden_layer_sizes": ["array-like"],
        "weight_precision": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "kl_warmup": [Interval(Real, 0, 1, closed="both")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "orientation": [None, str, Integral],
    }
    #: constraints on what exact inference and derivative decoders need
    _grid_constraints: ClassVar[dict] = {
        "inference": [StrOptions({"exact", "amortized"})],
        "integrator": [StrOptions({"grid", "gauss-legendre"})],
        "n_knots": [Interval(Integral, 3, None, closed="left")],
        "n_grid_points": [None, Interval(Integral, 3, None, closed="left")],
        "z_max": [Interval(Real, 0, None, closed="neither")],
    }

    # ---- hooks ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        """Name (in ``DECODERS``) and constructor arguments of the decoder: plain values, kept for persistence."""

    def _assignment_config(self) -> dict[str, Any] | None:
        """Name (in ``ASSIGNMENTS``) and arguments, where features choose between curves; else None."""
        return None

    def _latent_config(self, n_rows: int) -> dict[str, Any]:
        """Prior (name and arguments, in ``PRIORS``) and posterior family (``POSTERIORS``) of an amortised model."""
        return {"prior": {"name": "normal"}, "posterior_family": {"name": "normal"}, "variational": True}

    def _encoder_options(self) -> dict[str, Any]:
        """Arguments of the encoder beside those that every estimator has."""
        return {}

    def _starting_inputs(self, module: AmortizedModel, source: RowSource, seed: int) -> Tensor | None:
        """Rows (K, D), on the encoder's scale, that a prior with components of its own starts from."""
        return None

    def _gains_from_threads(self, source: RowSource) -> bool:
        """Whether so much is computed at once that a second thread is worth waiting for."""
        return source.is_large

    def _margin(self) -> float | None:
        """Share of its range by which a curve may break its behaviour's rule; None where behaviours are not judged."""
        return None

    def _advice_without_axis(self) -> str:
        """What a user may do where a fit finds no axis, as a sentence after a blank; or nothing."""
        return ""

    def _settle_parameters(self) -> None:
        """Set the fitted attributes that parameters become once the columns of X are known."""

    def _preferred_directions(self) -> int | np.ndarray:
        """Whether features should rise (1) or fall (-1) along an axis where nothing else is asked: one, or (D,)."""
        return 1

    def _axes_are_free(self) -> bool:
        """Whether nothing but the user's wish decides which end of an axis is up."""
        return True

    def _started(
        self, module: GenerativeModel, source: RowSource, start: Tensor, summary: ColumnSummary, seed: int
    ) -> Iterator[tuple[GenerativeModel, float]]:
        """A fresh module started from a first guess (N, Q) of the latent of every row.

        Rows of the source are comparable: counts are divided by size factors, and effects of covariates are taken away.
        There may be several starts, of which the best is kept. Each comes with what is then taken off its bound, in
        nats per sample.
        """
        self._initialize_(module, source, start, summary, seed)
        yield module, 0.0

    def _initialize_(
        self, module: GenerativeModel, source: RowSource, start: Tensor, summary: ColumnSummary, seed: int
    ) -> GridStatistics:
        """Start a module from a first guess (N, Q) of the latent of every row; the sums that it was started from."""
        points = self._starting_points(source, start, seed)
        sums = self._starting_sums(module, source, start, points)
        module.initialize_(sums, summary, points)
        return sums

    @staticmethod
    def _starting_sums(module: GenerativeModel, source: RowSource, start: Tensor, points: Tensor) -> GridStatistics:
        with_positive = module.likelihood.has_positive_term
        return starting_statistics(source, start, _STARTING_WIDTH, points, with_positive)

    def _starting_points(self, source: RowSource, start: Tensor, seed: int) -> Tensor:
        """Points (P, Q) that stand for first guesses (N, Q): of the grid, or where samples are dense."""
        settings = self._settings()
        if settings.n_components <= MAX_EXACT_COMPONENTS:
            return grid_of(source, settings).points
        return torch.from_numpy(landmarks(start.cpu().numpy(), seed, source.context.weight)).to(start)

    def _resolved_inference(self) -> str:
        settings = self._settings()
        if settings.inference == "exact":
            if settings.n_components > MAX_EXACT_COMPONENTS:
                raise ValueError(
                    f"inference='exact' integrates the latent on a grid, of at most {MAX_EXACT_COMPONENTS} dimensions; "
                    f"n_components={settings.n_components} needs inference='amortized'."
                )
            if not LIKELIHOODS[self.likelihood].is_linear:
                raise ValueError(
                    f"inference='exact' needs a log-likelihood that is linear in the data, which "
                    f"likelihood={self.likelihood!r} is not. Choose inference='amortized'."
                )
        return settings.inference

    # ---- the module -------------------------------------------------------------------------------------------------

    def _module_config(self, source: RowSource, has_missing: bool) -> dict[str, Any]:
        """All that :func:`~skdevae.nn.models.build_model` asks for, to fit it to the rows of a source."""
        settings = self._settings()
        encoder = None
        if self._resolved_inference() == "amortized":
            encoder = {
                "hidden_layer_sizes": check_layer_sizes("encoder_hidden_layer_sizes", self.encoder_hidden_layer_sizes),
                "activation": self.activation,
                "counts": self._is_count_model(),
                "sees_mask": has_missing,
                "average_covariates": self._reader_.average_design,
                **self._encoder_options(),
            }
        return {
            "n_samples": source.total_weight,
            "n_features": source.n_features,
            "average_covariates": self._reader_.average_design if self._has_additive_effects else [],
            "n_components": int(settings.n_components),
            "decoder": self._decoder_config(source.n_features),
            "likelihood": self._likelihood_config(),
            "assignment": self._assignment_config(),
            "encoder": encoder,
            "many_strata": self._has_additive_effects and has_many_strata(source),
            **self._latent_config(len(source)),
            "z_max": float(settings.z_max),
            "weight_precision": None if settings.weight_precision is None else float(settings.weight_precision),
            "margin": self._margin(),
            "beta": float(settings.beta),
            "gamma": float(settings.gamma),
        }

    def _integrated_network_config(self) -> dict[str, Any]:
        """Arguments of decoders whose network is integrated along the axis."""
        return {
            "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", self.hidden_layer_sizes or ()),
            "activation": self.activation,
            "integrator": self.integrator,
            "n_knots": int(self.n_knots),
            "z_max": float(self.z_max),
        }

    # ---- fitting ----------------------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: TableLike,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        orientation: ArrayLike | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like, DataFrame or (for count likelihoods) sparse array of shape (n_samples, n_features)
            Samples in rows. NaN marks a missing entry of a dense table. A table on disk is never held in memory as a
            whole: a two-dimensional dataset of h5py or zarr, a CSR matrix in AnnData's layout (a group of h5py or zarr,
            or the ``X`` of an AnnData in backed mode), or any object with a shape whose slices of rows are arrays or
            sparse arrays. A table of Dask stays where it is: a ``dask.array``, a ``dask.dataframe``, or a list of
            delayed chunks (extra ``dask``). Where the latent is on a grid, sums over its rows are made on the workers.
            Otherwise it is read chunk by chunk.
        y : ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each sample counts; None means once. A sample of weight zero is as if it were absent. Weights
            times c are c times as much data, beside which priors matter less: survey weights are best divided by their
            mean.
        size_factors : array-like of shape (n_samples,), default=None
            Sizes of the samples: what their expected counts are multiplied by. Only their ratios matter. None leaves
            them to the parameter of the same name. A model that is fitted with sizes needs those of the rows of every
            table that it is asked about.
        covariates : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_covariates), default=None
            Variables that condition and are not modelled: sex, site, batch, age. Columns that hold strings, booleans or
            categories are categorical, others numeric. A model that is fitted with covariates needs those of the rows
            of every table that it is asked about.
        orientation : array-like of shape (n_samples,), default=None
            A variable that should rise along the (first) axis: age or stage, say. It decides which end of the axis is
            up. Starts point that way, too, so scores of two directions differ a little. Overrides the parameter of the
            same name.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a row has no observed entry, if parameters contradict each
            other, or if the loss stops being finite. What an earlier fit has found then stays as it was.
        KeyboardInterrupt
            Where Ctrl-C is pressed. From the end of the first epoch on, the estimator keeps what was learned.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skdevae import VAETransformer
        >>> VAETransformer(max_epochs=5, random_state=0).fit(load_iris().data).n_iter_
        5
        """
        return self._fit_afresh(
            X, sample_weight=sample_weight, size_factors=size_factors, covariates=covariates, orientation=orientation
        )

    def _fit(
        self,
        X: TableLike,
        *,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
        orientation: ArrayLike | None = None,
        axis: ArrayLike | None = None,
        axis_sd: ArrayLike | None = None,
    ) -> None:
        X, conditioning = self._validate(X, reset=True)
        names = self._feature_names()
        weight = checked_weights(sample_weight, X)
        check_rows(X, weight)
        learned = self._learn_covariates(conditioning, covariates, X.shape[0], weight)
        self._settle_parameters()
        given_axis = GivenAxis.checked(axis, axis_sd, weight)
        if given_axis is not None:
            self._check_axis_suits(orientation)
        reference = orientation_reference(X, self.orientation, orientation, names, weight)
        settings = self._settings()
        processes = processes_of_a_fit(settings.data_parallel, settings.device)
        announce("reading the table")
        split_seed, *seeds = processes.of_the_first(spawn_seeds(settings.random_state, 1 + settings.n_init))
        training, held_out = self._learn(X, weight, self._settled_sizes(size_factors), learned, given_axis, split_seed)
        self._reader_, table = training.table.reader, training.table
        if reference is not None:
            reference = reference_of_rows(reference, weight, training.rows)
        is_exact = self._resolved_inference() == "exact"
        dtype = training_dtype(table.values, self._is_count_model(), on_grid=is_exact)
        sums_elsewhere = is_exact and isinstance(table.values, DistributedTable)
        device = torch.device("cpu") if sums_elsewhere and self.device == "auto" else resolve_device(self.device)
        everything = table.source(torch.zeros((), dtype=dtype, device=device))
        processes.check_same_table(everything)
        train_index, source, validation = self._split(everything, held_out)
        self._check_strata(designs_of(source))
        self._config_ = self._module_config(source, table.has_missing)
        with fitting_threads(self._gains_from_threads(everything)):
            wanted = reference[train_index] if reference is not None and self._axes_are_free() else None
            fits = self._fit_starts(self._starts(source, wanted, seeds), source, validation, processes)
            best = max(fits, key=lambda fit: fit.lower_bound)
            constants = np.broadcast_to(table.take(train_index).row_constants(), len(source))
            self.lower_bound_ = best.lower_bound + float(np.average(constants, weights=source.context.weight))
            self._keep(best, training, everything, reference)
        warn_unless_met(settings, best.history, best.ran_out)
        if not best.has_axis and not fits[-1].interrupted:
            warn_without_axis(self._advice_without_axis())

    def _check_axis_suits(self, orientation: ArrayLike | None) -> None:
        """Raise where a given axis contradicts what else is asked of a fit."""
        if orientation is not None or self.orientation is not None:
            raise ValueError(
                "axis and orientation are both given, but an axis that is given has its direction: leave orientation "
                "out, or let it be the axis with its sign changed."
            )
        if self._resolved_inference() != "exact":
            raise ValueError(
                "axis says where samples are, and an encoder would not know of it: it needs inference='exact', with "
                f"{MAX_EXACT_COMPONENTS} components at most and a likelihood that is linear in the data."
            )

    def _settled_sizes(self, given: ArrayLike | None) -> SizeFactors:
        """Size factors of the training table; a ValueError where exact inference has no use for them."""
        sizes = self._sizes_of(given, self.likelihood)
        if sizes is not None and self._resolved_inference() == "exact" and self.likelihood == "zinb":
            raise ValueError(
                "inference='exact' has no size factors with likelihood='zinb': an excess zero says nothing of a "
                "sample's size, so the log-likelihood is not linear in it. Choose likelihood='nb', "
                "inference='amortized', or size_factors=None."
            )
        return sizes

    def _check_strata(self, designs: np.ndarray | None) -> None:
        """Raise where exact inference would need coefficients for too many combinations of covariates, (L, C)."""
        if self._resolved_inference() != "exact" or not self._is_count_model():
            return
        if designs is not None and len(designs) > MOST_STRATA:
            raise ValueError(
                f"inference='exact' with likelihood={self.likelihood!r} takes covariates of {MOST_STRATA} different "
                f"combinations of values at most, and these have {len(designs)}. Put numeric covariates into a few "
                "classes, leave some covariates out, or choose inference='amortized'."
            )

    def _learn(
        self,
        X: Values,
        weight: np.ndarray,
        size_factors: SizeFactors,
        covariates: tuple[Covariates | None, np.ndarray | None],
        axis: GivenAxis | None,
        seed: int,
    ) -> tuple[TrainingTable, np.ndarray | None]:
        """The training table of samples (N, D) with weights (N,), and which of its rows are held out.

        ``covariates`` are what :meth:`_learn_covariates` gives.
        """
        sizes, (known_covariates, design) = own_sizes(X, size_factors), covariates
        of_axis = () if axis is None else (axis.position, axis.sd)
        rows = rows_of_a_fit(X, weight, sizes, design, *of_axis)
        held_out = self._held_out(rows.weights, seed)
        of_samples = None if held_out is None else rows.spread(held_out)
        columns, outliers = self._look_over(X, size_factors, weight, of_samples)
        used = rows.without(outliers.rows)
        training = TrainingTable.learn(
            X,
            used,
            likelihood=self.likelihood,
            columns=columns,
            outliers=outliers,
            size_factors=size_factors,
            sizes=sizes,
            covariates=known_covariates,
            design=design,
            axis=axis,
            pooled_units=self._pools_units(),
        )
        if of_samples is not None:
            held_out = of_samples[used.index]
            if not held_out.any() or held_out.all():  # what is left of a few rows without outliers
                held_out = self._held_out(used.weights, seed)
        return training, held_out

    def _held_out(self, weights: np.ndarray, seed: int) -> np.ndarray | None:
        """Which rows, of weights (N,), are held out for early stopping, (N,) of booleans; None without it."""
        settings = self._settings()
        return held_out_rows(weights, settings.validation_fraction, seed) if settings.early_stopping else None

    @staticmethod
    def _split(everything: RowSource, held_out: np.ndarray | None) -> tuple[np.ndarray, RowSource, RowSource | None]:
        """Training rows, their source, and the source of the rows that are held out."""
        if held_out is None:
            return np.arange(len(everything)), everything, None
        train = np.nonzero(~held_out)[0]
        return train, everything.take(train), everything.take(np.nonzero(held_out)[0])

    def _starts(self, source: RowSource, reference: np.ndarray | None, seeds: list[int]) -> Iterator[Start]:
        """The starts of a fit, pointing as asked: the first has a path that bends beside it."""
        mean, sd = source.context.axis, source.context.axis_sd
        if mean is not None and sd is not None:
            yield from self._starts_along(mean, sd, source, seeds)
            return
        n_components = self._settings().n_components
        announce("principal components")
        scores = principal_components(source, self._is_count_model(), n_components)
        with_path = self._follows_paths and n_components == 1 and self._resolved_inference() == "exact"
        for start in starts_from(scores, n_components, seeds, source.context.weight, with_path=with_path):
            yield self._pointing(start, source, reference)

    def _pointing(self, start: Start, source: RowSource, reference: np.ndarray | None) -> Start:
        """A start with its axes pointing as asked."""
        path = None if start.path is None else self._pointing(start.path, source, reference)
        return replace(start, positions=self._signs(source, start.positions, reference) * start.positions, path=path)

    def _starts_along(self, mean: np.ndarray, sd: np.ndarray, source: RowSource, seeds: list[int]) -> Iterator[Start]:
        """Starts along an axis of which means and sds (N,) are known beforehand: one if it is the only axis.

        Others start from the leading components of what the first leaves.
        """
        n_others, weights = self._settings().n_components - 1, source.weights
        scores = principal_components(source, self._is_count_model(), 1 + n_others)
        axis = completed(mean, sd, scores, weights)
        if not n_others:
            yield Start(seeds[0], axis[:, None])
            return
        rest = components_beside(axis, scores, weights)
        for restart, seed in enumerate(seeds):
            positions = np.column_stack([axis, starting_positions(rest, n_others, restart, seed, weights)])
            yield Start(seed, self._signs(source, positions, None) * positions)

    def _signs(self, source: RowSource, positions: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """For each axis of positions (N, Q), 1 if it points as asked and -1 if it should be reversed: (Q,)."""
        signs = axis_signs(source, positions, reference, self._preferred_directions())
        if source.context.axis is not None:
            signs[0] = 1
        return signs

    def _fit_starts(
        self,
        starts: Iterator[Start],
        source: RowSource,
        validation: RowSource | None,
        processes: Processes,
    ) -> list[Fit]:
        """Fits of the starts that are worth it, or of those up to the one that was interrupted."""
        fits: list[Fit] = []
        for start in numbered(list(self._worth_fitting(starts, source)), "start"):
            fits += self._fits_from(start, source, validation, processes)
            if fits[-1].interrupted:
                break
        return fits

    def _fits_from(
        self, start: Start, source: RowSource, validation: RowSource | None, processes: Processes
    ) -> list[Fit]:
        """The fit of a start, and that of its path where the first has found another order of rows."""
        module = build_model(self._config_, generator_from(start.seed)).to(source.like)
        fit, path = self._fit_module(module, source, validation, start, processes), start.path
        if path is None or fit.interrupted or not fit.has_axis or has_order_of(fit.module, source, path.positions):
            return [fit]
        with labelled("along a path"):
            return [fit, *self._fits_from(path, source, validation, processes)]

    def _worth_fitting(self, starts: Iterator[Start], source: RowSource) -> Iterable[Start]:
        """The first start, and the one that has won a short run of all of them side by side; else all starts."""
        settings = self._settings()
        if settings.n_init == 1 or not self._has_heats(source):
            return starts
        every, source = list(starts), source.in_memory()
        announce(f"short runs of {len(every)} starts, side by side")
        modules = []
        summary = summarize_columns(source, self._is_count_model())
        for start in every:
            module = build_model(self._config_, generator_from(start.seed)).to(source.like)
            [(started, _)] = self._modules_started(module, source, summary, start)
            modules.append(cast(ExactModel, started))
        numbers = worth_fitting(modules, source, summary, settings, self._training_defaults)
        return [every[number] for number in numbers]

    def _has_heats(self, source: RowSource) -> bool:
        """Whether starts run side by side before some are fitted.

        A large table keeps the processor as busy with one start as with several.
        """
        context = source.context
        is_simple = context.axis is None and (context.covariates is None or not self._has_additive_effects)
        is_exact = self._resolved_inference() == "exact"
        return is_exact and is_simple and self._starts_once and not source.is_large

    def _modules_started(
        self, module: GenerativeModel, source: RowSource, summary: ColumnSummary, start: Start
    ) -> Iterator[tuple[GenerativeModel, float]]:
        """:meth:`_started` from a start for the rows of ``source``, which has a summary."""
        positions = torch.from_numpy(start.positions).to(source.like)
        comparable = without_linear_effects(source, module.likelihood.counts)
        if comparable.effects is not None:
            module.start_effects_(torch.from_numpy(comparable.effects))
        moments = summary if comparable is source else summarize_columns(comparable, counts=False)
        comparable = comparable.normalized()
        if not start.follows_path:
            yield from self._started(module, comparable, positions, moments, start.seed)
            return
        settings, exact = self._settings(), cast(ExactModel, module)
        grid = grid_of(source, settings)
        options = exact_options(source, grid, settings, self._training_defaults, follows_path=True)
        announce("settling curves")
        sums = self._initialize_(exact, comparable, positions, moments, start.seed)
        settle_(exact, sums, moments, grid, options)
        yield exact, 0.0

    def _fit_module(
        self,
        module: GenerativeModel,
        source: RowSource,
        validation: RowSource | None,
        start: Start,
        processes: Processes,
    ) -> Fit:
        """Train a fresh module from a start for the rows of ``source``."""
        positions, seed = torch.from_numpy(start.positions).to(source.like), start.seed
        counts = module.likelihood.counts
        summary = summarize_columns(source, counts=counts and not module.amortized)
        settings, defaults = self._settings(), self._training_defaults
        fits: list[Fit] = []
        costs: list[float] = []
        for started, cost in self._modules_started(module, source, summary, start):
            if started.amortized:
                with_encoder = cast(AmortizedModel, started)
                inputs = self._starting_inputs(with_encoder, source, seed)
                fit = fit_amortized(
                    with_encoder, source, validation, positions, inputs, seed, settings, defaults, processes
                )
            else:
                model = cast(ExactModel, started)
                fit = fit_exact(model, source, validation, summary, settings, defaults, start.follows_path)
            fits.append(fit)
            costs.append(cost)
            if fit.interrupted:
                break
        best = max(range(len(fits)), key=lambda i: fits[i].lower_bound - costs[i])
        return replace(fits[best], interrupted=fits[-1].interrupted)

    def _keep(self, best: Fit, training: TrainingTable, source: RowSource, reference: np.ndarray | None) -> None:
        """Take over the best module, let its axes point as asked, and read off the fitted attributes."""
        announce("placing the samples")
        self.module_ = best.module.float().eval().requires_grad_(False)
        self.history_ = best.history
        self.n_iter_ = len(best.history)
        inference, in_float64 = self._inference(), source.to(torch.float64)
        on_grid = inference.grid_posterior(in_float64)
        model = inference.model
        placement = inference.placed(in_float64) if on_grid is None else placement_on_grid(model, in_float64, on_grid)
        self._training_range_ = TrainingRange.learn(model, in_float64, placement)
        positions = self._orient(source, placement.position.cpu().numpy(), reference)
        self._axis_map_ = None if training.axis_map is None else vars(training.axis_map)
        if source.context.axis is not None:
            positions[:, 0] = np.where(np.isnan(source.context.axis), positions[:, 0], source.context.axis)
        self._latent_range_ = np.stack([positions.min(0), positions.max(0)])
        self._store_results()
        self._store_effects(in_float64)
        likelihood = self.module_.likelihood
        is_found = best.has_axis and source.context.axis is None
        if self._has_additive_effects and likelihood.has_log_link and source.context.log_size is None and is_found:
            warn_if_totals_decide(source, positions[:, 0])
        if on_grid is not None:
            warn_of_grid(on_grid, source, self._settings().z_max)

    def _with_module(self, module: GenerativeModel, positions: np.ndarray) -> Self:
        """The fitted estimator with another module of the same form, which places the training samples at (N,)."""
        twin = self._twin(with_fitted_state=True)
        twin.module_ = module.float().eval().requires_grad_(False)
        twin._latent_range_ = np.array([[positions.min()], [positions.max()]])
        twin._store_results()
        return twin

    def _store_effects(self, source: RowSource) -> None:
        """Set what is known of the effects of covariates, from the rows of the training table."""

    def _orient(self, source: RowSource, positions: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
        """Reverse the fitted axes that do not point as asked, as far as possible: the positions (N, Q) after that."""
        signs = self._signs(source, positions, reference)
        if self.module_.can_mirror:
            for component in np.nonzero(signs < 0)[0]:
                self.module_.mirror_(int(component))
            return signs * positions
        if reference is not None and signs[0] < 0:
            warn_user(
                "The axis runs against orientation: what the features are constrained to do along it does not allow "
                "the fitted axis to be reversed. Allow for the opposite behaviours too, or leave orientation out."
            )
        return positions
