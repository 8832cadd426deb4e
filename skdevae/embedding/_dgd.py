"""DGDEmbedder: the DGD paper's model, a decoder and a learned mixture of Gaussians without an encoder."""

from __future__ import annotations

import copy
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._base.estimator import LatentEstimator
from .._base.stopping import warn_unless_met
from .._base.training_table import TrainingTable, own_sizes
from .._sklearn import Interval, StrOptions, fit_context
from .._typing import (
    Activation,
    Callbacks,
    ColumnChoice,
    CovariatesLike,
    LayerSizes,
    LikelihoodName,
    RandomState,
    SizeRule,
    TableLike,
    UnknownCovariate,
)
from ..inference.laplace import warn_unless_converged
from ..nn.models import MixtureModel
from ..nn.regularized_mixture import COVARIANCE_TYPES
from ..table.precision import training_dtype
from ..table.source import RowSource
from ..table.validation import check_rows
from ..table.weighted_rows import checked_weights, weighted_rows
from ..training.data_parallel import processes_of_a_fit
from ..training.device import resolve_device
from ..training.progress import announce
from ..training.seeds import spawn_seeds
from ..training.threads import fitting_threads, products_gain
from ._dgd_answers import RepresentationEstimator
from ._dgd_fit import DecoderFit, fit_decoder, labels_of
from ._dgd_parameters import DGDParameters
from ._known_classes import known_components
from ._prior_mixture import PriorMixture


