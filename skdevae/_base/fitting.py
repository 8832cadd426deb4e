"""What every estimator of the package shares: how it is fitted."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from skorch.history import History
from torch import Tensor

from .._sklearn import Interval, StrOptions, fit_context
from ..inference.evaluation import amortized_elbo, column_evidence, exact_posterior, integrates_on_grid, log_units
from ..inference.grid import LatentPosterior
from ..nn.latent_grid import GridStatistics, LatentGrid
from ..nn.layers import noise_from
from ..nn.likelihoods import ColumnSummary
from ..nn.models import AmortizedModel, ExactModel, GenerativeModel, build_model
from ..table.components import landmarks, principal_components, projection_onto, starting_positions
from ..table.source import RowSource, summarize_columns
from ..table.validation import check_layer_sizes, check_missing
from ..training.batches import (
    ExpectationSteps,
    RowsInOrder,
    ShuffledRows,
    expected_statistics,
    starting_statistics,
)
from ..training.callbacks import ANNEALED_SHARE, Annealing, DivergenceWarmUp
from ..training.fitting import TrainingOptions, train
from ..training.seeds import generator_from, spawn_seeds
from ..training.threads import fitting_threads
from .estimator import FittedModel
from .orientation import axis_signs, orientation_reference

#: shares of samples above which a fit says that its grid was too coarse, or too short
_TOLERATED_SHARE = 0.05
#: width, in prior sds, of the bumps in which samples start around their first positions
_STARTING_WIDTH = 0.3
#: log of the posterior sd that the encoder starts from
_STARTING_LOG_SD = -1.0
#: fewest and most draws for each row in the bound of a whole table, and entries that are to be evaluated for it
_BOUND_DRAWS, _BOUND_ENTRIES = (32, 256), 100_000_000
#: most components for which the latent is integrated on a grid, and the grid's points along each of two axes
MAX_EXACT_COMPONENTS, _GRID_POINTS_2D = 2, 49


@dataclass(frozen=True)
class Fit:
    """The result of one start: the trained module, how it got there, and its bound in nats per sample (model units)."""

    module: GenerativeModel
    history: History
    lower_bound: float
    interrupted: bool


class LatentVariableModel(FittedModel):
    """Base of the estimators: a generative model of rows given a latent, fitted by maximising a likelihood bound.

    Subclasses say which decoder they fit (:meth:`_decoder_config`), whether features choose between curves
    (:meth:`_assignment_config`), and what is to be read off the result (:meth:`_store_results`). What is a parameter of
    some of them and settled in others stands here as an attribute.
    """

    n_components = 1
    inference = "exact"
    gamma = 1.0
    z_max = 4.5
    n_grid_points: int | None = None
    #: starting rate of Adam and passes in exact inference, where ``learning_rate`` and ``max_epochs`` are None
    _exact_learning_rate, _exact_epochs = 0.1, 150
    #: the same of amortised inference, and gradient steps that it takes at least, where ``max_epochs`` is None
    _amortized_learning_rate, _amortized_epochs, _least_steps = 0.01, 200, 0

    _parameter_constraints: ClassVar[dict] = {
        **FittedModel._parameter_constraints,
        "hidden_layer_sizes": ["array-like"],
        "encoder_hidden_layer_sizes": ["array-like"],
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

    # ---- hooks --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        """Name (in ``DECODERS``) and constructor arguments of the decoder: plain values, kept for persistence."""

    def _assignment_config(self) -> dict[str, Any] | None:
        """Name (in ``ASSIGNMENTS``) and arguments, where features choose between curves; else None."""
        return None

    def _latent_config(self, n_samples: int) -> dict[str, Any]:
        """Prior (name and arguments, in ``PRIORS``) and posterior family (``POSTERIORS``) of an amortised model."""
        return {"prior": {"name": "normal"}, "posterior_family": {"name": "normal"}, "variational": True}

    def _encoder_options(self) -> dict[str, Any]:
        """Arguments of the encoder beside those that every estimator has."""
        return {}

    def _starting_inputs(self, module: AmortizedModel, source: RowSource, seed: int) -> Tensor | None:
        """Rows (K, D), on the encoder's scale, that a prior with components of its own starts from."""
        return None

    def _gains_from_threads(self, table: RowSource) -> bool:
        """Whether what is computed at once is so much that a second thread is worth waiting for."""
        return table.is_large

    def _learning_rate_decay(self) -> str:
        """``"cosine"`` or ``"plateau"``."""
        return "cosine"

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

        There may be several, of which the best is kept, each with what is then taken off its bound (nats per sample).
        """
        points = self._starting_points(source, start, seed)
        module.initialize_(self._starting_sums(module, source, start, points), summary, points)
        yield module, 0.0

    @staticmethod
    def _starting_sums(module: GenerativeModel, source: RowSource, start: Tensor, points: Tensor) -> GridStatistics:
        with_positive = module.likelihood.has_positive_term
        return starting_statistics(source.normalized(), start, _STARTING_WIDTH, points, with_positive)

    def _starting_points(self, source: RowSource, start: Tensor, seed: int) -> Tensor:
        """Points (P, Q) that stand for first guesses (N, Q): of the grid, or where samples are dense."""
        if self.n_components <= MAX_EXACT_COMPONENTS:
            return self._grid(source).points
        return torch.from_numpy(landmarks(start.cpu().numpy(), seed)).to(start)

    def _annealed_share(self) -> float:
        """Share of the epochs of exact inference over which q(z) and q(w) are annealed."""
        return ANNEALED_SHARE

    def _resolved_inference(self) -> str:
        if self.inference == "exact" and self.n_components > MAX_EXACT_COMPONENTS:
            raise ValueError(
                f"inference='exact' integrates the latent on a grid, of at most {MAX_EXACT_COMPONENTS} dimensions; "
                f"n_components={self.n_components} needs inference='amortized'."
            )
        return self.inference

    def _module_config(self, n_samples: int, n_features: int, has_missing: bool) -> dict[str, Any]:
        """All that :func:`~skdevae.nn.models.build_model` asks for."""
        encoder = None
        if self._resolved_inference() == "amortized":
            encoder = {
                "hidden_layer_sizes": check_layer_sizes("encoder_hidden_layer_sizes", self.encoder_hidden_layer_sizes),
                "activation": self.activation,
                "counts": self._is_count_model(),
                "sees_mask": has_missing,
                **self._encoder_options(),
            }
        return {
            "n_samples": n_samples,
            "n_features": n_features,
            "n_components": int(self.n_components),
            "decoder": self._decoder_config(n_features),
            "likelihood": self._likelihood_config(),
            "assignment": self._assignment_config(),
            "encoder": encoder,
            **self._latent_config(n_samples),
            "z_max": float(self.z_max),
            "weight_decay": float(self.weight_decay),
            "beta": float(self.beta),
            "gamma": float(self.gamma),
        }

    def _network_config(self) -> dict[str, Any]:
        return {
            "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", self.hidden_layer_sizes),
            "activation": self.activation,
        }

    def _integrated_network_config(self) -> dict[str, Any]:
        """Arguments of decoders whose network is integrated along the axis."""
        return {
            **self._network_config(),
            "integrator": self.integrator,
            "n_knots": int(self.n_knots),
            "z_max": float(self.z_max),
        }

    # ---- fitting ------------------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, orientation=None):
        """Fit the model.

        Parameters
        ----------
        X : array-like, DataFrame or (for count likelihoods) sparse array of shape (n_samples, n_features)
            Samples in rows. NaN marks a missing entry of a dense table.
        y : ignored
            Present for API consistency.
        orientation : array-like of shape (n_samples,), default=None
            A variable, age or stage say, that should rise along the (first) axis. It decides which end of the axis is
            up and nothing else. Overrides the parameter of the same name.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a column or row has no observed entry, if parameters contradict each
            other, or if the loss stops being finite.
        """
        X = self._validate(X, reset=True)
        if not sp.issparse(X):
            check_missing(X, getattr(self, "feature_names_in_", None))
        self._settle_parameters()
        has_missing = not sp.issparse(X) and bool(np.isnan(X).any())
        names = getattr(self, "feature_names_in_", None)
        reference = orientation_reference(X, self.orientation, orientation, names)
        self._set_units(X)
        table = self._source(X, torch.zeros((), dtype=torch.float32, device=self._device()))
        split_seed, *seeds = spawn_seeds(self.random_state, 1 + self.n_init)
        train_index, source, validation = self._split(table, split_seed)
        config = self._module_config(len(source), X.shape[1], has_missing)
        with fitting_threads(self._gains_from_threads(table)):
            wanted = reference[train_index] if reference is not None and self._axes_are_free() else None
            starts = self._starts(source, wanted, seeds)
            fits = self._fit_starts(starts, config, source, validation)
            best = max(fits, key=lambda fit: fit.lower_bound)
            self.lower_bound_ = best.lower_bound - float(np.mean(log_units(source)))
            self._keep(best, config, table, reference)
        if fits[-1].interrupted:
            self._warn_of_interruption()
        return self

    def _starts(
        self, source: RowSource, reference: np.ndarray | None, seeds: list[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """A seed and a first guess of every sample's latent (N, Q), pointing as asked, for each start."""
        scores = principal_components(source, self._is_count_model(), self.n_components)
        for restart, seed in enumerate(seeds):
            positions = starting_positions(scores, self.n_components, restart, seed)
            yield seed, axis_signs(source, positions, reference, self._preferred_directions()) * positions

    def _fit_starts(
        self,
        starts: Iterator[tuple[int, np.ndarray]],
        config: dict[str, Any],
        source: RowSource,
        validation: RowSource | None,
    ) -> list[Fit]:
        """Fits of all starts, or of those up to the one that was interrupted."""
        fits: list[Fit] = []
        for seed, positions in starts:
            module = build_model(config, generator_from(seed)).to(source.like.device)
            fits.append(self._fit_module(module, source, validation, positions, seed))
            if fits[-1].interrupted:
                break
        return fits

    def _fit_module(
        self,
        module: GenerativeModel,
        source: RowSource,
        validation: RowSource | None,
        positions: np.ndarray,
        seed: int,
    ) -> Fit:
        """Train a fresh module from a first guess of the latent (N, Q) of every row of ``source``."""
        start = torch.from_numpy(positions).to(source.like)
        summary = summarize_columns(source.normalized(), module.likelihood.counts and source.log_size is None)
        fits: list[Fit] = []
        costs: list[float] = []
        for started, cost in self._started(module, source, start, summary, seed):
            if isinstance(started, ExactModel):
                fits.append(self._fit_exact(started, source, validation, summary))
            else:
                fits.append(self._fit_amortized(cast(AmortizedModel, started), source, validation, start, seed))
            costs.append(cost)
            if fits[-1].interrupted:
                break
        best = max(range(len(fits)), key=lambda i: fits[i].lower_bound - costs[i])
        return replace(fits[best], interrupted=fits[-1].interrupted)

    def _grid(self, source: RowSource) -> LatentGrid:
        default = _GRID_POINTS_2D if self.n_components > 1 else 65 if source.is_large else 129
        return LatentGrid.standard_normal(self.n_grid_points or default, self.z_max, self.n_components).to(source.like)

    def _fit_exact(
        self,
        module: ExactModel,
        source: RowSource,
        validation: RowSource | None,
        summary: ColumnSummary,
    ) -> Fit:
        grid = self._grid(source)
        steps = 4 if source.is_large else 2
        max_epochs = self.max_epochs or (50 if source.is_large else self._exact_epochs)
        options = self._training_options(
            max_epochs,
            steps,
            learning_rate=self._exact_learning_rate,
            betas=(0.9, 0.99),
            settled=self._annealed_share(),
        )
        batches = ExpectationSteps(source, module, summary, grid, n_gradient_steps=steps, updates_clusters=True)
        batches_valid = None
        if validation is not None:
            held_out = summarize_columns(validation, module.likelihood.counts)
            batches_valid = ExpectationSteps(
                validation, module, held_out, grid, n_gradient_steps=1, updates_clusters=False
            )
        annealing = Annealing(len(source), source.n_features, math.ceil(self._annealed_share() * max_epochs))
        result = train(module, batches, batches_valid, options, annealing, self.callbacks or ())
        with torch.no_grad():
            module.latent_temperature = module.cluster_temperature = 1.0
            module.update_clusters_(expected_statistics(module, source, grid), grid)
            terms = module(expected_statistics(module, source, grid), summary, grid)
        return Fit(module, result.history, -float(terms.total), result.interrupted)

    def _fit_amortized(
        self,
        module: AmortizedModel,
        source: RowSource,
        validation: RowSource | None,
        start: Tensor,
        seed: int,
    ) -> Fit:
        if module.encoder.projection is not None:
            weights, offset = projection_onto(source, start, module.encoder.inputs)
            module.encoder.initialize_(weights, offset, _STARTING_LOG_SD)
        inputs = self._starting_inputs(module, source, seed)
        if inputs is not None:
            module.initialize_prior_(inputs)
        steps = math.ceil(len(source) / self.batch_size)
        max_epochs = self.max_epochs or max(self._amortized_epochs, math.ceil(self._least_steps / steps))
        options = self._training_options(
            max_epochs,
            steps,
            learning_rate=self._amortized_learning_rate,
            betas=(0.9, 0.999),
            settled=self.kl_warmup,
        )
        generator = generator_from(seed)
        batches = ShuffledRows(source, self.n_components, self.batch_size, generator)
        batches_valid = None
        if validation is not None:
            batches_valid = RowsInOrder(validation, self.n_components, self.batch_size, seed)
        warm_up = DivergenceWarmUp(self.kl_warmup, max_epochs)
        with noise_from(module, generator):
            result = train(module, batches, batches_valid, options, warm_up, self.callbacks or ())
        module.eval()
        module.divergence_weight = 1.0
        if module.assignment.is_held:  # training ended before warm-up did
            module.assignment.update_(column_evidence(module, source), self.gamma)
        return Fit(module, result.history, self._amortized_bound(module, source), result.interrupted)

    def _amortized_bound(self, module: AmortizedModel, source: RowSource) -> float:
        with torch.no_grad():
            of_the_model = module.log_prior() - self.gamma * module.assignment.divergence()
        # The mean over many rows needs fewer draws of each.
        n_draws = int(np.clip(_BOUND_ENTRIES // (len(source) * source.n_features), *_BOUND_DRAWS))
        return float(amortized_elbo(module, source, n_draws).mean() + of_the_model / len(source))

    def _training_options(
        self, max_epochs: int, steps: int, *, learning_rate: float, betas: tuple[float, float], settled: float
    ) -> TrainingOptions:
        return TrainingOptions(
            max_epochs=max_epochs,
            steps_per_epoch=steps,
            learning_rate=self.learning_rate or learning_rate,
            betas=betas,
            annealed_epochs=math.ceil(settled * max_epochs),
            tol=self.tol,
            patience=self.n_iter_no_change,
            early_stopping=self.early_stopping,
            decay=self._learning_rate_decay(),
            verbose=self.verbose,
        )

    def _keep(self, best: Fit, config: dict, source: RowSource, reference: np.ndarray | None) -> None:
        self.module_ = best.module.eval().requires_grad_(False)
        self._config = config
        self.history_ = best.history
        self.n_iter_ = len(best.history)
        self._n_features_out = config["n_components"]
        module = self._float64_module()
        float64_source = self._source(source.table, self._float64_like())
        if isinstance(module, AmortizedModel) and not integrates_on_grid(module, float64_source):
            self._orient(source, self._posterior_mean(module, float64_source).cpu().numpy(), reference)
            self._store_results()
            return
        exact = exact_posterior(module, float64_source, module.predictive_tables)
        self._orient(source, exact.mean.cpu().numpy(), reference)
        self._store_results()
        self._warn_about_grid(exact)

    def _split(self, table: RowSource, seed: int) -> tuple[np.ndarray, RowSource, RowSource | None]:
        """Training rows, their source, and the source of the rows held out for early stopping."""
        everything = np.arange(len(table))
        if not self.early_stopping:
            return everything, table, None
        train, held_out = (
            np.sort(part)
            for part in train_test_split(everything, test_size=self.validation_fraction, random_state=seed)
        )
        return train, table.take(train), table.take(held_out)

    def _orient(self, source: RowSource, positions: np.ndarray, reference: np.ndarray | None) -> None:
        """Reverse the fitted axes that do not point as asked, as far as the model can."""
        signs = axis_signs(source, positions, reference, self._preferred_directions())
        if self.module_.can_mirror:
            for component in np.nonzero(signs < 0)[0]:
                self.module_.mirror_(int(component))
        elif reference is not None and signs[0] < 0:
            warnings.warn(
                "The axis runs against orientation: what the features are constrained to do along it does not allow "
                "the fitted axis to be reversed. Allow for the opposite behaviours too, or leave orientation out.",
                UserWarning,
                stacklevel=4,
            )

    def _warn_about_grid(self, exact: LatentPosterior) -> None:
        beyond = float((exact.beyond > 0.5).double().mean())
        unresolved = float((~exact.resolved.bool()).double().mean())
        if beyond > _TOLERATED_SHARE:
            warnings.warn(
                f"{beyond:.0%} of the samples lie beyond z_max={self.z_max}, where curves go on as straight lines. "
                "Increase z_max.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if unresolved > _TOLERATED_SHARE:
            warnings.warn(
                f"{unresolved:.0%} of the samples have posteriors narrower than the finest grid: their positions are "
                "rough. Look for duplicated columns; a gaussian likelihood may need a larger noise_floor, two "
                "components inference='amortized'.",
                ConvergenceWarning,
                stacklevel=4,
            )
