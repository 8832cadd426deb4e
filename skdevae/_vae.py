"""Variational autoencoders: the baselines that the papers compare with, trained to their optimum."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from ._base import LatentVariableModel
from ._fitted import DenoisingModel
from ._validation import check_layer_sizes

#: hidden layers of the decoder, where nothing is said, by its kind
_DECODERS: dict[str, tuple[int, ...]] = {"mlp": (64,), "linear": ()}


class VAETransformer(DenoisingModel, LatentVariableModel):
    """Embed samples by a variational autoencoder: an encoder, a Gaussian latent, and a plain or linear decoder.

    z ~ N(0, I), each feature depends on z through a multilayer perceptron, or linearly, and q(z | x) is a Gaussian
    whose mean and standard deviations an encoder computes from x [1]_. With ``decoder="linear"`` and
    ``likelihood="gaussian"`` this is factor analysis, and the fit ends where
    :class:`~sklearn.decomposition.FactorAnalysis` does [2]_.

    Unlike those that the papers compare with, which stop after 50 epochs from random weights, it starts from the
    principal components and trains until its loss has settled.

    Parameters
    ----------
    n_components : int, default=2
        Dimensions of the latent.
    decoder : {"mlp", "linear"}, default="mlp"
        How expected values depend on the latent (before the likelihood's link): by a plane plus a multilayer
        perceptron, or by a plane alone.
    prior : {"normal"}, default="normal"
        Prior of the latent: standard normal.
    posterior_family : {"normal"}, default="normal"
        What the encoder gives: a Gaussian with independent components.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    hidden_layer_sizes : sequence of int, default=None
        Hidden layers of the decoder's perceptron; None means (64,). A linear decoder has none.
    encoder_hidden_layer_sizes : sequence of int, default=(64,)
        Hidden layers of the encoder; a linear map from the data to the latent stands beside them. Empty: the encoder is
        linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Nonlinearity of hidden layers.
    beta : float, default=1.0
        Weight of KL(q(z | x) || p(z)).
    kl_warmup : float, default=0.0
        Share of the epochs over which that weight rises from zero. Zero, because a fit that starts from principal
        components has no collapse to fear, while without the divergence two components come to reproduce two features.
    weight_decay : float, default=20.0
        Precision of the Gaussian prior on each weight between the decoder's hidden units and a feature, in nats; the
        plane has none.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam; it decays to zero along a cosine. None means 0.01.
    batch_size : int, default=128
        Rows per gradient step.
    max_epochs : int, default=None
        Passes over the table; None means 200, or as many as make 4000 gradient steps.
    early_stopping : bool, default=False
        Whether to hold out rows, stop when their bound stops rising, and keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows that ``early_stopping`` holds out.
    n_iter_no_change : int, default=10
        Epochs without progress of at least ``tol`` before training stops.
    tol : float, default=1e-3
        What counts as progress, in nats per sample: of the held-out bound with ``early_stopping``, of the training loss
        without.
    n_init : int, default=1
        Number of starts, of which the one with the best ``lower_bound_`` is kept. The first starts from the leading
        principal components, the others from random mixtures of a few more.
    n_importance_samples : int, default=500
        Draws for each sample's likelihood where there is more than one component.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis. None points each axis so that the features'
        correlations with it have a non-negative sum. A variable outside of X can be given to :meth:`fit`.
    device : str, default="auto"
        Torch device; ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.
    random_state : int, RandomState instance or None, default=None
        Seeds starting weights, restarts, batches and the split of ``early_stopping``.
    verbose : int, default=0
        Above zero, a progress bar.
    callbacks : list of skorch callbacks, default=None
        Notified while training, in skorch's vocabulary; the history has every loss term by name.

    Attributes
    ----------
    noise_scale_ : ndarray of shape (n_features,)
        Noise sd in the units of X (gaussian).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta, with variance = mean + mean^2 / theta (nb, zinb).
    lower_bound_ : float
        The bound that the fit maximised, in nats per training sample and the units of X.
    history_ : skorch.history.History
        A row for each epoch: training and validation loss and every loss term, in the model's (standardised) units.
    n_iter_ : int
        Epochs run.
    module_ : torch.nn.Module
        The fitted model.
    n_features_in_ : int
        Number of features seen by fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X has any.

    See Also
    --------
    DeVAETransformer : Curves that can be told to rise or fall, and exact inference.

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

    inference = "amortized"
    _least_steps = 4000

    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "decoder": [StrOptions(set(_DECODERS))],
        "prior": [StrOptions({"normal"})],
        "posterior_family": [StrOptions({"normal"})],
        "hidden_layer_sizes": [None, "array-like"],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=2,
        *,
        decoder="mlp",
        prior="normal",
        posterior_family="normal",
        likelihood="gaussian",
        hidden_layer_sizes=None,
        encoder_hidden_layer_sizes=(64,),
        activation="tanh",
        beta=1.0,
        kl_warmup=0.0,
        weight_decay=20.0,
        noise_floor=0.1,
        learning_rate=None,
        batch_size=128,
        max_epochs=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-3,
        n_init=1,
        n_importance_samples=500,
        orientation=None,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.decoder = decoder
        self.prior = prior
        self.posterior_family = posterior_family
        self.likelihood = likelihood
        self.hidden_layer_sizes = hidden_layer_sizes
        self.encoder_hidden_layer_sizes = encoder_hidden_layer_sizes
        self.activation = activation
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.weight_decay = weight_decay
        self.noise_floor = noise_floor
        self.learning_rate = learning_rate
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
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        sizes = _DECODERS[self.decoder] if self.hidden_layer_sizes is None else self.hidden_layer_sizes
        if self.decoder == "linear" and len(sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}, but decoder='linear' has no hidden layers: leave "
                "hidden_layer_sizes out, or choose decoder='mlp'."
            )
        return {
            "name": "neural",
            "n_components": int(self.n_components),
            "hidden_layer_sizes": check_layer_sizes("hidden_layer_sizes", sizes),
            "activation": self.activation,
        }
