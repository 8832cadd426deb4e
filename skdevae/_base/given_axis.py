"""A given axis, as users see it: fits along positions that are known beforehand."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._sklearn import fit_context
from .._typing import CovariatesLike, TableLike
from ..table.given_axis import AxisMap
from .fitting import LatentVariableModel


class GivenAxisMixin(LatentVariableModel):
    """Base of estimators whose (first) axis may be given with the samples."""

    @property
    def axis_is_given_(self) -> bool:
        """Whether the model was fitted along a given axis.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> progression = make_progression(60, random_state=0)
        >>> model = DeVAETransformer(max_epochs=5, random_state=0)
        >>> model.fit(progression.data, axis=progression.times).axis_is_given_
        True
        >>> model.fit(progression.data).axis_is_given_
        False
        """
        check_is_fitted(self, "module_")
        return self._known_axis_map() is not None

    @property
    def axis_map_(self) -> AxisMap:
        """The monotone map between a given axis and the latent.

        Its methods ``to_latent`` and ``to_axis`` map arrays of positions to latents and back. There only if the axis
        was given.

        Examples
        --------
        >>> import numpy as np
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, random_state=0).data
        >>> age = np.linspace(40, 90, 60)
        >>> model = DeVAETransformer(max_epochs=5, random_state=0).fit(X, axis=age)
        >>> model.axis_map_.to_axis([0.0]).round().tolist()  # the middle of the latent, in years
        [65.0]
        >>> bool(model.axis_map_.to_latent([80.0]) > model.axis_map_.to_latent([70.0]))
        True
        """
        check_is_fitted(self, "module_")
        known = self._known_axis_map()
        if known is None:
            raise AttributeError("The model was fitted without axis, so there is nothing that the latent is a map of.")
        return AxisMap(**known)

    def _known_axis_map(self) -> dict[str, np.ndarray] | None:
        return getattr(self, "_axis_map_", None)  # older files know of none

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
        axis: ArrayLike | None = None,
        axis_sd: ArrayLike | None = None,
    ) -> Self:
        """Fit the model, along an axis that it finds or along one that is given.

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
        axis : array-like of shape (n_samples,), default=None
            Position of each sample along the (first) axis, where it is known: a pseudotime, age, stage or time of
            visit, in any units. NaN where it is not known: such samples are placed by their entries. Only the order
            counts: positions on the latent are the normal scores of ranks, and ``axis_map_`` is the map to them.
            Curves, behaviours and clusters follow these positions. What a fitted model says of samples, those of the
            fit included, follows from their entries alone: :meth:`transform` does not know ``axis``. It needs exact
            inference.
        axis_sd : float or array-like of shape (n_samples,), default=None
            Standard deviation of the error of ``axis``, in its units, as of a measured time. The entries of a sample
            then have a say in its position: the larger the error, the more. 0 and None stand for positions that are
            exactly known. Where it is as large as the spread of all positions, these say nothing.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a row has no observed entry, if parameters contradict each
            other, if ``axis`` has one value only, or if the loss stops being finite. What an earlier fit has found then
            stays as it was.
        KeyboardInterrupt
            Where Ctrl-C is pressed. From the end of the first epoch on, the estimator keeps what was learned.

        Warns
        -----
        UserWarning
            If ``axis`` has no known value, or errors as large as its spread, so that it is as if it were not given; or
            if it has two different values only.

        Examples
        --------
        >>> from skdevae import DeVAETransformer
        >>> from skdevae.datasets import make_progression
        >>> progression = make_progression(100, random_state=0)
        >>> along_time = DeVAETransformer(max_epochs=10, random_state=0).fit(progression.data, axis=progression.times)
        >>> along_time.axis_map_.to_axis([-1, 0, 1]).round(1).tolist()
        [-2.3, -0.2, 1.8]
        """
        return self._fit_afresh(
            X,
            sample_weight=sample_weight,
            size_factors=size_factors,
            covariates=covariates,
            orientation=orientation,
            axis=axis,
            axis_sd=axis_sd,
        )
