"""Variational autoencoders: the baselines that the papers compare with, trained to their optimum."""

from __future__ import annotations

from .._base.estimator import DenoisingModel
from ._autoencoder import VariationalAutoencoder


class VAETransformer(DenoisingModel, VariationalAutoencoder):
    """Embed samples by a variational autoencoder: an encoder, a Gaussian latent, and a plain or linear decoder.

    Unless told otherwise: z ~ N(0, I), each feature depends on z through a multilayer perceptron, or linearly, and
    q(z | x) is a Gaussian whose mean and standard deviations an encoder computes from x [1]_. With ``decoder="linear"``
    and ``likelihood="gaussian"`` this is factor analysis, and the fit ends where
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
    prior : {"normal", "mixture", "vamp"}, default="normal"
        Prior of the latent: standard normal, a Gaussian mixture whose means, sds and weights are learned, or the
        variational mixture of posteriors: the encoder's posteriors at pseudo-inputs.
    n_pseudo_inputs : int, default=None
        Pseudo-inputs of ``prior="vamp"``. None means 500, or one for every ten samples where those are fewer: a prior
        that has one for nearly every sample learns them by heart. A number above that of the samples is lowered to it,
        with a warning.
    pseudo_input_init : {"kmeans", "data", "random"}, default="kmeans"
        Where they start: at k-means centres of the rows (as the encoder sees them), at random rows, or at noise with
        the columns' means and standard deviations.
    learn_pseudo_inputs : bool, default=True
        Whether they are trained, or stay where they start.
    n_mixture_components : int, default=20
        Components of ``prior="mixture"``, at most one for each sample.
    learn_mixture_weights : bool, default=True
        Whether the weights of a prior's components are trained, or all equal.
    posterior_family : {"normal", "iaf"}, default="normal"
        What q(z | x) is: the encoder's Gaussian with independent components, or that Gaussian carried on by inverse
        autoregressive flows (needs the extra ``flows``; not with ``prior="vamp"``).
    n_flows : int, default=5
        Layers of ``posterior_family="iaf"``, in alternating order of the components.
    variational : bool, default=True
        False is the plain autoencoder: z is the encoder's mean, and prior and posterior play no role. It has no
        likelihood of X (``score`` and the like raise), only reconstructions.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    size_factors : "sum", None, array-like of shape (n_samples,) or callable, default=None
        What a sample's expected counts (poisson, nb, zinb) are multiplied by, in any unit: its total, nothing, what is
        given, or what a function of X (as an array, or a CSR array) gives. Likelihoods are of the raw counts, given
        these. The encoder sees log1p of counts divided by them; with "sum", the decoder gives shares that add up to
        one. Expected values along the latent (``trajectories``, ``inverse_transform``) are those of a sample of median
        size; ``sample`` draws sizes from a log-normal distribution with the training table's mean and standard
        deviation. Rows without a count cannot have "sum". With an array, ``set_params(size_factors=...)`` those of
        another table's rows before that table is passed.
    hidden_layer_sizes : sequence of int, default=None
        Hidden layers of the decoder's perceptron; None means (64,). A linear decoder has none.
    encoder_hidden_layer_sizes : sequence of int, default=(64,)
        Hidden layers of the encoder. Empty: the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Nonlinearity of hidden layers.
    normalization : {"batch", "layer"}, default=None
        Normalisation after every hidden layer's activation.
    dropout : float, default=0.0
        Share of hidden units that a training step leaves out.
    linear_skip : bool, default=True
        Whether linear maps, which start at principal components, stand beside both perceptrons. A linear decoder always
        comes with them.
    beta : float, default=1.0
        Weight of KL(q(z | x) || p(z)).
    kl_warmup : float, default=0.0
        Share of the epochs over which that weight rises from zero. Zero, because a fit that starts from principal
        components has no collapse to fear, while without the divergence two components come to reproduce two features.
        Neither early stopping nor a plateau is judged before its end.
    weight_decay : float, default=20.0
        Precision of the Gaussian prior on each weight between the decoder's hidden units and a feature, in nats; the
        plane has none.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam. None means 0.01.
    learning_rate_decay : {"cosine", "plateau"}, default="cosine"
        Whether it falls to zero along a cosine, or is halved whenever (after warm-up) ten epochs, or half of
        ``n_iter_no_change`` if that is less, have passed without progress of at least ``tol`` in the training loss, or
        with ``early_stopping`` in the validation loss.
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
    pseudo_inputs_ : ndarray of shape (n_pseudo_inputs, n_features)
        Pseudo-inputs of ``prior="vamp"``, in the units of X (counts: of a sample of median size).
    mixture_weights_ : ndarray of shape (K,)
        Weights of the prior's components.
    prior_mixture_ : PriorMixture
        The components: ``weights`` (K,), ``means`` (K, n_components) and ``sds`` (K, n_components).
    noise_scale_ : ndarray of shape (n_features,)
        Noise sd in the units of X (gaussian).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta, with variance = mean + mean^2 / theta (nb, zinb).
    lower_bound_ : float
        The evidence lower bound, less what the weights' prior takes, in nats per training sample and the units of X. Of
        an autoencoder, log p(x | z) in its place.
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
    VampVAE : The same with a mixture of posteriors as its prior, which clusters samples.
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

    _least_steps = 4000

    def __init__(
        self,
        n_components=2,
        *,
        decoder="mlp",
        prior="normal",
        n_pseudo_inputs=None,
        pseudo_input_init="kmeans",
        learn_pseudo_inputs=True,
        n_mixture_components=20,
        learn_mixture_weights=True,
        posterior_family="normal",
        n_flows=5,
        variational=True,
        likelihood="gaussian",
        size_factors=None,
        hidden_layer_sizes=None,
        encoder_hidden_layer_sizes=(64,),
        activation="tanh",
        normalization=None,
        dropout=0.0,
        linear_skip=True,
        beta=1.0,
        kl_warmup=0.0,
        weight_decay=20.0,
        noise_floor=0.1,
        learning_rate=None,
        learning_rate_decay="cosine",
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
        super().__init__(
            n_components=n_components,
            decoder=decoder,
            prior=prior,
            n_pseudo_inputs=n_pseudo_inputs,
            pseudo_input_init=pseudo_input_init,
            learn_pseudo_inputs=learn_pseudo_inputs,
            n_mixture_components=n_mixture_components,
            learn_mixture_weights=learn_mixture_weights,
            posterior_family=posterior_family,
            n_flows=n_flows,
            variational=variational,
            likelihood=likelihood,
            size_factors=size_factors,
            hidden_layer_sizes=hidden_layer_sizes,
            encoder_hidden_layer_sizes=encoder_hidden_layer_sizes,
            activation=activation,
            normalization=normalization,
            dropout=dropout,
            linear_skip=linear_skip,
            beta=beta,
            kl_warmup=kl_warmup,
            weight_decay=weight_decay,
            noise_floor=noise_floor,
            learning_rate=learning_rate,
            learning_rate_decay=learning_rate_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            n_init=n_init,
            n_importance_samples=n_importance_samples,
            orientation=orientation,
            device=device,
            random_state=random_state,
            verbose=verbose,
            callbacks=callbacks,
        )
