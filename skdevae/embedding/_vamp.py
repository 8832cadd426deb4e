"""The VAMP paper's model: a variational autoencoder whose prior is a mixture of its own posteriors."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.utils.metaestimators import available_if

from .._base.estimator import has_density
from .._sklearn import Interval
from ..inference.evaluation import prior_responsibilities
from ..nn.models import AmortizedModel
from ._autoencoder import VariationalAutoencoder
from ._mixture_clusters import merge_components


class VampVAE(VariationalAutoencoder):
    """Embed and cluster samples by a variational autoencoder with a mixture of posteriors as its prior.

    z follows ``p(z) = sum_k w_k q(z | u_k)``, a mixture of the encoder's own posteriors at K learned pseudo-inputs u_k
    [1]_, and every feature depends on z through a multilayer perceptron [2]_. Where a standard normal prior pulls all
    samples to one cloud, and unused latent units to nothing, this one lies where the data are: cell types stay apart,
    and held-out likelihood is higher. The components of the prior cluster the samples.

    It is :class:`VAETransformer` with other defaults, and a :meth:`predict` that answers which cluster.

    Parameters
    ----------
    n_components : int, default=10
        Dimensions of the latent.
    n_clusters : int, default=None
        Into how many clusters :meth:`predict` merges the prior's components; None leaves each a cluster of its own.
        It has no influence on the fit: with other values after it, predictions change at once.
    prior : {"normal", "mixture", "vamp"}, default="vamp"
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
    size_factors : "sum", None, array-like of shape (n_samples,) or callable, default="sum"
        What a sample's expected counts (poisson, nb, zinb) are multiplied by, in any unit: its total, nothing, what is
        given, or what a function of X (as an array, or a CSR array) gives. Likelihoods are of the raw counts, given
        these. The encoder sees log1p of counts divided by them; with "sum", the decoder gives shares that add up to
        one. Expected values along the latent (``trajectories``, ``inverse_transform``) are those of a sample of median
        size; ``sample`` draws sizes from a log-normal distribution with the training table's mean and standard
        deviation. Rows without a count cannot have "sum". With an array, ``set_params(size_factors=...)`` those of
        another table's rows before that table is passed.
    decoder : {"mlp", "linear"}, default="mlp"
        How expected values depend on the latent (before the likelihood's link): by a multilayer perceptron, or by a
        plane.
    hidden_layer_sizes : sequence of int, default=None
        Hidden layers of the decoder's perceptron; None means (128,). A linear decoder has none.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Hidden layers of the encoder. Empty: the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Nonlinearity of hidden layers.
    normalization : {"batch", "layer"}, default=None
        Normalisation after every hidden layer's activation.
    dropout : float, default=0.0
        Share of hidden units that a training step leaves out.
    linear_skip : bool, default=False
        Whether linear maps, which start at principal components, stand beside both perceptrons. A linear decoder always
        comes with them.
    beta : float, default=1.0
        Weight of KL(q(z | x) || p(z)).
    kl_warmup : float, default=0.3
        Share of the epochs over which that weight rises from zero, lest units that say little at first are given up.
        Neither early stopping nor a plateau is judged before its end.
    weight_decay : float, default=20.0
        Precision of the Gaussian prior on each weight between the decoder's hidden units and a feature, in nats; the
        plane has none.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam. None means 0.002.
    learning_rate_decay : {"cosine", "plateau"}, default="cosine"
        Whether it falls to zero along a cosine, or is halved whenever (after warm-up) ten epochs, or half of
        ``n_iter_no_change`` if that is less, have passed without progress of at least ``tol`` in the training loss, or
        with ``early_stopping`` in the validation loss.
    batch_size : int, default=128
        Rows per gradient step.
    max_epochs : int, default=None
        Passes over the table; None means 100, or as many as make 2000 gradient steps.
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
        Number of starts, of which the one with the best ``lower_bound_`` is kept. They differ in their random weights;
        with linear maps, the first starts from the leading principal components, the others from random mixtures of a
        few more.
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
        Pseudo-inputs of ``prior="vamp"``, in the units of X (counts: of a sample of median size). They are free
        parameters of the model, not rows of data: counts are fractional, and can lie below zero a little.
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
    VAETransformer : The same model with the defaults of a baseline; its ``predict`` denoises.

    Notes
    -----
    Posterior and prior are estimated at one draw for each sample and step, with the mixture's joint density and its
    weights kept. A step encodes 128 pseudo-inputs, in turn, and remembers the other components from their last turn,
    so that 500 cost little more than 128; whatever the fitted model answers has all of them encoded.

    Components are merged by k-means of their means, with their weights; clusters come in order of weight.

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

    _default_hidden_layers: ClassVar[dict[str, tuple[int, ...]]] = {"mlp": (128,), "linear": ()}
    _amortized_learning_rate, _amortized_epochs, _least_steps = 2e-3, 100, 2000

    _parameter_constraints: ClassVar[dict] = {
        **VariationalAutoencoder._parameter_constraints,
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=10,
        *,
        n_clusters=None,
        prior="vamp",
        n_pseudo_inputs=None,
        pseudo_input_init="kmeans",
        learn_pseudo_inputs=True,
        n_mixture_components=20,
        learn_mixture_weights=True,
        posterior_family="normal",
        n_flows=5,
        variational=True,
        likelihood="gaussian",
        size_factors="sum",
        decoder="mlp",
        hidden_layer_sizes=None,
        encoder_hidden_layer_sizes=(128,),
        activation="tanh",
        normalization=None,
        dropout=0.0,
        linear_skip=False,
        beta=1.0,
        kl_warmup=0.3,
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
        self.n_clusters = n_clusters

    def _latent_config(self, n_samples: int) -> dict[str, Any]:
        config = super()._latent_config(n_samples)
        n_most = config["prior"].get("n_mixture_components", 1)
        if self.variational and self.n_clusters is not None and self.n_clusters > n_most:
            raise ValueError(
                f"n_clusters={self.n_clusters}, but clusters are merged from the prior's components, of which there "
                f"will be {n_most} (prior={self.prior!r}, {n_samples} samples). Ask for fewer clusters, or for a prior "
                "with more components."
            )
        return config

    @classmethod
    def published(cls, n_components=128, **changes):
        """The network and the training of the paper (section 2).

        Hidden layers (512, 256) and back, tanh, batch normalisation and dropout of 0.2 after each, 128 latent units,
        Adam at 5e-5 with its rate halved after ten epochs without progress, early stopping after 100. In the place of
        the paper's penalties on all weights stands the prior on the decoder's last ones (``weight_decay``).

        Parameters
        ----------
        n_components : int, default=128
            Dimensions of the latent.
        **changes
            Parameters that are to have other values.

        Returns
        -------
        estimator : VampVAE
            Not fitted. Its ``likelihood`` is ``"nb"``, as the paper's.
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

    @available_if(has_density)
    def fit_predict(self, X, y=None):
        """Fit the model and say which cluster every sample belongs to.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`.
        y : ignored
            Present for API consistency.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            As :meth:`predict` gives them.
        """
        return self.fit(X).predict(X)

    @available_if(has_density)
    def predict(self, X):
        """The cluster that is most probable for every sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Positions in the columns of :meth:`predict_proba`.
        """
        return self.predict_proba(X).argmax(1)

    @available_if(has_density)
    def predict_proba(self, X):
        """Probability of every sample's clusters: components of the prior, or what ``n_clusters`` merges them into.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters) or (n_samples, K)
            ``E_q(z | x) p(k | z)``: rows sum to one.

        Raises
        ------
        ValueError
            If ``n_clusters`` is no number between 1 and that of the prior's components.
        """
        module, source, _ = self._for_inference(X)
        responsibilities = prior_responsibilities(cast(AmortizedModel, module), source).cpu().numpy()
        if self.n_clusters is None:
            return responsibilities
        mixture = self.prior_mixture_
        n_most = len(mixture.weights)
        if not isinstance(self.n_clusters, Integral) or self.n_clusters not in range(1, n_most + 1):
            raise ValueError(
                f"n_clusters={self.n_clusters!r}, but clusters are merged from the prior's components, of which there "
                f"are {n_most}: give a whole number between 1 and {n_most}, or fit a prior with more components."
            )
        n_clusters = int(self.n_clusters)
        labels = merge_components(mixture.weights, mixture.means, n_clusters)
        return responsibilities @ np.eye(n_clusters)[labels]
