"""Simulation: from the latent to the table, by the curves and the likelihood of a fitted model."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._sklearn import Interval, available_if, validate_params
from .._typing import CovariatesLike, RandomState
from ..inference import slopes
from ..nn.models import GenerativeModel
from ..nn.priors import GaussianMixture
from ..nn.row_context import RowContext
from ..table.columns import Columns
from ..table.size_factors import check_without_sizes
from ..table.table import TableReader
from ..table.validation import named_entries
from ..training.seeds import generator_from, spawn_seeds
from .lazy_answers import LazyAnswersMixin, answers_by_rows
from .tables_out import TablesOutMixin, modelled_names_of

SAMPLING_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
}


def require_density(estimator: Any) -> bool:
    """True where an estimator has a distribution of latents, and so a likelihood of X; else an AttributeError.

    A plain autoencoder has none.
    """
    module = getattr(estimator, "module_", None)
    variational = getattr(estimator, "variational", True) if module is None else module.variational
    if not variational:
        raise AttributeError(
            "An autoencoder (variational=False) has no distribution of latents and so no likelihood of X: "
            "conditional_log_likelihood says how well it reconstructs X. The rest needs variational=True."
        )
    return True


def _require_finite(values: np.ndarray, positions: Tensor | np.ndarray, columns: Columns) -> np.ndarray:
    """Values (P, D, ...) at positions (P, Q) of the latent; a ValueError that names the first position without a value.

    Columns that were never observed have none anywhere.
    """
    observed = np.delete(values, columns.unobserved, axis=1)
    finite = np.isfinite(observed).reshape(len(values), -1).all(1)
    if not finite.all():
        first = int(np.argmin(finite))
        where = ", ".join(f"{coordinate:g}" for coordinate in positions[first].tolist())
        raise ValueError(
            f"At {np.count_nonzero(~finite)} of {len(finite)} positions the fitted curves leave the range of "
            f"{values.dtype} numbers; the first is row {first}, z=({where}). Latents are in standard deviations of the "
            "prior: ask for positions nearer to those of the data."
        )
    return values


def float64_like(module: GenerativeModel) -> Tensor:
    """A tensor with the dtype of all inference, on the module's device."""
    return torch.zeros((), dtype=torch.float64, device=next(module.parameters()).device)