class DGDEmbedder(ClusterMixin, RepresentationEstimator):
    """Embed and cluster samples with a deep generative decoder: no encoder, and a learned mixture of Gaussians.

    Every sample has a representation z, found by optimisation. z follows a Gaussian mixture whose means, variances and
    weights are learned, and every feature depends on z through a neural network. Representations, mixture and network
    are estimated together, by maximum a posteriori [1]_ (eq. 3)::

        sum_i w_i (log p(x_i | z_i, theta) + log p(z_i | phi)) + log p(phi) + log p(theta)

    The components of the mixture cluster the samples. Missing entries drop out of the likelihood: a decoder needs no
    imputation.

    Parameters
    ----------
    n_components : int, default=20
        Number of dimensions of the latent.
    n_clusters : int, default=10
        Largest number of components of the mixture: ``may_be_empty`` can leave some out. With ``supervised`` there is
        at least one for each class. None means a single standard normal distribution that is not learned, and so no
        clusters.
    representation : {"map", "variational"}, default="map"
        What is learned of a training sample's latent. ``"map"`` learns a point. ``"variational"`` learns a Gaussian
        with independent components, by maximising the evidence lower bound (the variational auto-decoder). It accounts
        for what is not known of the latent, so held-out likelihoods come out higher. Either way, ``embedding_`` and the
        representations of new samples are modes of their posteriors.
    supervised : bool, default=False
        Whether each class in ``y`` has a component of its own (section 4.2.4). Component k belongs to ``classes_[k]``,
        and the prior of a sample of that class is that component alone. The class of a sample is unknown if y is -1,
        None or NaN there. Such samples can also belong to components beyond the number of classes. If there are none,
        each class has a component and there are no others.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Distribution of the entries of X given the latent. ``"gaussian"`` standardises columns internally and learns one
        noise standard deviation per feature. ``"poisson"``, ``"nb"`` (negative binomial) and ``"zinb"`` (zero-inflated
        negative binomial) are for counts and have a log link. ``"nb"`` and ``"zinb"`` learn one dispersion per feature;
        ``"zinb"`` also learns a probability of excess zeros, whose logit is linear in z. ``"bernoulli"`` is for zeros
        and ones and has a logit link. All but ``"gaussian"`` accept sparse tables.
    size_factors : "sum", None or callable, default="sum"
        Sizes of the samples: what expected counts are multiplied by (``likelihood="poisson"``, ``"nb"`` or ``"zinb"``).
        None gives all samples the same size. ``"sum"`` takes each sample's total count, which then must not be zero. A
        callable computes them from X (array, CSR array or table on disk). Sizes of a table's own come with its rows:
        ``fit(X, size_factors=...)``. Only the ratios of sizes matter. Likelihoods are those of the raw counts, given
        the sizes. Expected values along the latent (``trajectories``, ``inverse_transform``) are those of a sample of
        median size. ``sample`` draws sizes from a log-normal distribution with the mean and standard deviation of the
        training table's log sizes. With ``"sum"`` the decoder gives shares that add up to one.
    covariates : str, int, list, dict, callable or None, default=None
        Columns of X that condition and are not modelled, such as sex, site, batch or age: names or positions, a boolean
        mask, or a callable that chooses them from X, as scikit-learn's ``make_column_selector``. Columns that hold
        strings, booleans or categories are categorical, others numeric; a dict tells what each is, as in
        ``{"site": "categorical"}``. Covariates can also be passed beside X: ``fit(X, covariates=...)``. The other
        columns are modelled given the covariates, so the latent need not say what these say. Expected values along the
        latent are those of average covariates, where nothing else is asked.
    unknown_covariate : {"error", "average"}, default="error"
        What becomes of samples, after the fit, that have no value of a covariate or a level that training did not have:
        an error, or they count as average ones.
    latent_init : {"pca", "zero"}, default="pca"
        Where representations start: at principal components (for counts, those of log1p of normalised counts), or at
        zero, as published.
    mixture_init : {"gmm", "kmeans", "softball"}, default=None
        Where the mixture starts. ``"gmm"`` fits a mixture to the starting representations, by restarts and by moves
        that split and merge components. ``"kmeans"`` takes their k-means clusters. ``"softball"`` puts narrow
        components around draws from the prior of the means, as published. None means ``"gmm"``, with two exceptions
        where it means ``"softball"``: with ``latent_init="zero"``, which leaves nothing to fit a mixture to, and if the
        class of every sample is known (``supervised``), because such components keep classes apart.
    covariance_type : {"diag", "isotropic", "fixed"}, default="diag"
        Variances of the components: one for each component and axis, one for each component, or variances that stay
        where they start.
    may_be_empty : bool, default=True
        Whether components are left out that the samples do not support. ``mixture_init="gmm"`` leaves out those that
        raise the log-likelihood by less than Schwarz's criterion asks for. After training, those to which no sample
        belongs are left out. Components of classes always stay. ``n_clusters_`` is the number that is left.
    dirichlet_alpha : float, default=1.0
        Concentration of the Dirichlet prior on the weights of the components, at least 1. Values above 1 draw the
        clusters towards equal sizes.
    softball_scale : float, default=1.0
        Radius of the ball in which means lie a priori (eq. 6). With ``mixture_init="gmm"`` or ``"kmeans"``, whose
        components have standard deviations of about 1, the radius is this times 5 K, which is the published ratio, or
        times the distance of the farthest mean if that is larger.
    softball_sharpness : float, default=1.0
        How steeply the prior of the means falls at the surface of the ball.
    prior_weight : "n_samples" or float, default="n_samples"
        Factor on log p(phi), the log prior of the mixture's parameters. In eq. 3 it is 1, but then nothing keeps
        components from shrinking onto a few points. What was published counts the prior once for every sample, as
        ``"n_samples"`` does.
    refit_mixture : bool, default=True
        Whether the mixture is fitted again after training. This takes into account how uncertain the representations
        are: by Laplace's approximation, or by the standard deviations that ``representation="variational"`` has
        learned.
    decoder : torch.nn.Module, default=None
        Your own network. It maps latents of shape (n, n_components) to n_features values each, in any shape: expected
        values in units of the columns' standard deviations (gaussian), logits (bernoulli), or logs of expected counts.
        It must compute in the dtype of its input (single, later double precision), and be a function of each latent
        alone. The network is copied, and the copy starts from its weights. Layers that draw, as dropout does, draw from
        torch's global generator. It is seeded from ``random_state`` during the fit, and fits in other threads that need
        it wait. pickle saves the network as the object that it is; skops cannot. None means a multilayer perceptron.
    hidden_layer_sizes : sequence of int, default=(100, 100, 100)
        Number of units in each hidden layer of the decoder's network. If empty, the decoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="gelu"
        Activation function of the hidden layers. Posteriors under ``"relu"`` have kinks, which slow down the search for
        their modes.
    weight_decay : float, default=0.1
        Weight decay of the decoder, in nats per sample: ``weight_decay / 2`` times the sum of its squared weights is
        added to the loss. This is a Gaussian prior whose precision grows with the number of samples. Representations
        are points, and take up noise if the decoder is free to follow them: too little weight decay costs held-out
        likelihood.
    noise_floor : float, default=0.1
        Smallest noise standard deviation of ``likelihood="gaussian"``, as a share of each column's standard deviation.
    learning_rate : float, default=1e-3
        Initial learning rate of Adam. It is that of the decoder. All rates fall to zero along a cosine.
    latent_learning_rate : float, default=None
        Initial learning rate of the representations. None means ten times ``learning_rate``.
    mixture_learning_rate : float, default=None
        Initial learning rate of the mixture. None means ten times ``learning_rate``.
    betas : pair of floats, default=(0.5, 0.7)
        Decay rates of Adam, for decoder, representations and mixture.
    batch_size : int, default=128
        Number of rows per gradient step. Decoder and mixture take these steps; representations take one per epoch.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 200, or as many as make 2000 gradient steps.
    n_iter_no_change : int, default=10
        Training stops after this many epochs in a row without progress.
    tol : float, default=1e-3
        An epoch makes progress if it changes the training loss by at least this much, in nats per sample.
        Where another value than the default asks for this rule, a warning says if the epochs are over before it is met.
    latent_tol : float, default=1e-4
        Accuracy of representations, in nats: the search for a mode ends when its next step promises to gain less than
        this. Larger values make the representations of new samples faster.
    n_init : int, default=10
        Number of starts of ``mixture_init="gmm"`` or ``"kmeans"``.
    n_importance_samples : int, default=500
        Number of quasi-random draws per sample from which likelihoods are estimated where they are not integrated on a
        grid. It is rounded up to a power of two. For a likelihood, samples whose posteriors are nearly Gaussian take
        fewer where these do as well, down to a quarter, and others take up to twice as many.
    device : str, default="auto"
        Torch device of fits. ``"auto"`` is ``"cuda"`` if PyTorch finds a CUDA device, else ``"cpu"``. A fitted model
        answers on the device of its fit. One that was loaded from a file answers on the CPU, until its module is moved:
        ``model.module_.to("cuda")``.
    data_parallel : bool, default=False
        Whether the fit is shared among processes that ``torchrun`` (or, on GPUs, ``accelerate launch``) has started.
        Each of them runs the same program on the same table, and ends with the same fitted estimator. Every gradient
        step takes ``batch_size`` rows from each process. Callbacks run in all processes, and have to decide alike. With
        one process, nothing changes. Needs the extra ``accelerate``.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random in a fit, such as starting weights and the order of rows in batches. An integer makes
        fits repeatable on the same machine.
    verbose : int, default=0
        Whether a fit says what it does, with a bar over the epochs of every start: it does for values above zero. Bars
        of all fits of a search are scikit-learn's (1.9 or newer): ``search.set_callbacks(ProgressBar())``.
    callbacks : list or tuple of skorch callbacks, default=None
        Callbacks that training notifies: each a callback, or a pair of a name and a callback. The history that they see
        records every term of the loss by name.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Representations of the training samples. They are what :meth:`transform` finds, except that the prior of a
        sample of known class is the component of that class.
    labels_ : ndarray of shape (n_samples,)
        Most probable component of each training sample, which is what :meth:`predict` finds, except that a sample of
        known class belongs to the component of that class. Clusters are in the order of their sizes, classes in the
        order of ``classes_``.
    weights_ : ndarray of shape (``n_clusters_``,)
        Weights of the mixture's components.
    means_, covariances_ : ndarray of shape (``n_clusters_``, n_components)
        Means of the components, and their variances along each axis.
    prior_mixture_ : PriorMixture
        Components of the latent's prior: ``weights`` of shape (K,), ``means`` and ``sds`` of shape (K, n_components).
    n_clusters_ : int
        Number of components.
    classes_ : ndarray of shape (n_classes,)
        Classes to which the first components belong (``supervised=True`` only).
    noise_scale_ : ndarray of shape (n_features,)
        Noise standard deviation of each feature, in the units of X (``likelihood="gaussian"`` only).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta of each feature, for a variance of mean + mean^2 / theta (``likelihood="nb"`` and ``"zinb"``
        only).
    log_posterior_ : float
        The objective (eq. 3) at ``embedding_``, in nats per training sample and in the units of X, up to a constant of
        the decoder's prior. Values for different numbers of components cannot be compared.
    history_ : skorch.history.History
        One record per epoch, with the training loss and its terms by name, and the loss of held-out rows if there are
        any. Losses are in the units of the model, which standardises the columns of ``likelihood="gaussian"``.
    n_iter_ : int
        Number of epochs of the run that was kept. Those of other starts and runs do not count.
    module_ : torch.nn.Module
        The fitted model.
    n_features_in_ : int
        Number of features seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the features seen during :meth:`fit`, if X has column names that are strings.
    modelled_columns_ : ndarray of shape (n_modelled,)
        Positions of the columns of X that are modelled, and that results on features are about: all but those that
        condition (``covariates``).

    See Also
    --------
    VampVAE : Embeds and clusters samples with an encoder, which embeds new samples at once.

    Notes
    -----
    The density of the mixture is ``log sum_k pi_k N(z | mu_k, sigma_k^2)``. In eq. 4 of the paper the weight has
    slipped into the exponent. The Dirichlet prior is on the K weights.

    The representation of a new sample is the highest mode of ``log p(x | z) + log p(z)`` that is found from several
    starts. The posterior is compared at 256 points, the components' means and draws from the mixture; the four highest
    of those that are higher than their neighbours are starts, and so is a linear prediction (principal components,
    regressed on the trained representations). Searches go on by L-BFGS for all rows of a chunk side by side, each with
    its own curvature and steps. The first curvature is the one that the decoder has at the start.

    Samples with equal values have one representation, with their total weight, and a fit sees the samples in an order
    that depends on their values alone. So it does not depend on the order of the samples, and a weight of two is the
    same as a sample twice. Samples of a table on disk are seen in the order of the table.

    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

    References
    ----------
    .. [1] V. Schuster and A. Krogh. The Deep Generative Decoder: MAP estimation of representations improves modelling
       of single-cell RNA data. Bioinformatics, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae import DGDEmbedder
    >>> X, species = load_iris(return_X_y=True)
    >>> dgd = DGDEmbedder(n_components=2, n_clusters=3, max_epochs=50, random_state=0).fit(X)
    >>> dgd.embedding_.shape, dgd.n_clusters_
    ((150, 2), 3)
    >>> dgd.predict_proba(X[:4]).shape
    (4, 3)
    """

    module_: MixtureModel
    embedding_: np.ndarray
    labels_: np.ndarray
    weights_: np.ndarray
    means_: np.ndarray
    covariances_: np.ndarray
    n_clusters_: int
    classes_: np.ndarray
    log_posterior_: float
    #: fields of the linear map that predicts representations, where they started at principal components
    _projection_: dict[str, Any] | None

    _of_training_rows: ClassVar[frozenset[str]] = frozenset({"embedding_", "labels_"})
    _parameter_constraints: ClassVar[dict] = {
        **LatentEstimator._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "representation": [StrOptions({"map", "variational"})],
        "supervised": ["boolean"],
        **LatentEstimator._size_factor_constraints,
        **LatentEstimator._covariate_constraints,
        "latent_init": [StrOptions({"pca", "zero"})],
        "mixture_init": [None, StrOptions({"gmm", "kmeans", "softball"})],
        "covariance_type": [StrOptions(set(COVARIANCE_TYPES))],
        "may_be_empty": ["boolean"],
        "dirichlet_alpha": [Interval(Real, 1, None, closed="left")],
        "softball_scale": [Interval(Real, 0, None, closed="neither")],
        "softball_sharpness": [Interval(Real, 0, None, closed="neither")],
        "prior_weight": [StrOptions({"n_samples"}), Interval(Real, 0, None, closed="left")],
        "refit_mixture": ["boolean"],
        "decoder": [None, nn.Module],
        "hidden_layer_sizes": ["array-like"],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "latent_learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "mixture_learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "betas": ["array-like"],
        "latent_tol": [Interval(Real, 0, None, closed="neither")],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
        "data_parallel": ["boolean"],
    }

    def __init__(
        self,
        n_components: int = 20,
        *,
        n_clusters: int | None = 10,
        representation: Literal["map", "variational"] = "map",
        supervised: bool = False,
        likelihood: LikelihoodName = "gaussian",
        size_factors: SizeRule = "sum",
        covariates: ColumnChoice = None,
        unknown_covariate: UnknownCovariate = "error",
        latent_init: Literal["pca", "zero"] = "pca",
        mixture_init: Literal["gmm", "kmeans", "softball"] | None = None,
        covariance_type: Literal["diag", "isotropic", "fixed"] = "diag",
        may_be_empty: bool = True,
        dirichlet_alpha: float = 1.0,
        softball_scale: float = 1.0,
        softball_sharpness: float = 1.0,
        prior_weight: Literal["n_samples"] | float = "n_samples",
        refit_mixture: bool = True,
        decoder: nn.Module | None = None,
        hidden_layer_sizes: LayerSizes = (100, 100, 100),
        activation: Activation = "gelu",
        weight_decay: float = 0.1,
        noise_floor: float = 0.1,
        learning_rate: float = 1e-3,
        latent_learning_rate: float | None = None,
        mixture_learning_rate: float | None = None,
        betas: tuple[float, float] = (0.5, 0.7),
        batch_size: int = 128,
        max_epochs: int | None = None,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        latent_tol: float = 1e-4,
        n_init: int = 10,
        n_importance_samples: int = 500,
        device: str = "auto",
        data_parallel: bool = False,
        random_state: RandomState = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ):
        self.n_components = n_components
        self.n_clusters = n_clusters
        self.representation = representation
        self.supervised = supervised
        self.likelihood = likelihood
        self.size_factors = size_factors
        self.covariates = covariates
        self.unknown_covariate = unknown_covariate
        self.latent_init = latent_init
        self.mixture_init = mixture_init
        self.covariance_type = covariance_type
        self.may_be_empty = may_be_empty
        self.dirichlet_alpha = dirichlet_alpha
        self.softball_scale = softball_scale
        self.softball_sharpness = softball_sharpness
        self.prior_weight = prior_weight
        self.refit_mixture = refit_mixture
        self.decoder = decoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.weight_decay = weight_decay
        self.noise_floor = noise_floor
        self.learning_rate = learning_rate
        self.latent_learning_rate = latent_learning_rate
        self.mixture_learning_rate = mixture_learning_rate
        self.betas = betas
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.latent_tol = latent_tol
        self.n_init = n_init
        self.n_importance_samples = n_importance_samples
        self.device = device
        self.data_parallel = data_parallel
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    # ---- fitting ----------------------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: TableLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
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
        y : array-like of shape (n_samples,), default=None
            Classes of the samples, with ``supervised=True``; otherwise it plays no part.
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

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X does not suit the likelihood, if a row has no observed entry, if parameters contradict each
            other, if ``supervised`` has no class to learn from, or if the loss stops being finite. What an earlier fit
            has found then stays as it was.
        KeyboardInterrupt
            Where Ctrl-C is pressed. From the end of the first epoch on, the estimator keeps what was learned.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> dgd.fit(cells.data).embedding_.shape
        (60, 2)
        """
        return self._fit_afresh(X, y=y, sample_weight=sample_weight, size_factors=size_factors, covariates=covariates)

    def _fit(
        self,
        X: TableLike,
        *,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        size_factors: ArrayLike | None = None,
        covariates: CovariatesLike = None,
    ) -> None:
        parameters = DGDParameters.of(self)
        parameters.check()
        settings = self._settings()
        processes = processes_of_a_fit(settings.data_parallel, settings.device)
        announce("reading the table")
        X, conditioning = self._validate(X, reset=True)
        weight = checked_weights(sample_weight, X)
        known_covariates, design = self._learn_covariates(conditioning, covariates, X.shape[0], weight)
        check_rows(X, weight)
        component = None
        if self.supervised:
            self.classes_, component = known_components(y, weight)
        settled = self._sizes_of(size_factors, self.likelihood)
        columns, outliers = self._look_over(X, settled, weight)
        sizes = own_sizes(X, settled)
        training = TrainingTable.learn(
            X,
            weighted_rows(columns.of(X), weight, component, sizes, design).without(outliers.rows),
            likelihood=self.likelihood,
            columns=columns,
            outliers=outliers,
            size_factors=settled,
            sizes=sizes,
            covariates=known_covariates,
            design=design,
            component=component,
        )
        self._reader_ = training.table.reader
        dtype = training_dtype(training.table.values, self._is_count_model())
        source = training.table.source(torch.zeros((), dtype=dtype, device=resolve_device(self.device)))
        processes.check_same_table(source)
        with fitting_threads(self._gains_from_threads(source)):
            found = fit_decoder(
                source,
                parameters,
                settings,
                likelihood=self._likelihood_config(),
                has_totals=self._reader_.has_totals,
                average_covariates=self._reader_.average_design,
                seeds=processes.of_the_first(spawn_seeds(self.random_state, 3)),
                processes=processes,
            )
            warn_unless_met(settings, found.history, found.ran_out)
            warn_unless_converged(found.modes)
            self._keep(found)
            self._keep_samples(training, found)

    def _gains_from_threads(self, source: RowSource) -> bool:
        width = 1 if self.decoder is not None else [1, *self.hidden_layer_sizes][-1]
        return source.is_large or products_gain(min(self.batch_size, len(source)), source.n_features, width)

    def _keep(self, found: DecoderFit) -> None:
        """Set the fitted attributes that describe the model."""
        self.module_, self._config_, self._training_range_ = found.module, found.config, found.training_range
        self.history_, self.n_iter_ = found.history, len(found.history)
        projection, mixture = found.inference.projection, PriorMixture.of(found.inference.model.latent_prior())
        self._projection_ = None if projection is None else asdict(projection)
        self.weights_, self.means_, self.covariances_ = mixture.weights, mixture.means, mixture.sds**2
        self.n_clusters_ = len(self.weights_)
        self._store_results()

    def _keep_samples(self, training: TrainingTable, found: DecoderFit) -> None:
        """Set the fitted attributes that have a value for each sample, or are means over the samples."""
        model, modes, rows = found.inference.model, found.modes, training.rows
        mean = np.average(training.table.in_user_nats(modes.log_joint), weights=rows.weights)
        self.log_posterior_ = float(mean) + float(model.log_prior()) / rows.weights.sum()
        like, inference = modes.position, found.inference
        embedding = training.spread(
            modes.position.cpu().numpy(), lambda table: inference.modes(table.source(like)).position.cpu().numpy()
        )
        self.embedding_ = embedding.astype(training.samples.dtype, copy=False)
        self.labels_ = training.spread(found.labels, lambda table: labels_of(inference, table.source(like))[0])

    @property
    def prior_mixture_(self) -> PriorMixture:
        """The mixture's components.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> prior = dgd.fit(cells.data).prior_mixture_
        >>> prior.means.shape == dgd.means_.shape
        True
        """
        check_is_fitted(self, "module_")
        return PriorMixture.of(copy.deepcopy(self.module_.mixture).double().mixture())

    # ---- latents and clusters of samples ----------------------------------------------------------------------------

    def fit_predict(
        self, X: TableLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None, **facts: Any
    ) -> np.ndarray:
        """Fit the model and return the cluster of every sample.

        Parameters
        ----------
        X, y, sample_weight, **facts
            As for :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            ``labels_``.

        Examples
        --------
        >>> from sklearn.metrics import adjusted_rand_score
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> labels = dgd.set_params(max_epochs=30).fit_predict(cells.data)
        >>> bool(adjusted_rand_score(cells.target, labels) > 0.9)  # the groups that the cells were drawn from
        True
        """
        return self.fit(X, y, sample_weight=sample_weight, **facts).labels_

    def fit_transform(
        self, X: TableLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None, **facts: Any
    ) -> np.ndarray:
        """Fit the model and return the samples' representations.

        Parameters
        ----------
        X, y, sample_weight, **facts
            As for :meth:`fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            ``embedding_``.

        Examples
        --------
        >>> from skdevae import DGDEmbedder
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 30, weights=[2, 1], random_state=0)
        >>> dgd = DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", max_epochs=8, random_state=0)
        >>> Z = dgd.fit_transform(cells.data)
        >>> Z.shape, bool((Z == dgd.embedding_).all())
        ((60, 2), True)
        """
        return self.fit(X, y, sample_weight=sample_weight, **facts).embedding_
