"""BasisVAE: features clustered as scaled and shifted copies of a few shared functions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from .._base.orientation import direction_of
from .._sklearn import Interval
from ..nn.behaviors import BEHAVIORS
from ..nn.copies import BasisDecoder
from ..nn.likelihoods import ColumnSummary
from ..nn.models import GenerativeModel
from ..table.source import RowSource
from ..table.validation import check_scale_bounds, resolve_basis
from ._feature_clusterer import FeatureClusterer
from .shape_search.start import find_starts, start_from_groups, start_from_shapes

#: Largest bound on shifts. Two features' shifts then differ by less than the latents do, 99 % of which lie within 2.6
#: of 0, so that no basis function can be two shapes side by side (BasisVAE, supplement D).
_LARGEST_SHIFT = 2.5


class BasisVAEClusterer(FeatureClusterer):
    """Place samples on a latent axis and cluster features that are copies of one shape along it.

    The model is BasisVAE [1]_: z ~ N(0, I), K basis functions of z, and each feature is a copy of one of them, scaled
    by lambda > 0 and, if asked for, shifted along the axis by delta:
    ``x_j = level_j + lambda_j f_k(z + delta_j) + noise``. A Dirichlet-categorical prior over the functions and cluster
    moves, which judge clusterings with their weights integrated out, leave spare functions without features, so that
    ``n_clusters`` is an upper bound. (Moves are made on one axis; of more components, only the prior empties clusters.)
    Unlike the paper, which trains an encoder, ``inference="exact"`` integrates the latent on a grid. With ``basis``,
    functions have a guaranteed meaning on top: they rise, fall, or come and go.

    Parameters
    ----------
    n_clusters : int, default=20
        Number K of basis functions, better too many than too few.
    alpha : float, default=0.1
        Concentration of the Dirichlet prior over functions; small values favour few.
    scale_invariant : bool, default=True
        Whether features are scaled copies, each with a level of its own. If not, a feature is a basis function itself,
        level and height included, and columns must be in the same units.
    translation_invariant : bool, default=False
        Whether copies are shifted along the axis. Needs ``n_components=1``.
    n_components : int, default=1
        Dimensions of the latent.
    basis : str or sequence of str, default=None
        Behaviours of the functions: one or more of increasing, decreasing, transient, dip, flat, free, taken in turn
        until there are ``n_clusters``. None leaves their shapes open, as published. Needs ``n_components=1``.
    scale_bounds : (float, float), default=(0.25, 1.75)
        Least and largest lambda, relative to columns of unit sd (for counts: on the log scale). The published bounds.
    max_shift : float, default=1.5
        Largest size of delta, in prior sds: at most 2.5, so that no two features can use separate parts of a function.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    inference : {"exact", "amortized"}, default="exact"
        ``"exact"``: variational EM with z on a grid, for up to two components. ``"amortized"``: the paper's encoder,
        reparameterised gradient and KL warm-up.
    assignment : {"collapsed", "noncollapsed", "fixed"}, default="collapsed"
        Treatment of the functions' weights pi. ``"collapsed"`` integrates them out and searches for clusters by moves.
        ``"noncollapsed"`` (a variational posterior for pi) and ``"fixed"`` (1 / K) start from K functions and make no
        moves: they are there for comparison, as in the paper, and seldom empty a cluster.
    integrator : {"grid", "gauss-legendre"}, default="grid"
        How derivatives are integrated where ``basis`` is given.
    n_knots : int, default=65
        Knots of ``integrator="grid"``, from ``-z_max`` to ``z_max``.
    n_grid_points : int, default=None
        Grid points along each component that z is integrated over while fitting; None means 129 (65 where the table has
        more than two million stored entries), or 49 for two components.
    z_max : float, default=4.5
        Where the grid ends, in prior sds; samples found beyond are reported.
    hidden_layer_sizes : sequence of int, default=(64,)
        Hidden layers of the network that gives the functions. Empty: functions are straight lines (the papers' linear
        baseline), or with ``basis`` integrals of such.
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
    weight_decay : float, default=1.0
        Precision of the Gaussian prior on each weight between hidden units and a function, in nats.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam; it decays to zero along a cosine. None means 0.02 for exact and 0.01 for amortised
        inference.
    batch_size : int, default=128
        Rows per gradient step of ``inference="amortized"``.
    max_epochs : int, default=None
        Passes over the table. None means 300 for exact inference (two gradient steps each; 50 with four steps where
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
        Number of starts, of which the one with the best ``lower_bound_`` is kept. The first starts from the leading
        principal components, the others from random mixtures of a few more.
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
    labels_ : ndarray of shape (n_features,)
        Most probable function of each feature.
    responsibilities_ : ndarray of shape (n_features, n_clusters)
        Probability of each function for each feature.
    n_clusters_effective_ : int
        Number of functions that some feature follows.
    cluster_names_ : ndarray of shape (n_clusters,)
        Behaviours of the functions where ``basis`` is given, with their numbers.
    cluster_weights_ : ndarray of shape (n_clusters,)
        Posterior mean of the functions' weights.
    scales_, shifts_, levels_ : ndarray of shape (n_features,)
        How each feature is a copy of its function. The curve of feature j, in the units of X (for counts of the log
        mean, for bernoulli of the logit), is
        ``levels_[j] + scales_[j] * basis_functions(z + shifts_[j])[:, labels_[j]]``.
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
    BasisDeVAEClusterer : Each feature has a curve of its own, from one of a few families.

    Notes
    -----
    lambda has a Gamma(1, 1) and delta a N(0, 1) prior; both are maximum a posteriori estimates, as in the paper. The
    levels are an addition: without them, the origin of a feature's units would decide which shape it has.

    Shifts are a strong freedom. A rise, a transient and a fall are parts of one hump, and in tables of few features or
    samples ``translation_invariant=True`` may see them so; a smaller ``max_shift`` or a ``basis`` keeps them apart.

    References
    ----------
    .. [1] K. Märtens and C. Yau. BasisVAE: Translation-invariant feature-level clustering with variational
       autoencoders. AISTATS 2020.

    Examples
    --------
    >>> from skdevae import BasisVAEClusterer
    >>> from skdevae.datasets import make_basis_toy
    >>> toy = make_basis_toy(random_state=0)
    >>> clusterer = BasisVAEClusterer(n_clusters=20, random_state=0).fit(toy.data)
    >>> clusterer.n_clusters_effective_
    5
    >>> shifted = BasisVAEClusterer(n_clusters=20, translation_invariant=True, random_state=0).fit(toy.data)
    >>> shifted.n_clusters_effective_
    3
    """

    _parameter_constraints: ClassVar[dict] = {
        **FeatureClusterer._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "scale_invariant": ["boolean"],
        "translation_invariant": ["boolean"],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "basis": [None, str, "array-like"],
        "scale_bounds": ["array-like"],
        "max_shift": [Interval(Real, 0, _LARGEST_SHIFT, closed="right")],
    }

    def __init__(
        self,
        n_clusters=20,
        *,
        alpha=0.1,
        scale_invariant=True,
        translation_invariant=False,
        n_components=1,
        basis=None,
        scale_bounds=(0.25, 1.75),
        max_shift=1.5,
        likelihood="gaussian",
        inference="exact",
        assignment="collapsed",
        integrator="grid",
        n_knots=65,
        n_grid_points=None,
        z_max=4.5,
        hidden_layer_sizes=(64,),
        encoder_hidden_layer_sizes=(128,),
        activation="tanh",
        beta=1.0,
        gamma=1.0,
        kl_warmup=0.2,
        weight_decay=1.0,
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
        self.alpha = alpha
        self.scale_invariant = scale_invariant
        self.translation_invariant = translation_invariant
        self.n_components = n_components
        self.basis = basis
        self.scale_bounds = scale_bounds
        self.max_shift = max_shift
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

    # ---- hooks of the base class ----------------------------------------------------------------------------------

    def _n_clusters(self) -> int:
        return int(self.n_clusters)

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        if self.n_components > 1 and (self.translation_invariant or self.basis is not None):
            name = "translation_invariant" if self.translation_invariant else "basis"
            raise ValueError(f"{name}={getattr(self, name)!r} needs n_components=1, not {self.n_components}.")
        return {
            "name": "basis",
            "n_components": int(self.n_components),
            "n_clusters": self._n_clusters(),
            "scale_bounds": check_scale_bounds(self.scale_bounds) if self.scale_invariant else None,
            "max_shift": float(self.max_shift) if self.translation_invariant else 0.0,
            "basis": self._basis(),
            **self._integrated_network_config(),
        }

    def _basis(self) -> tuple[str, ...] | None:
        return resolve_basis(self.basis, self._n_clusters(), list(BEHAVIORS))

    def _preferred_directions(self) -> int:
        return direction_of(self._basis() or ())

    def _set_units(self, X: Any, weights: np.ndarray | None = None) -> None:
        super()._set_units(X, weights)
        if self._scale is not None and self._center is not None and not self.scale_invariant:
            # Features that are equal must stay equal: one unit for the whole table.
            center = self._center.mean()
            spread = np.sqrt(np.mean(self._scale**2 + (self._center - center) ** 2))
            self._center, self._scale = np.full_like(self._center, center), np.full_like(self._scale, spread)

    def _started(
        self, module: GenerativeModel, source: RowSource, start: Tensor, summary: ColumnSummary, seed: int
    ) -> Iterator[tuple[GenerativeModel, float]]:
        points = self._starting_points(source, start, seed)
        statistics = self._starting_sums(module, source, start, points)
        module.initialize_(statistics, summary, points)
        if self.n_components > 1:
            start_from_groups(module, statistics, points, seed)
            yield module, 0.0
            return
        alpha, moves = float(self.alpha), self.assignment == "collapsed"
        for shapes in find_starts(module, source, start, alpha=alpha, moves=moves, seed=seed):
            started = copy.deepcopy(module)
            start_from_shapes(started, shapes, alpha=alpha, moves=moves)
            yield started, shapes.found.occam_cost / len(source)  # more functions always fit better

    # Larger steps of the functions, which all features of a cluster share, lose the clusters that a search has found.
    _exact_learning_rate, _exact_epochs = 0.02, 300

    def _annealed_share(self) -> float:
        return 0.0  # the search for clusters has found an axis already

    def _store_results(self) -> None:
        super()._store_results()
        decoder = cast(BasisDecoder, self.module_.decoder)
        self.n_clusters_effective_ = len(np.unique(self.labels_))
        self.cluster_names_ = np.array(
            [f"{name} {number}" if name else f"basis {number}" for number, name in enumerate(decoder.names)],
            dtype=object,
        )
        chosen = self.labels_, np.arange(len(self.labels_))
        levels, scales, self.shifts_ = (
            field.double().cpu().numpy()[chosen] for field in (decoder.levels, decoder.scales, decoder.shifts)
        )
        self.levels_, self.scales_ = (
            self._in_user_units(levels),
            scales if self._scale is None else self._scale * scales,
        )

    # ---- the functions --------------------------------------------------------------------------------------------

    def basis_functions(self, z):
        """The functions that features are copies of.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        values : ndarray of shape (n_points, n_clusters)
            In units of features' standard deviations; for counts, on the log scale.
        """
        module, positions = self._at_positions(z)
        decoder = cast(BasisDecoder, module.decoder)
        with torch.no_grad():
            return decoder.functions(positions).cpu().numpy()
