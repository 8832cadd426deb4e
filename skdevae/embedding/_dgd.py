"""The DGD paper's model: a decoder, a learned mixture of Gaussians, and no encoder."""

from __future__ import annotations

from numbers import Integral

import torch

from .._sklearn import Interval, validate_params
from ._decoder_model import DecoderModel


class DGDEmbedder(DecoderModel):
    """Embed and cluster samples with a deep generative decoder: no encoder, and a learned mixture of Gaussians.

    Every sample has a representation z, found by optimisation. z follows a Gaussian mixture whose means, variances and
    weights are learned, and every feature depends on z through a neural network. Representations, mixture and network
    are estimated together, by maximum a posteriori [1]_ (eq. 3)::

        sum_i w_i (log p(x_i | z_i, theta) + log p(z_i | phi)) + log p(phi) + log p(theta)

    The mixture's components cluster the samples. Entries that are missing drop out of the likelihood: a decoder needs
    no imputation.

    Parameters
    ----------
    n_components : int, default=20
        Dimensions of the latent.
    n_clusters : int, default=10
        Components of the mixture, at the most: see ``may_be_empty``. With ``supervised``, as many as there are classes
        if those are more.
        None is a single standard normal distribution that is not learned; it has no clusters.
    representation : {"map", "variational"}, default="map"
        What a training sample's representation is: a point, or a Gaussian with independent components, whose mean and
        sds are learned by maximising the evidence lower bound (the variational auto-decoder). The second takes what is
        not known of a sample's latent into account: held-out likelihoods come out higher. Representations of new
        samples, and ``embedding_``, are posterior modes either way.
    supervised : bool, default=False
        Whether ``y`` gives each class a component: component k belongs to ``classes_[k]``, and samples of a class count
        with its component alone (section 4.2.4). -1, None or NaN in y says that a sample's class is not known. Where
        there are such samples, components beyond the number of classes are theirs; without them there is one for each
        class.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    size_factors : "sum", None, array-like of shape (n_samples,) or callable, default="sum"
        What a sample's expected counts (poisson, nb, zinb) are multiplied by, in any unit: its total, nothing, what is
        given, or what a function of X (as an array, or a CSR array) gives. Likelihoods are of the raw counts, given
        these. Expected values along the latent (``trajectories``, ``inverse_transform``) are those of a sample of
        median size. Rows without a count cannot have "sum". With an array, ``set_params(size_factors=...)`` those of
        another table's rows before that table is passed.
    latent_init : {"pca", "zero"}, default="pca"
        Where representations start: at principal components (of log1p of normalised counts), or at zero, as published.
    mixture_init : {"gmm", "kmeans", "softball"}, default=None
        Where the mixture starts: at one fitted to the starting representations, with restarts and split-and-merge
        moves; at their k-means clusters; or at narrow components around draws from the prior of the means, as
        published. None means "gmm", but "softball" with ``latent_init="zero"``, which leaves nothing to fit a mixture
        to, and where every sample's class is given (``supervised``): such components keep classes apart.
    covariance_type : {"diag", "isotropic", "fixed"}, default="diag"
        A variance for each component and axis, one for each component, or variances that stay where they start.
    may_be_empty : bool, default=True
        Whether components can be left out that the samples do not pay for: those of ``mixture_init="gmm"`` that raise
        its log-likelihood by less than Schwarz's criterion asks for, and those that no sample belongs to in the end.
        ``n_clusters_`` says how many there are. Those of classes always stay.
    dirichlet_alpha : float, default=1.0
        Concentration of the Dirichlet prior on the mixture's weights, 1 or more: above 1, clusters are drawn towards
        equal sizes.
    softball_scale, softball_sharpness : float, default=1.0
        Radius of the ball in which means lie a priori, and how steeply that prior falls at its surface (eq. 6). With
        ``mixture_init`` "gmm" or "kmeans", whose components have sds of about 1, the radius is in units of 5 K of them,
        which is the published ratio, or of the farthest mean.
    prior_weight : "n_samples" or float, default="n_samples"
        Factor on log p(phi), the log prior of the mixture's parameters. As eq. 3 has it, it would be 1, and nothing
        would keep components from shrinking onto a few points: what was published counts it once for every sample.
    refit_mixture : bool, default=True
        Whether the mixture is settled after training, by maximising its part of the objective, with the uncertainty of
        the representations (Laplace's approximation, or the learned sds) taken into account.
    decoder : torch.nn.Module, default=None
        A network of yours, from latents (n, n_components) to one value for each feature, (n, n_features) in any shape:
        expected values in units of the columns' sds (gaussian), logits (bernoulli), or logs of expected counts. It
        starts from the weights that it has, and is copied; what its layers draw (dropout) comes from ``random_state``,
        by way of torch's global generator, for which other fits in other threads then wait. None is a multilayer
        perceptron.
    hidden_layer_sizes : sequence of int, default=(100, 100, 100)
        Hidden layers of the perceptron. Empty: the decoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="gelu"
        Nonlinearity of hidden layers. Posteriors under "relu" have kinks, and modes are found less quickly.
    weight_decay : float, default=0.1
        Weight decay of the decoder, in nats per sample: ``weight_decay / 2`` times the squares of its weights is added
        to the loss, which is a Gaussian prior whose precision grows with the number of samples. Representations are
        points and take up noise where nothing is paid for it: little decay costs held-out likelihood.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=1e-3
        Starting rate of Adam for the decoder; all rates fall to zero along a cosine.
    latent_learning_rate, mixture_learning_rate : float, default=None
        Those of the representations, which take a step once an epoch, and of the mixture. None means ten times that of
        the decoder.
    betas : pair of floats, default=(0.5, 0.7)
        Adam's decay rates, for all of them.
    batch_size : int, default=128
        Rows per gradient step of decoder and mixture.
    max_epochs : int, default=None
        Passes over the table; None means 200, or as many as make 2000 gradient steps.
    n_iter_no_change : int, default=10
        Epochs in each of which the training loss moves by less than ``tol`` before training stops.
    tol : float, default=1e-3
        In nats per sample.
    latent_tol : float, default=1e-4
        How near to its mode a representation is looked for, in nats: a search ends when its next step would promise
        less than this. With larger values new samples take less time.
    n_init : int, default=10
        Starts of the search for the first mixture, or of its k-means.
    n_importance_samples : int, default=500
        Draws for each sample's likelihood.
    device : str, default="auto"
        Torch device; ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.
    random_state : int, RandomState instance or None, default=None
        Seeds the start, the decoder's weights and batches.
    verbose : int, default=0
        Above zero, a progress bar.
    callbacks : list of skorch callbacks, default=None
        Notified while training, in skorch's vocabulary; the history has every loss term by name.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Representations of the training samples: what :meth:`transform` finds for them, but that samples with a known
        class count with its component.
    labels_ : ndarray of shape (n_samples,)
        The most probable component of each. Clusters come in order of size, classes in order of ``classes_``.
    weights_ : ndarray of shape (n_clusters_,)
        Weights of the mixture's components.
    means_, covariances_ : ndarray of shape (n_clusters_, n_components)
        Their means, and variances along each axis.
    prior_mixture_ : PriorMixture
        The same, as other estimators have their priors: ``weights``, ``means`` and ``sds``.
    n_clusters_ : int
        How many components there are: ``n_clusters`` less those left out as empty.
    classes_ : ndarray of shape (n_classes,)
        Classes that the first components belong to (``supervised``).
    noise_scale_ : ndarray of shape (n_features,)
        Noise sd in the units of X (gaussian).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta, with variance = mean + mean^2 / theta (nb, zinb).
    log_posterior_ : float
        Eq. 3 at ``embedding_``, up to constants of the decoder's prior, in nats per training sample and the units
        of X. Priors of different numbers of components do not compare.
    history_ : skorch.history.History
        A row for each epoch: training loss and every loss term, in the model's (standardised) units.
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
    VampVAE : Embeds and clusters samples with an encoder; embeds new samples at once.

    Notes
    -----
    The mixture's density is ``log sum_k pi_k N(z | mu_k, sigma_k^2)``; in eq. 4 of the paper the weight has slipped
    into the exponent. The Dirichlet prior is on the K weights.

    New samples: from the best of the components' means, prior included, or from a linear prediction (principal
    components, regressed on the trained representations) where that is better, to the mode of ``log p(x | z) + log
    p(z)`` by L-BFGS, all rows of a chunk side by side, each with its own curvature and steps. The first curvature is
    that which the decoder has at the component's mean.

    Samples that are equal have one representation, with their total weight, and a fit sees them in an order that
    depends on their values alone. So it does not depend on the order of the samples, and weights of two are samples
    twice.

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

    def __init__(
        self,
        n_components=20,
        *,
        n_clusters=10,
        representation="map",
        supervised=False,
        likelihood="gaussian",
        size_factors="sum",
        latent_init="pca",
        mixture_init=None,
        covariance_type="diag",
        may_be_empty=True,
        dirichlet_alpha=1.0,
        softball_scale=1.0,
        softball_sharpness=1.0,
        prior_weight="n_samples",
        refit_mixture=True,
        decoder=None,
        hidden_layer_sizes=(100, 100, 100),
        activation="gelu",
        weight_decay=0.1,
        noise_floor=0.1,
        learning_rate=1e-3,
        latent_learning_rate=None,
        mixture_learning_rate=None,
        betas=(0.5, 0.7),
        batch_size=128,
        max_epochs=None,
        n_iter_no_change=10,
        tol=1e-3,
        latent_tol=1e-4,
        n_init=10,
        n_importance_samples=500,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.n_clusters = n_clusters
        self.representation = representation
        self.supervised = supervised
        self.likelihood = likelihood
        self.size_factors = size_factors
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
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    # ---- samples' latents and clusters ----------------------------------------------------------------------------

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the model and say which cluster every sample belongs to.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            ``labels_``.
        """
        return self.fit(X, y, sample_weight=sample_weight).labels_

    def fit_transform(self, X, y=None, sample_weight=None):
        """Fit the model and return the samples' representations.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            ``embedding_``.
        """
        return self.fit(X, y, sample_weight=sample_weight).embedding_

    def transform(self, X):
        """Representations of samples: the modes of their posteriors, decoder and mixture as they are.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`fit`; a row without any observed entry gets the mean of the densest component, with a warning.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Found to about ``latent_tol`` nats of the mode, row by row; nothing depends on which rows come together.
        """
        return super().transform(X)

    def predict(self, X):
        """The component that is most probable for every sample's representation.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Positions in ``weights_``, and of classes in ``classes_``.
        """
        return self.predict_proba(X).argmax(1)

    def predict_proba(self, X):
        """Probability of every component, given a sample's representation.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters_)
            ``p(k | z)`` at the representation: rows sum to one.
        """
        module, source, _ = self._for_inference(X)
        modes = self._modes(module, source)
        return module.latent_prior().responsibilities(modes.position).cpu().numpy()

    def posterior(self, X, *, credible_level=0.95):
        """Laplace's approximation of the posterior: the representation, and the expected curvature there.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.
        credible_level : float, default=0.95
            Posterior probability of the interval from ``lower`` to ``upper``.

        Returns
        -------
        posterior : Posterior
            With ``mean`` (the mode), ``sd``, ``lower`` and ``upper``, each of shape (n_samples, n_components). Exact
            for a linear gaussian decoder and one component.
        """
        return super().posterior(X, credible_level=credible_level)

    # ---- likelihoods ----------------------------------------------------------------------------------------------

    def score_samples(self, X):
        """Log-likelihood of every sample, integrated over the latent.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`. Missing entries are integrated out.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            log p(x) in nats, in the units of X, and of counts given their size factors. It is estimated from
            quasi-random draws, always the same ones, around the sample's representation, with the curvature there, half
            of them 1.5 times as wide. The estimate is a lower bound on average: exact for a linear gaussian decoder and
            one component, some hundredths of a nat too low where a posterior is not Gaussian, and too low by what other
            modes of the posterior hold, far from the one that was found.
        """
        return super().score_samples(X)

    def elbo(self, X):
        """Evidence lower bound with Laplace's approximation for the posterior, in nats per sample.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        elbo : float
            Mean of ``E_q[log p(x, z) - log q(z)]``, from quasi-random draws. Below :meth:`score` by how far posteriors
            are from Gaussian.
        """
        return super().elbo(X)

    def conditional_log_likelihood(self, X):
        """log p(x | z) at the representations, in nats per sample: the negative of the DGD paper's NLL.

        Parameters
        ----------
        X : array-like, DataFrame or sparse array of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        log_likelihood : float
            Not a likelihood of held-out data: z has seen them. Use :meth:`score` to compare models.
        """
        return super().conditional_log_likelihood(X)

    # ---- simulation -------------------------------------------------------------------------------------------------

    @validate_params(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "cluster": [None, Interval(Integral, 0, None, closed="left")],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def sample(self, n_samples=1, cluster=None, random_state=None):
        """Draw samples from the fitted model: the latent from the mixture, then the features.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        cluster : int, default=None
            The component that all of them come from; None draws from the whole mixture.
        random_state : int, RandomState instance or None, default=None
            Source of the draws; the same seed gives the same samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training table.
        """
        module, generator = self._for_sampling(random_state)
        mixture = module.latent_prior()
        if cluster is not None:
            if cluster >= self.n_clusters_:
                raise ValueError(f"cluster={cluster}, but the mixture has components 0 to {self.n_clusters_ - 1}.")
            mixture = mixture.component(int(cluster))
        z, _ = mixture.draw(n_samples, generator)
        with torch.no_grad():
            drawn = module.likelihood.sample(self._drawn_curves(module, z, generator), z, generator)
        return self._in_user_units(drawn.numpy())
