"""VAETransformer: variational autoencoders as the baselines of the papers, trained until their loss has settled."""

from __future__ import annotations

from typing import ClassVar

from .._base.denoising import DenoisingMixin
from .._typing import (
    Activation,
    Callbacks,
    ColumnChoice,
    LayerSizes,
    LikelihoodName,
    RandomState,
    SizeRule,
    UnknownCovariate,
)
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


class VAETransformer(DenoisingMixin, VariationalAutoencoder):
    """Embed samples by a variational autoencoder: an encoder, a Gaussian latent, and a decoder.

    By default, z is standard normal, and every feature depends on z through a multilayer perceptron beside a linear
    map. q(z | x) is a Gaussian whose mean and standard deviations an encoder computes from x [1]_. With
    ``decoder="linear"`` and ``likelihood="gaussian"`` the model is factor analysis, and the fit ends where that of
    :class:`~sklearn.decomposition.FactorAnalysis` does [2]_.

    The papers compare with variational autoencoders that start from random weights and stop after 50 epochs. This one
    starts from principal components and trains until its loss has settled.

    Parameters
    ----------
    n_components : int, default=2
        Number of dimensions of the latent.
    decoder : {"mlp", "linear"}, default="mlp"
        How the decoder maps the latent to expected values, before the link of the likelihood: by a multilayer
        perceptron, or by a linear map. See ``linear_skip``.
    prior : {"normal", "mixture", "vamp"}, default="normal"
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
    size_factors : "sum", None or callable, default=None
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
    hidden_layer_sizes : sequence of int, default=None
        Number of units in each hidden layer of the decoder's network. None means (64,), and no hidden layers for
        ``decoder="linear"``, which cannot have any.
    encoder_hidden_layer_sizes : sequence of int, default=(64,)
        Number of units in each hidden layer of the encoder. If empty, the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Activation function of the hidden layers.
    normalization : {"batch", "layer"}, default=None
        Kind of normalisation after the activation of every hidden layer. None means no normalisation.
    dropout : float, default=0.0
        Share of the hidden units that a training step leaves out.
    linear_skip : bool, default=True
        Whether encoder and decoder have a linear map beside their perceptrons. These maps start at the leading
        principal components. ``decoder="linear"`` always has them.
    beta : float, default=1.0
        Weight of the divergence KL(q(z | x) || p(z)) in the objective. 1 gives the evidence lower bound.
    kl_warmup : float, default=0.0
        Share of the epochs over which the weights of divergences rise from zero when an encoder is trained. Early
        stopping and plateaus are judged only after that. A fit that starts from principal components does not need it:
        without the divergence, two components come to reproduce two features.
    weight_precision : float, default=20.0
        Precision of the Gaussian prior on each weight of the decoder's last layer: half of it times the sum of squared
        weights, in nats for the whole table, is taken off the log-likelihood. Larger values make simpler curves. The
        linear map of ``linear_skip`` has no such prior.
    noise_floor : float, default=0.1
        Smallest noise standard deviation of ``likelihood="gaussian"``, as a share of each column's standard deviation.
    learning_rate : float, default=None
        Initial learning rate of Adam. None means 0.01.
    learning_rate_decay : {"cosine", "plateau"}, default="cosine"
        How the learning rate falls. ``"cosine"`` lets it fall to zero along a cosine. ``"plateau"`` halves it after ten
        epochs without progress, or after half of ``n_iter_no_change`` if that is less. ``tol`` says what progress is.
    batch_size : int, default=128
        Number of rows per gradient step.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 200, or as many as make 4000 gradient steps.
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
        Number of starts. The fit with the best ``lower_bound_`` is kept. The first start places samples by the leading
        principal components, others by random mixtures of a few more.
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
    VampVAE : The same model with a mixture of posteriors as its prior, which clusters samples.
    DeVAETransformer : Has curves that can be told to rise or fall, and exact inference.

    Notes
    -----
    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling. Auto-encoding variational Bayes. ICLR 2014.
    .. [2] J. Lucas, G. Tucker, R. Grosse and M. Norouzi. Don't blame the ELBO! A linear VAE perspective on posterior
       collapse. NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdevae import VAETransformer
    >>> iris = load_iris().data
    >>> vae = VAETransformer(n_components=2, max_epochs=50, random_state=0).fit(iris)
    >>> vae.transform(iris).shape
    (150, 2)
    >>> vae.predict(iris).shape
    (150, 4)
    """

    _training_defaults: ClassVar[AutoencoderDefaults] = AutoencoderDefaults(least_steps=4000)

    def __init__(
        self,
        n_components: int = 2,
        *,
        decoder: Decoder = "mlp",
        prior: Prior = "normal",
        n_pseudo_inputs: int | None = None,
        pseudo_input_init: PseudoInputInit = "kmeans",
        learn_pseudo_inputs: bool = True,
        n_mixture_components: int = 20,
        learn_mixture_weights: bool = True,
        posterior_family: PosteriorFamily = "normal",
        n_flows: int = 5,
        variational: bool = True,
        likelihood: LikelihoodName = "gaussian",
        size_factors: SizeRule = None,
        covariates: ColumnChoice = None,
        unknown_covariate: UnknownCovariate = "error",
        hidden_layer_sizes: LayerSizes | None = None,
        encoder_hidden_layer_sizes: LayerSizes = (64,),
        activation: Activation = "tanh",
        normalization: Normalization = None,
        dropout: float = 0.0,
        linear_skip: bool = True,
        beta: float = 1.0,
        kl_warmup: float = 0.0,
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
        self.decoder = decoder
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