class SimulationMixin(LazyAnswersMixin, TablesOutMixin):
    """What a fitted model says of the table, given latents: expected values, their slopes, and simulated rows."""

    _reader_: TableReader

    @property
    def _n_features_out(self) -> int:
        raise NotImplementedError

    def _float64_module(self) -> GenerativeModel:
        raise NotImplementedError

    def trajectories(self, z: ArrayLike, *, covariates: CovariatesLike = None) -> np.ndarray:
        """Expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.
        covariates : array-like, Series, DataFrame or dict, default=None
            Covariates at the positions, as for :meth:`inverse_transform`. None stands for average ones.

        Returns
        -------
        curves : ndarray of shape (n_points, n_features)
            Those of a sample of median size, in the units of the training table. Expected counts end at 2**53, about
            9e15, far from the data. Where :meth:`set_output` asks for data frames it is one, with z as index.

        Raises
        ------
        ValueError
            If z is so far out that an expected value is not a finite number.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(40, n_transient=0, n_increasing=1, n_decreasing=2, as_frame=True, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).set_output(transform="pandas").fit(X)
        >>> curves = model.trajectories([-1.0, 0.0, 1.0])
        >>> list(curves)
        ['increasing_00', 'decreasing_00', 'decreasing_01']
        >>> list(curves.index)
        [-1.0, 0.0, 1.0]
        """
        module, positions = self._at_positions(z)
        context = self._context_at(positions.cpu().numpy(), None, covariates)
        return self._expected(module, positions, context, self._deviations_at(positions, context))

    def derivatives(self, z: ArrayLike, *, covariates: CovariatesLike = None) -> np.ndarray:
        """Rate of change of the expected value of every feature along the latent.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.
        covariates : array-like, Series, DataFrame or dict, default=None
            Covariates at the positions, as for :meth:`inverse_transform`. None stands for average ones.

        Returns
        -------
        rates : ndarray of shape (n_points, n_features) or (n_points, n_features, n_components)
            In the units of the training table per prior standard deviation, for a sample of median size. The last axis
            is there where the latent has more than one component. Expected counts end at 2**53: there, their rate of
            change is 0. Where :meth:`set_output` asks for data frames, and the latent has one component, it is one.

        Raises
        ------
        ValueError
            If z is so far out that a rate is not a finite number.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_transient=0, n_increasing=3, n_decreasing=2, random_state=0).data
        >>> model = DeVAETransformer(monotonic_cst=[1, 1, 1, -1, -1], max_epochs=5, random_state=0).fit(X)
        >>> rates = model.derivatives([-1.0, 0.0, 1.0])
        >>> (rates > 0).all(axis=0).tolist()  # rises everywhere?
        [True, True, True, False, False]
        """
        module, positions = self._at_positions(z)
        context = self._context_at(positions.cpu().numpy(), None, covariates)
        of_rows = context.tensors(positions)
        with torch.no_grad():
            rates = slopes(lambda z: module.predictive_mean(of_rows, z, self._deviations_at(z, context)), positions)
        by_column = self._reader_.columns.spread_rates(rates.cpu().numpy(), axis=1)
        with np.errstate(over="ignore"):
            in_user_units = by_column * np.reshape(self._reader_.units.sizes, (-1, 1))
        _require_finite(in_user_units, positions, self._reader_.columns)
        return in_user_units[:, :, 0] if module.n_components == 1 else in_user_units

    def _deviations_at(self, positions: Tensor, context: RowContext[np.ndarray]) -> Tensor | None:
        """What the curves of rows with a context add at positions (P, Q) to those of the model: (P, D), or None."""
        return None

    def _expected(
        self,
        module: GenerativeModel,
        positions: Tensor,
        context: RowContext[np.ndarray],
        deviations: Tensor | None = None,
    ) -> np.ndarray:
        """Expected values (P, D), in the user's units, of rows with a context at positions (P, Q)."""
        with torch.no_grad():
            mean = module.predictive_mean(context.tensors(positions), positions, deviations)
        with np.errstate(over="ignore"):
            expected = self._reader_.to_user(mean.cpu().numpy(), context.log_size)
            return _require_finite(expected, positions, self._reader_.columns)

    def _at_positions(self, z: ArrayLike) -> tuple[GenerativeModel, Tensor]:
        check_is_fitted(self, "module_")
        n_components = self._n_features_out
        with named_entries(z, "z"):
            points = check_array(np.atleast_1d(z), ensure_2d=False, dtype=np.float64, input_name="z", copy=True)
        if points.ndim == 1 and n_components == 1:
            points = points[:, None]
        if points.ndim != 2 or points.shape[1] != n_components:
            raise ValueError(
                f"z has shape {points.shape}, but positions on this latent need shape (n_points, {n_components})."
            )
        module = self._float64_module()
        return module, torch.from_numpy(points).to(float64_like(module))

    @answers_by_rows(
        n_columns=lambda estimator: len(estimator.modelled_columns_),
        names=modelled_names_of,
        checked="_dtype_of_latents",
    )
    def inverse_transform(
        self, Z: ArrayLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Expected value of every feature for samples at given latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents, as :meth:`transform` returns them.
        size_factors : array-like of shape (n_samples,), default=None
            Sizes of the samples. None stands for the median size of the training table.
        covariates : array-like, Series, DataFrame or dict, default=None
            Covariates of the samples, as for :meth:`fit`. A dict gives a value to all samples, such as
            ``{"batch": "b"}``: the samples as if they were of batch b. Those that are not given are average.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table. Expected counts end at 2**53, about 9e15, far from the data. Where
            :meth:`set_output` asks for data frames it is one. Latents of Dask have a lazy answer.

        Raises
        ------
        ValueError
            If a latent is so far out that an expected value is not a finite number, in the precision of Z.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X)
        >>> expected = model.inverse_transform(model.transform(X))
        >>> expected.shape
        (60, 50)
        >>> bool(((X - expected) ** 2).mean() < X.var(axis=0).mean())  # nearer to X than the columns' means are
        True
        """
        latents, context = self._read_latents(Z, size_factors, covariates)
        module, positions = self._at_positions(latents)
        expected = self._expected(module, positions, context, self._deviations_at(positions, context))
        with np.errstate(over="ignore"):
            return _require_finite(expected.astype(latents.dtype, copy=False), latents, self._reader_.columns)

    def _read_latents(
        self, Z: ArrayLike, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> tuple[np.ndarray, RowContext[np.ndarray]]:
        """A user's latents (N, Q) as an array of floats, and what its rows carry."""
        check_is_fitted(self, "module_")
        with named_entries(Z, "Z"):
            latents: np.ndarray = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if latents.shape[1] != self._n_features_out:
            raise ValueError(f"Z has {latents.shape[1]} columns, but the latent has {self._n_features_out}.")
        return latents, self._context_at(latents, size_factors, covariates)

    def _dtype_of_latents(self, Z: ArrayLike, **facts: Any) -> np.dtype:
        """The dtype in which latents are read; raises where their columns or facts do not suit the fitted model."""
        return self._read_latents(Z, **facts)[0].dtype

    def _context_at(
        self, Z: np.ndarray, size_factors: ArrayLike | None, covariates: CovariatesLike
    ) -> RowContext[np.ndarray]:
        """What samples at latents Z (N, Q) carry: a median size and average covariates where nothing else is given."""
        reader, log_sizes = self._reader_, None
        if reader.sizes is None:
            check_without_sizes(size_factors)
        elif size_factors is not None:
            log_sizes = reader.sizes.of_latents(size_factors, Z)
        return RowContext(log_size=log_sizes, covariates=reader.design(None, covariates, len(Z), absent="average"))

    @available_if(require_density)
    @validate_params(SAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
    def sample(
        self, n_samples: int = 1, random_state: RandomState = None, *, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Draw samples from the fitted model: the latent from its prior, then the features.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; the same seed gives the same samples.
        covariates : array-like, Series, DataFrame or dict, default=None
            Covariates of the samples, as for :meth:`inverse_transform`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table. Expected counts end at 2**53, about 9e15, far from the data.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X)
        >>> model.sample(1000, random_state=0).shape
        (1000, 50)
        """
        module, generator = self._for_sampling(random_state)
        return self._simulated(module, module.latent_prior(), int(n_samples), generator, covariates)

    @available_if(require_density)
    @validate_params(SAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
    def sample_latent(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw latents from the prior.

        Parameters
        ----------
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; :meth:`sample` with the same seed has the same latents.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Latents, as :meth:`transform` returns them for data.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X)
        >>> Z = model.sample_latent(1000, random_state=0)
        >>> Z.shape
        (1000, 1)
        >>> bool(abs(Z.std() - 1) < 0.1)  # in standard deviations of the prior
        True
        """
        module, generator = self._for_sampling(random_state)
        return module.latent_prior().draw(int(n_samples), generator)[0].numpy()

    def _for_sampling(self, random_state: RandomState) -> tuple[GenerativeModel, torch.Generator]:
        check_is_fitted(self, "module_")
        return self._float64_module().cpu(), generator_from(spawn_seeds(random_state, 1)[0])

    def _simulated(
        self,
        module: GenerativeModel,
        prior: GaussianMixture,
        n_samples: int,
        generator: torch.Generator,
        covariates: CovariatesLike,
    ) -> np.ndarray:
        """Rows in the user's units whose latents come from a prior."""
        z, _ = prior.draw(n_samples, generator)
        with torch.no_grad():
            design = self._reader_.design(None, covariates, n_samples, absent="average")
            context = self._reader_.drawn_context(n_samples, generator, z.dtype, design)
            likelihood, curves = module.in_context(module.predictive_curves(z, context), context)
            drawn = likelihood.sample(curves, z, generator)
        return self._reader_.complete_sample(drawn.numpy(), context, generator)
