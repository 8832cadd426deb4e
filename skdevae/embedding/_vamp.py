"""VampVAE: the model of the VAMP paper, a variational autoencoder whose prior is a mixture of its own posteriors."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClusterMixin

from .._base.lazy_answers import answers_by_rows
from .._base.simulation import require_density
from .._base.training_table import TrainingTable
from .._sklearn import Interval, available_if
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
from ..inference.encoder import EncoderInference
from ..table.source import RowSource
from ..table.table import Table
from ..training.fitting import Fit
from ._autoencoder import (
    AutoencoderDefaults,
    Decoder,
    LearningRateDecay,
    Normalization,
    PosteriorFamily,
    Prior,
    PseudoInputInit,
    VariationalAutoencoder,
)
from ._mixture_clusters import merge_components
from ._prior_mixture import PriorMixture


class VampVAE(ClusterMixin, VariationalAutoencoder):
    """Embed and cluster samples by a variational autoencoder with a mixture of posteriors as its prior.

    z follows ``p(z) = sum_k w_k q(z | u_k)``, a mixture of the encoder's own posteriors at K learned pseudo-inputs u_k
    [1]_, and every feature depends on z through a multilayer perceptron [2]_. A standard normal prior draws all samples
    into one cloud, and leaves some latent units unused. This prior lies where the data are: cell types stay apart, and
    held-out likelihood is higher. Its components cluster the samples.

    The model is that of :class:`VAETransformer` with other defaults, and with a :meth:`predict` that returns clusters.

    Parameters
    ----------
    n_components : int, default=10
        Number of dimensions of the latent.
    n_clusters : int, default=None
        Number of clusters into which :meth:`predict` merges the prior's components. None makes each component a
        cluster. The fit does not depend on it: if you set it after a fit, predictions change at once, while ``labels_``
        stays.
    prior : {"normal", "mixture", "vamp"}, default="vamp"
        Prior of the latent. ``"normal"`` is the standard normal distribution. ``"mixture"`` is a Gaussian mixture whose
        means, standard deviations and weights are learned. ``"vamp"`` is the variational mixture of posteriors: its
        components are the encoder's posteriors at pseudo-inputs.
    n_pseudo_inputs : int, default=None
        Number of pseudo-inputs of ``prior="vamp"``. None means one for every ten different samples, and 500 at most. A
        prior with a pseudo-input for nearly every sample learns the samples by heart. A number above that of the
        samples is lowered to it, with a warning.
    pseudo_input_init : {"kmeans", "data", "random"}, default="kmeans"
        Where pseudo-inputs start: at k-means centres of the rows, on the encoder's scale; at random rows; or at noise
        with the means and standard deviations of the columns.
    learn_pseudo_inputs : bool, default=True
        Whether pseudo-inputs are trained. If not, they stay where they start.
    n_mixture_components : int, default=20
        Number of components of ``prior="mixture"``. There is at most one for each sample.
    learn_mixture_weights : bool, default=True
        Whether the weights of the prior's components are trained. If not, they are equal.
    posterior_family : {"normal", "iaf"}, default="normal"
        Family of the posteriors q(z | x). ``"normal"`` is a Gaussian with independent components, whose parameters the
        encoder gives. ``"iaf"`` transforms that Gaussian by inverse autoregressive flows; it needs the extra ``flows``,
        and does not go with ``prior="vamp"``.
    n_flows : int, default=5
        Number of layers of ``posterior_family="iaf"``. Each takes the components in the opposite order of the one
        before.
    variational : bool, default=True
        False gives a plain autoencoder: z is the mean that the encoder gives, and prior and posterior play no part. A
        plain autoencoder has no likelihood of X, only reconstructions, so ``score`` and the like raise an
        AttributeError.
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
        training table's log sizes. With ``"sum"`` the decoder gives shares that add up to one. The encoder sees log1p
        of counts divided by their sizes.
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
    decoder : {"mlp", "linear"}, default="mlp"
        How the decoder maps the latent to expected values, before the link of the likelihood: by a multilayer
        perceptron, or by a linear map. See ``linear_skip``.
    hidden_layer_sizes : sequence of int, default=None
        Number of units in each hidden layer of the decoder's network. None means (128,), and no hidden layers for
        ``decoder="linear"``, which cannot have any.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Number of units in each hidden layer of the encoder. If empty, the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Activation function of the hidden layers.
    normalization : {"batch", "layer"}, default=None
        Kind of normalisation after the activation of every hidden layer. None means no normalisation.
    dropout : float, default=0.0
        Share of the hidden units that a training step leaves out.
    linear_skip : bool, default=False
        Whether encoder and decoder have a linear map beside their perceptrons. These maps start at the leading
        principal components. ``decoder="linear"`` always has them.
    beta : float, default=1.0
        Weight of the divergence KL(q(z | x) || p(z)) in the objective. 1 gives the evidence lower bound.
    kl_warmup : float, default=0.3
        Share of the epochs over which the weights of divergences rise from zero when an encoder is trained. Early
        stopping and plateaus are judged only after that. A warm-up keeps latent units that say little at first from
        being given up.
    weight_precision : float, default=20.0
        Precision of the Gaussian prior on each weight of the decoder's last layer: half of it times the sum of squared
        weights, in nats for the whole table, is taken off the log-likelihood. Larger values make simpler curves. The
        linear map of ``linear_skip`` has no such prior.
    noise_floor : float, default=0.1
        Smallest noise standard deviation of ``likelihood="gaussian"``, as a share of each column's standard deviation.
    learning_rate : float, default=None
        Initial learning rate of Adam. None means 0.002.
    learning_rate_decay : {"cosine", "plateau"}, default="cosine"
        How the learning rate falls. ``"cosine"`` lets it fall to zero along a cosine. ``"plateau"`` halves it after ten
        epochs without progress, or after half of ``n_iter_no_change`` if that is less. ``tol`` says what progress is.
    batch_size : int, default=128
        Number of rows per gradient step.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 100, or as many as make 2000 gradient steps.
    early_stopping : bool, default=False
        Whether to hold out rows during training, stop when the loss of these rows no longer falls, and keep the weights
        of the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows, by weight, that ``early_stopping`` holds out. Copies of a row stay together.
    n_iter_no_change : int, default=10
        Training stops after this many epochs in a row without progress.
    tol : float, default=1e-3
        An epoch makes progress if it changes the training loss by at least this much, in nats per sample. With
        ``early_stopping`` the held-out loss counts instead, and has to fall this much below its best value so far.
        Where ``early_stopping`` or another value than the default asks for this rule, a warning says if the epochs are
        over before it is met, unless they are no more than ``n_iter_no_change``.
    n_init : int, default=1
        Number of starts. The fit with the best ``lower_bound_`` is kept. Starts differ in their random weights. With
        ``linear_skip``, the first start places samples by the leading principal components, others by random mixtures
        of a few more.
    n_importance_samples : int, default=500
        Number of quasi-random draws per sample from which likelihoods are estimated where they are not integrated on a
        grid. It is rounded up to a power of two. For a likelihood, samples whose posteriors are nearly Gaussian take
        fewer where these do as well, down to a quarter, and others take up to twice as many.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis. :meth:`fit` also takes a variable outside
        of X. None points each axis so that the features' correlations with it add up to zero or more.
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
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample, as :meth:`predict` gives it. A plain autoencoder (``variational=False``) has
        none.
    pseudo_inputs_ : ndarray of shape (n_pseudo_inputs, n_features)
        Pseudo-inputs of ``prior="vamp"``, in the units of X; for counts, those of a sample of median size. Their
        covariates are average. They are parameters of the model and not data, so counts are fractional and can be a
        little below zero.
    mixture_weights_ : ndarray of shape (K,)
        Weights of the prior's components.
    prior_mixture_ : PriorMixture
        Components of the latent's prior: ``weights`` of shape (K,), ``means`` and ``sds`` of shape (K, n_components).
    noise_scale_ : ndarray of shape (n_features,)
        Noise standard deviation of each feature, in the units of X (``likelihood="gaussian"`` only).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta of each feature, for a variance of mean + mean^2 / theta (``likelihood="nb"`` and ``"zinb"``
        only).
    lower_bound_ : float
        Objective that the fit maximised, in nats per training sample and in the units of X: the evidence lower bound
        plus the log prior of the model's parameters. For a plain autoencoder, log p(x | z) takes the place of the
        bound.
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
    VAETransformer : The same model with the defaults of a baseline. Its ``predict`` denoises.

    Notes
    -----
    Posterior and prior are estimated at one draw of z for each sample and step, from the joint density of the mixture
    with its weights. A training step encodes 128 pseudo-inputs, each block in turn, and takes the other components as
    they were when last encoded. So a step with 500 pseudo-inputs costs little more than one with 128. A fitted model
    encodes all of them.

    Components are merged into clusters by k-means of their means, with their weights. Clusters are in the order of
    their weights.

    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

    References
    ----------
    .. [1] J. M. Tomczak and M. Welling. VAE with a VampPrior. AISTATS 2018.
    .. [2] Variational autoencoders with flexible priors enable robust distribution learning on single-cell RNA
       sequencing data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae import VampVAE
    >>> X, species = load_iris(return_X_y=True)
    >>> vamp = VampVAE(n_components=2, n_clusters=3, n_pseudo_inputs=20, max_epochs=50, random_state=0).fit(X)
    >>> vamp.transform(X).shape
    (150, 2)
    >>> vamp.predict_proba(X).shape
    (150, 3)
    """

    labels_: np.ndarray

    _training_defaults: ClassVar[AutoencoderDefaults] = AutoencoderDefaults(
        amortized_learning_rate=2e-3, amortized_epochs=100, least_steps=2000, hidden_layer_sizes=(128,)
    )

    _of_training_rows: ClassVar[frozenset[str]] = frozenset({"labels_"})
    _parameter_constraints: ClassVar[dict] = {
        **VariationalAutoencoder._parameter_constraints,
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 10,
        *,
        n_clusters: int | None = None,
        prior: Prior = "vamp",
        n_pseudo_inputs: int | None = None,
        pseudo_input_init: PseudoInputInit = "kmeans",
        learn_pseudo_inputs: bool = True,
        n_mixture_components: int = 20,
        learn_mixture_weights: bool = True,
        posterior_family: PosteriorFamily = "normal",
        n_flows: int = 5,
        variational: bool = True,
        likelihood: LikelihoodName = "gaussian",
        size_factors: SizeRule = "sum",
        covariates: ColumnChoice = None,
        unknown_covariate: UnknownCovariate = "error",
        decoder: Decoder = "mlp",
        hidden_layer_sizes: LayerSizes | None = None,
        encoder_hidden_layer_sizes: LayerSizes = (128,),
        activation: Activation = "tanh",
        normalization: Normalization = None,
        dropout: float = 0.0,
        linear_skip: bool = False,
        beta: float = 1.0,
        kl_warmup: float = 0.3,
        weight_precision: float = 20.0,
        noise_floor: float = 0.1,
        learning_rate: float | None = None,
        learning_rate_decay: LearningRateDecay = "cosine",
        batch_size: int = 128,
        max_epochs: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        n_init: int = 1,
        n_importance_samples: int = 500,
        orientation: str | int | None = None,
        device: str = "auto",
        data_parallel: bool = False,
        random_state: RandomState = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ):
        self.n_components = n_components
        self.n_clusters = n_clusters
        self.prior = prior
        self.n_pseudo_inputs = n_pseudo_inputs
        self.pseudo_input_init = pseudo_input_init
        self.learn_pseudo_inputs = learn_pseudo_inputs
        self.n_mixture_components = n_mixture_components
        self.learn_mixture_weights = learn_mixture_weights
        self.posterior_family = posterior_family
        self.n_flows = n_flows
        self.variational = variational
        self.likelihood = likelihood
        self.size_factors = size_factors
        self.covariates = covariates
        self.unknown_covariate = unknown_covariate
        self.decoder = decoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.encoder_hidden_layer_sizes = encoder_hidden_layer_sizes
        self.activation = activation
        self.normalization = normalization
        self.dropout = dropout
        self.linear_skip = linear_skip
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.weight_precision = weight_precision
        self.noise_floor = noise_floor
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.n_init = n_init
        self.n_importance_samples = n_importance_samples
        self.orientation = orientation
        self.device = device
        self.data_parallel = data_parallel
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @classmethod
    def published(cls, n_components: int = 128, **changes: Any) -> Self:
        """The network and the training of the paper (section 2).

        The hidden layers are (512, 256) and back, with tanh, batch normalisation and a dropout of 0.2 after each. There
        are 128 latent units. Adam starts at 5e-5, its rate is halved after ten epochs without progress, and training
        stops after 100. The paper penalises all weights; here there is the prior on the decoder's last ones
        (``weight_precision``).

        Parameters
        ----------
        n_components : int, default=128
            Number of dimensions of the latent.
        **changes
            Other parameters, instead of the published ones.

        Returns
        -------
        estimator : VampVAE
            Not fitted. Its ``likelihood`` is ``"nb"``, as in the paper.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> vamp = VampVAE.published(n_components=10, max_epochs=50)
        >>> vamp.likelihood, vamp.encoder_hidden_layer_sizes, vamp.max_epochs
        ('nb', (512, 256), 50)
        """
        network = {
            "hidden_layer_sizes": (256, 512),
            "encoder_hidden_layer_sizes": (512, 256),
            "activation": "tanh",
            "normalization": "batch",
            "dropout": 0.2,
            "linear_skip": False,
            "likelihood": "nb",
            "size_factors": "sum",
        }
        training = {
            "n_pseudo_inputs": 500,
            "learning_rate": 5e-5,
            "learning_rate_decay": "plateau",
            "max_epochs": 2000,
            "early_stopping": True,
            "validation_fraction": 0.1,
            "n_iter_no_change": 100,
        }
        return cls(n_components, **{**network, **training, **changes})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if not self.variational:  # a plain autoencoder has no clusters
            tags.estimator_type = None
        return tags

    # ---- fitting ----------------------------------------------------------------------------------------------------

    def _latent_config(self, n_rows: int) -> dict[str, Any]:
        config = super()._latent_config(n_rows)
        n_most = config["prior"].get("n_mixture_components", 1)
        if self.variational and self.n_clusters is not None and self.n_clusters > n_most:
            raise ValueError(
                f"n_clusters={self.n_clusters}, but clusters are merged from the prior's components, of which there "
                f"will be {n_most} (prior={self.prior!r}, {n_rows} samples). Ask for fewer clusters, or for a prior "
                "with more components."
            )
        return config

    def _keep(self, best: Fit, training: TrainingTable, source: RowSource, reference: np.ndarray | None) -> None:
        super()._keep(best, training, source, reference)
        if self.variational:
            inference = cast(EncoderInference, self._inference())
            like = source.like.double()

            def labels_of(table: Table) -> np.ndarray:
                return self._cluster_probabilities(inference, table.source(like)).argmax(1)

            self.labels_ = training.spread(labels_of(training.table), labels_of)

    # ---- clusters of samples ----------------------------------------------------------------------------------------

    @available_if(require_density)
    def fit_predict(self, X: TableLike, y: Any = None, **facts: Any) -> np.ndarray:
        """Fit the model and return the cluster of every sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`.
        y : ignored
            Present for API consistency.
        **facts
            Passed on to :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            ``labels_``.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> labels = vamp.fit_predict(cells.data)
        >>> labels.shape, bool((labels == vamp.labels_).all())
        ((60,), True)
        """
        return self.fit(X, **facts).labels_

    @available_if(require_density)
    @answers_by_rows(dtype=np.intp)
    def predict(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """The most probable cluster of every sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Positions in the columns of :meth:`predict_proba`. A table of Dask has a lazy answer.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> vamp.fit(cells.data[:50]).predict(cells.data[50:]).shape
        (10,)
        """
        return self.predict_proba(X, size_factors=size_factors, covariates=covariates).argmax(1)

    @available_if(require_density)
    @answers_by_rows(n_columns=lambda estimator: estimator._n_merged(len(estimator.mixture_weights_)), dtype=np.float64)
    def predict_proba(
        self, X: TableLike, *, size_factors: ArrayLike | None = None, covariates: CovariatesLike = None
    ) -> np.ndarray:
        """Probability of every cluster for every sample.

        Clusters are the components of the prior, or what ``n_clusters`` merges them into.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        size_factors, covariates
            As for :meth:`fit`, of the rows of X.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters) or (n_samples, K)
            ``E_q(z | x) p(k | z)``. Each row adds up to one. A table of Dask has a lazy answer.

        Raises
        ------
        ValueError
            If ``n_clusters`` is neither None nor a whole number between 1 and the number of the prior's components.

        Examples
        --------
        >>> from skdevae import VampVAE
        >>> from skdevae.datasets import make_cell_clusters
        >>> cells = make_cell_clusters(60, 20, random_state=0)
        >>> vamp = VampVAE(2, n_pseudo_inputs=4, n_clusters=2, likelihood="poisson", max_epochs=5, random_state=0)
        >>> probabilities = vamp.fit(cells.data[:50]).predict_proba(cells.data[50:])
        >>> probabilities.shape
        (10, 2)
        >>> bool((abs(probabilities.sum(axis=1) - 1) < 1e-6).all())
        True
        """
        _, source, inference = self._for_inference(X, size_factors, covariates)
        return self._cluster_probabilities(cast(EncoderInference, inference), source)

    def _cluster_probabilities(self, inference: EncoderInference, source: RowSource) -> np.ndarray:
        responsibilities = inference.prior_responsibilities(source).cpu().numpy()
        if self.n_clusters is None:
            return responsibilities
        n_clusters = self._n_merged(responsibilities.shape[1])
        mixture = PriorMixture.of(inference.model.latent_prior())
        labels = merge_components(mixture.weights, mixture.means, n_clusters)
        return responsibilities @ np.eye(n_clusters)[labels]

    def _n_merged(self, n_most: int) -> int:
        """Number of clusters of samples, of a prior with so many components."""
        if self.n_clusters is None:
            return n_most
        if not isinstance(self.n_clusters, Integral) or self.n_clusters not in range(1, n_most + 1):
            raise ValueError(
                f"n_clusters={self.n_clusters!r}, but clusters are merged from the prior's components, of which there "
                f"are {n_most}: give a whole number between 1 and {n_most}, or fit a prior with more components."
            )
        return int(self.n_clusters)
