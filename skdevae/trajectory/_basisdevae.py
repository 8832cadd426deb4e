"""BasisDeVAE: features clustered by behaviours that their derivatives define."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from .._base.orientation import direction_of
from .._sklearn import Interval
from ..nn.behaviors import BEHAVIORS
from ..table.validation import resolve_behaviors
from ._feature_clusterer import FeatureClusterer


class BasisDeVAEClusterer(FeatureClusterer):
    """Place samples on one latent axis and cluster features by how they behave along it.

    The model is BasisDeVAE [1]_: every sample has a latent z ~ N(0, 1), and the expected value of every feature follows
    one of K behaviours of z (rises, falls, comes and goes, ...), each defined by its derivative and therefore
    guaranteed everywhere, not only where there are data. A Dirichlet-categorical prior over the behaviours favours
    using few of them [2]_. Unlike the paper, which trains an encoder, ``inference="exact"`` integrates the latent on a
    grid: there is no amortisation gap, no sampling noise, and q(z) and q(w) are updated in closed form.

    Parameters
    ----------
    n_clusters : int, default=None
        Number K of behaviours: the first K of increasing, decreasing, transient, dip, flat, free. None means as many as
        ``behaviors`` names, or three, the paper's.
    behaviors : str or sequence of str, default=None
        The behaviours that features may have, by name and in this order. ``"transient"`` rises to a single maximum and
        falls again, ``"dip"`` is its mirror image, ``"free"`` is any smooth curve.
    alpha : float, default=0.1
        Concentration of the Dirichlet prior over behaviours; small values favour few behaviours.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    inference : {"exact", "amortized"}, default="exact"
        ``"exact"``: variational EM with z on a grid. ``"amortized"``: the paper's encoder, reparameterised gradient and
        KL warm-up.
    assignment : {"collapsed", "noncollapsed", "fixed"}, default="collapsed"
        Treatment of the behaviours' weights pi: integrated out, with a variational posterior of their own, or 1 / K.
    integrator : {"grid", "gauss-legendre"}, default="grid"
        How derivatives are integrated. ``"grid"`` takes them as linear between knots and integrates exactly, so that
        monotonicity is exact too; ``"gauss-legendre"`` is the paper's rule of order 15.
    n_knots : int, default=65
        Knots of ``integrator="grid"``, from ``-z_max`` to ``z_max``.
    n_grid_points : int, default=None
        Grid points that z is integrated over while fitting; None means 129, or 65 where the table has more than two
        million stored entries. Scores use finer grids where a posterior needs them.
    z_max : float, default=4.5
        Where knots and grid end, in prior sds. Beyond it curves go on as straight lines (or as what their link makes of
        one); samples found there are reported.
    hidden_layer_sizes : sequence of int, default=(32,)
        Hidden layers of the network of z from which all derivatives are read. Empty: derivatives are functions of a
        linear map of z.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Hidden layers of the encoder of ``inference="amortized"``.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Nonlinearity of hidden layers.
    beta : float, default=1.0
        Weight of KL(q(z | x) || p(z)).
    gamma : float, default=1.0
        Weight of the divergence of the feature clusters.
    kl_warmup : float, default=0.2
        Share of the epochs over which ``inference="amortized"`` raises both weights from zero.
    weight_decay : float, default=20.0
        Precision of the Gaussian prior on each weight between hidden units and a feature's derivative, in nats: larger
        values make simpler curves.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam; it decays to zero along a cosine. None means 0.1 for exact and 0.01 for amortised
        inference.
    batch_size : int, default=128
        Rows per gradient step of ``inference="amortized"``. Exact inference sums over all rows before each step and
        chooses by itself how many to hold in memory.
    max_epochs : int, default=None
        Passes over the table. None means 150 for exact inference (two gradient steps each; 50 with four steps where
        the table has more than two million stored entries) and 200 for amortised inference.
    early_stopping : bool, default=False
        Whether to hold out rows, stop when their likelihood stops rising, and keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows that ``early_stopping`` holds out.
    n_iter_no_change : int, default=10
        Epochs without progress of at least ``tol`` before training stops.
    tol : float, default=1e-3
        What counts as progress, in nats per sample: of the held-out likelihood with ``early_stopping``, of the
        training loss without.
    n_init : int, default=1
        Number of starts, of which the one with the best ``lower_bound_`` is kept. The first starts from the first
        principal component, the others from random mixtures of the leading three.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the axis. None points the axis so that the features'
        correlations with it have a non-negative sum (non-positive, where ``"decreasing"`` is among the behaviours but
        ``"increasing"`` is not). A variable outside of X can be given to :meth:`fit`.
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
    labels_ : ndarray of shape (n_features,)
        Most probable behaviour of each feature, as a position in ``cluster_names_``.
    responsibilities_ : ndarray of shape (n_features, n_clusters)
        Probability of each behaviour for each feature.
    cluster_names_ : ndarray of shape (n_clusters,)
        Names of the behaviours.
    cluster_weights_ : ndarray of shape (n_clusters,)
        Posterior mean of the behaviours' weights.
    peaks_ : ndarray of shape (n_features,)
        Position on the axis of each transient feature's maximum; NaN for the others.
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

    Notes
    -----
    A behaviour is chosen by its fit, its prior (the paper's: N(0, 1) for the peak and Gamma(1, 1) for the height of a
    transient) and Schwarz's term for the number of its parameters: a transient whose peak lies outside the data mimics
    any monotone curve, and the simpler of two behaviours that fit alike should win. Predictions, scores and samples use
    each feature's most probable behaviour.

    Raw counts have a first axis of their own: the total count. Where that is not of interest, give log1p of
    size-normalised counts to ``likelihood="gaussian"``.

    References
    ----------
    .. [1] D. Danks and C. Yau. BasisDeVAE: Interpretable simultaneous dimensionality reduction and feature-level
       clustering with derivative-based variational autoencoders. ICML 2021.
    .. [2] K. Märtens and C. Yau. BasisVAE: Translation-invariant feature-level clustering with variational
       autoencoders. AISTATS 2020.

    Examples
    --------
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> progression = make_progression(random_state=0)
    >>> clusterer = BasisDeVAEClusterer(orientation=30, random_state=0).fit(progression.data)
    >>> clusterer.cluster_names_[clusterer.labels_[[0, 30, 40]]].tolist()
    ['transient', 'increasing', 'decreasing']
    >>> clusterer.transform(progression.data).shape
    (500, 1)
    """

    _parameter_constraints: ClassVar[dict] = {
        **FeatureClusterer._parameter_constraints,
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "behaviors": [None, str, "array-like"],
    }

    def __init__(
        self,
        n_clusters=None,
        *,
        behaviors=None,
        alpha=0.1,
        likelihood="gaussian",
        inference="exact",
        assignment="collapsed",
        integrator="grid",
        n_knots=65,
        n_grid_points=None,
        z_max=4.5,
        hidden_layer_sizes=(32,),
        encoder_hidden_layer_sizes=(128,),
        activation="tanh",
        beta=1.0,
        gamma=1.0,
        kl_warmup=0.2,
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
        orientation=None,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_clusters = n_clusters
        self.behaviors = behaviors
        self.alpha = alpha
        self.likelihood = likelihood
        self.inference = inference
        self.assignment = assignment
        self.integrator = integrator
        self.n_knots = n_knots
        self.n_grid_points = n_grid_points
        self.z_max = z_max
        self.hidden_layer_sizes = hidden_layer_sizes
        self.encoder_hidden_layer_sizes = encoder_hidden_layer_sizes
        self.activation = activation
        self.beta = beta
        self.gamma = gamma
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
        self.orientation = orientation
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _behaviors(self) -> tuple[str, ...]:
        return resolve_behaviors(self.n_clusters, self.behaviors, list(BEHAVIORS))

    def _n_clusters(self) -> int:
        return len(self._behaviors())

    def _preferred_directions(self) -> int:
        return direction_of(self._behaviors())

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        return {"name": "derivative", "behaviors": self._behaviors(), **self._integrated_network_config()}

    def _store_results(self) -> None:
        super()._store_results()
        self.cluster_names_ = np.array(self.module_.decoder.names, dtype=object)
        self.peaks_ = self.module_.peaks().double().cpu().numpy()
