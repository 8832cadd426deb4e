"""BasisVAE: features clustered as scaled and shifted copies of a few shared functions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .._base.defaults import TrainingDefaults
from .._base.orientation import direction_of
from .._sklearn import Interval
from .._typing import (
    Activation,
    Assignment,
    Callbacks,
    ColumnChoice,
    InferenceName,
    Integrator,
    LayerSizes,
    LikelihoodName,
    RandomState,
    SizeRule,
    UnknownCovariate,
)
from ..nn.behaviors import BEHAVIORS
from ..nn.copies import BasisDecoder
from ..nn.likelihoods import ColumnSummary
from ..nn.models import GenerativeModel
from ..table.source import RowSource
from ..table.validation import check_scale_bounds, resolve_basis
from ..training.progress import announce
from ._feature_clusterer import FeatureClusterer
from .shape_search.start import find_starts, start_from_groups, start_from_shapes

#: Largest value of ``max_shift``. 99 % of the latents lie within 2.6 of 0. Under this bound the shifts of two features
#: differ by less than latents do, so no two features can use separate parts of one function (BasisVAE, supplement D).
_LARGEST_SHIFT = 2.5


class BasisVAEClusterer(FeatureClusterer):
    """Place samples on a latent axis and cluster features that are copies of one function along it.

    The model is BasisVAE [1]_. Samples have latents z ~ N(0, I), and there are K basis functions of z. Each feature is
    a copy of one of them, scaled by lambda > 0 and, if asked for, shifted along the axis by delta::

        x_j = level_j + lambda_j f_k(z + delta_j) + noise

    ``n_clusters`` is an upper bound: some functions may end without features. A Dirichlet-categorical prior on the
    functions favours few of them, and a search drops and merges clusters before the fit. It compares clusterings with
    the weights of the clusters integrated out. (The search needs one axis. With more components, the prior alone can
    empty clusters.)

    A feature that has nothing to do with the axis, such as noise or a constant column, follows none of the functions.
    It has a flat curve, its level, and such features form one more cluster.

    The paper trains an encoder. Here ``inference="exact"`` integrates the latent on a grid instead. The flat cluster
    and ``basis`` are additions. With ``basis``, functions are guaranteed to rise, to fall, or to come and go.

    Where positions of the samples are known, as a pseudotime, an age or a stage, ``fit(X, axis=...)`` takes them for
    the (first) axis. Everything else goes on as on an axis that is found.

    Parameters
    ----------
    n_clusters : int, default=20
        Number K of basis functions, which should be too large rather than too small. The flat cluster comes on top: it
        is the last, at position ``n_clusters``, in all attributes and results with an entry for each cluster. They have
        ``n_clusters + 1`` entries.
    alpha : float, default=0.1
        Concentration of the Dirichlet prior on the weights of the feature clusters. Small values favour few clusters.
    scale_invariant : bool, default=True
        Whether a feature is a scaled copy with a level of its own. If not, a feature equals its basis function, and
        columns have to be in the same units: the whole table is standardised by one mean and one standard deviation.
    translation_invariant : bool, default=False
        Whether copies are shifted along the axis. Needs ``n_components=1``.
    n_components : int, default=1
        Number of dimensions of the latent.
    basis : str or sequence of str, default=None
        Behaviours of the functions: one or more of increasing, decreasing, transient, dip, flat and free, taken in turn
        until there are ``n_clusters``. None leaves the shapes of all functions free, as in the paper. Needs
        ``n_components=1``.
    scale_bounds : (float, float), default=(0.25, 1.75)
        Smallest and largest lambda, for columns of unit standard deviation (for counts: on the log scale). The default
        is that of the paper.
    max_shift : float, default=1.5
        Largest size of delta, in standard deviations of the prior. It can be at most 2.5, so that no two features can
        use separate parts of one function.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Distribution of the entries of X given the latent. ``"gaussian"`` standardises columns internally and learns one
        noise standard deviation per feature. ``"poisson"``, ``"nb"`` (negative binomial) and ``"zinb"`` (zero-inflated
        negative binomial) are for counts and have a log link. ``"nb"`` and ``"zinb"`` learn one dispersion per feature;
        ``"zinb"`` also learns a probability of excess zeros, the same for every z. ``"bernoulli"`` is for zeros and
        ones and has a logit link. All but ``"gaussian"`` accept sparse tables.
    size_factors : "sum", None or callable, default=None
        Sizes of the samples: what expected counts are multiplied by (``likelihood="poisson"``, ``"nb"`` or ``"zinb"``).
        None gives all samples the same size. ``"sum"`` takes each sample's total count, which then must not be zero. A
        callable computes them from X (array, CSR array or table on disk). Sizes of a table's own come with its rows:
        ``fit(X, size_factors=...)``. Only the ratios of sizes matter. Likelihoods are those of the raw counts, given
        the sizes. Expected values along the latent (``trajectories``, ``inverse_transform``) are those of a sample of
        median size. ``sample`` draws sizes from a log-normal distribution with the mean and standard deviation of the
        training table's log sizes. With ``"nb"``, a sample of size s has s times the dispersion: it is like the sum of
        s samples of size 1. Exact inference takes sizes with ``"poisson"`` and ``"nb"``.
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
    interactions : str or None, default=None
        Categorical covariate between whose levels the curves of features are compared, by its name, or ``"curves"``
        where there is one only. Without it, levels differ by constants. The comparison follows the fit and describes:
        positions, labels and likelihoods stay those of common curves, and so do their guarantees. Differences are
        relative to an axis on which all features have placed the samples. They need exact inference of one component.
        ``interaction_tests_`` says which curves differ, and :meth:`trajectories` with ``covariates`` how.
    inference : {"exact", "amortized"}, default="exact"
        How the latent is inferred. ``"exact"`` is expectation maximisation with z on a grid of one or two dimensions.
        ``"amortized"`` is the method of the paper: an encoder, reparameterised gradients, and a warm-up of the
        divergence.
    assignment : {"collapsed", "noncollapsed", "fixed"}, default="collapsed"
        What becomes of the weights of the feature clusters. ``"collapsed"`` integrates them out, ``"noncollapsed"``
        gives them a variational posterior, and ``"fixed"`` sets each to 1 / K. Only ``"collapsed"`` drops and merges
        clusters before the fit. The others start from K functions and seldom empty a cluster; they are for comparison,
        as in the paper.
    integrator : {"grid", "gauss-legendre"}, default="grid"
        How derivatives are integrated along the axis. ``"grid"`` takes them as linear between knots and integrates them
        exactly, so that curves are exactly monotone. ``"gauss-legendre"`` is the rule of order 15 of the BasisDeVAE
        paper. Functions without ``basis`` have no derivatives to integrate.
    n_knots : int, default=65
        Number of knots of ``integrator="grid"``, from ``-z_max`` to ``z_max``.
    n_grid_points : int, default=None
        Number of grid points along each component on which exact inference integrates z during the fit. None means 129
        for one component (65 if the table has more than two million stored entries) and 49 for two. Scores use finer
        grids where posteriors are narrow.
    z_max : float, default=4.5
        Where the grid of z ends on either side of 0, in standard deviations of the prior. Curves continue beyond it,
        and a warning says if more than 5 % of the samples lie there.
    hidden_layer_sizes : sequence of int, default=(64,)
        Number of units in each hidden layer of the decoder's network. The network maps z to the functions, or with
        ``basis`` to their derivatives. If empty, functions are straight lines (the linear baseline of the papers); with
        ``basis``, their derivatives are then functions of a linear map of z.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Number of units in each hidden layer of the encoder. If empty, the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Activation function of the hidden layers.
    beta : float, default=1.0
        Weight of the divergence KL(q(z | x) || p(z)) in the objective. 1 gives the evidence lower bound.
    gamma : float, default=1.0
        Weight of the divergence of the feature clusters in the objective. 1 gives the evidence lower bound.
    kl_warmup : float, default=0.2
        Share of the epochs over which the weights of divergences rise from zero when an encoder is trained.
    weight_precision : float, default=1.0
        Precision of the Gaussian prior on each weight of the decoder's last layer: half of it times the sum of squared
        weights, in nats for the whole table, is taken off the log-likelihood. Larger values make simpler curves.
    noise_floor : float, default=0.1
        Smallest noise standard deviation of ``likelihood="gaussian"``, as a share of each column's standard deviation.
        Without ``scale_invariant``, it is a share of the standard deviation of the whole table.
    learning_rate : float, default=None
        Initial learning rate of Adam. It falls to zero along a cosine. None means 0.02 for exact and 0.01 for amortised
        inference.
    batch_size : int, default=128
        Number of rows per gradient step. Exact inference takes gradient steps for all rows at once and ignores it.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 200 for amortised inference. For exact inference it means
        300 with two gradient steps each, or 50 with four steps each if the table has more than two million stored
        entries.
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
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis. :meth:`fit` also takes a variable outside
        of X. None points each axis so that the features' correlations with it add up to zero or more. If
        ``"decreasing"`` is among the behaviours of ``basis`` and ``"increasing"`` is not, they add up to zero or less.
    device : str, default="auto"
        Torch device of fits. ``"auto"`` is ``"cuda"`` if PyTorch finds a CUDA device, else ``"cpu"``. A fitted model
        answers on the device of its fit. One that was loaded from a file answers on the CPU, until its module is moved:
        ``model.module_.to("cuda")``.
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
    labels_ : ndarray of shape (n_features,)
        Most probable cluster of each feature. It is the number of a function, or ``n_clusters`` for flat features;
        -1 for columns without any entry.
    responsibilities_ : ndarray of shape (n_features, n_clusters + 1)
        Probability of each cluster for each feature.
    n_clusters_effective_ : int
        Number of functions that some feature follows. The flat cluster does not count.
    cluster_names_ : ndarray of shape (n_clusters + 1,)
        Names of the clusters. They are numbered: "basis 0", or with ``basis`` the function's behaviour, "increasing 0".
        The last is "flat".
    cluster_weights_ : ndarray of shape (n_clusters + 1,)
        Posterior means of the weights of the clusters.
    scales_, shifts_, levels_ : ndarray of shape (n_features,)
        How each feature is a copy of its function. The curve of a feature j that is not flat, in the units of X (for
        counts: of the log mean, for bernoulli: of the logit), is ``levels_[j] + scales_[j] * basis_functions(z +
        shifts_[j])[:, labels_[j]]``. The curve of a flat feature is its level; its scale and its shift are 0.
    noise_scale_ : ndarray of shape (n_features,)
        Noise standard deviation of each feature, in the units of X (``likelihood="gaussian"`` only).
    dispersion_ : ndarray of shape (n_features,)
        Dispersion theta of each feature, for a variance of mean + mean^2 / theta (``likelihood="nb"`` and ``"zinb"``
        only).
    covariate_effects_ : DataFrame of shape (n_features, n_columns)
        What each covariate adds to the curve of each feature: in the units of X for ``likelihood="gaussian"``, on the
        log scale for counts, on the logit scale for ``"bernoulli"``. Columns are those of the covariates' design: one
        for a numeric covariate, per unit of it, and one for each level of a categorical one, against the first level.
        Effects have a normal prior around zero, whose variance is learned for each column. There only if the model has
        covariates.
    covariate_standard_errors_ : DataFrame of shape (n_features, n_columns)
        Standard errors of the effects. They account for curves and latents that are estimated as well. Samples of all
        levels are taken to be distributed alike along the latent: where they are not, a part of that difference is
        taken for effects.
    interaction_tests_ : DataFrame of shape (n_features, 3)
        Whether the curve of each feature differs between the levels of ``interactions`` by more than a constant. The
        ``statistic`` is twice the log of a restricted likelihood ratio: of smooth deviations, of an amplitude that the
        table can just tell from none, to a common curve of any shape. It is negative where the latter is likelier.
        ``p_value`` follows from its distribution if the common curve is true, which is a sum of weighted chi-squares.
        ``adjusted_p_value`` is Benjamini and Hochberg's, for the false discovery rate. Features that differ bend the
        axis on which all are compared. So where many differ, more are found than differ. There only with
        ``interactions``.
    axis_is_given_ : bool
        Whether the model was fitted along a given axis: ``fit(X, axis=...)``.
    axis_map_ : object
        The monotone map between a given axis and the latent. Its methods ``to_latent`` and ``to_axis`` map arrays of
        positions to latents and back. There only if the axis was given.
    lower_bound_ : float
        Objective that the fit maximised, in nats per training sample and in the units of X: the evidence lower bound
        plus the log prior of the model's parameters.
    history_ : skorch.history.History
        One record per epoch, with the training loss and its terms by name, and the loss of held-out rows if there are
        any. Losses are in the units of the model, which standardises the columns of ``likelihood="gaussian"``.
    n_iter_ : int
        Number of epochs of the run that was kept. Those of other starts and runs do not count.
    n_samples_seen_ : int
        Number of samples that :meth:`partial_fit` has read. There only after it.
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
    BasisDeVAEClusterer : Each feature has a curve of its own, from one of a few families.

    Notes
    -----
    lambda has a Gamma(1, 1) prior and delta a N(0, 1) prior. Both are maximum a posteriori estimates, as in the paper.
    Levels are an addition: without them, the shape of a feature would depend on the origin of its units.

    A flat curve has neither lambda nor delta. For N samples, a copy pays half of log N for each of the two that it has
    (Schwarz's criterion), so that curves are compared on equal terms. Columns that do not vary along the axis of the
    other columns take no part in the search for clusters.

    Shifts give much freedom. A rise, a transient and a fall can be parts of one hump, and in tables of few features or
    samples ``translation_invariant=True`` may put them in one cluster. A smaller ``max_shift`` or a ``basis`` keeps
    them apart.

    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

    References
    ----------
    .. [1] K. Märtens and C. Yau. BasisVAE: Translation-invariant feature-level clustering with variational
       autoencoders. AISTATS 2020.

    Examples
    --------
    >>> from skdevae import BasisVAEClusterer
    >>> from skdevae.datasets import make_basis_toy
    >>> toy = make_basis_toy(200, 5, random_state=0)
    >>> clusterer = BasisVAEClusterer(n_clusters=10, random_state=0).fit(toy.data)
    >>> clusterer.n_clusters_effective_
    5
    >>> clusterer.basis_functions([-1.0, 0.0, 1.0]).shape
    (3, 10)
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

    # Larger steps of the functions, which all features of a cluster share, lose the clusters that a search has found.
    # Nothing is annealed: the search has found an axis already.
    #: each start is searched for, and there may be several models
    _starts_once: ClassVar[bool] = False
    _training_defaults: ClassVar[TrainingDefaults] = TrainingDefaults(
        exact_learning_rate=0.02, known_learning_rate=0.02, exact_epochs=300, annealed_share=0.0
    )

    def __init__(
        self,
        n_clusters: int = 20,
        *,
        alpha: float = 0.1,
        scale_invariant: bool = True,
        translation_invariant: bool = False,
        n_components: int = 1,
        basis: str | Sequence[str] | None = None,
        scale_bounds: tuple[float, float] = (0.25, 1.75),
        max_shift: float = 1.5,
        likelihood: LikelihoodName = "gaussian",
        size_factors: SizeRule = None,
        covariates: ColumnChoice = None,
        unknown_covariate: UnknownCovariate = "error",
        interactions: str | None = None,
        inference: InferenceName = "exact",
        assignment: Assignment = "collapsed",
        integrator: Integrator = "grid",
        n_knots: int = 65,
        n_grid_points: int | None = None,
        z_max: float = 4.5,
        hidden_layer_sizes: LayerSizes = (64,),
        encoder_hidden_layer_sizes: LayerSizes = (128,),
        activation: Activation = "tanh",
        beta: float = 1.0,
        gamma: float = 1.0,
        kl_warmup: float = 0.2,
        weight_precision: float = 1.0,
        noise_floor: float = 0.1,
        learning_rate: float | None = None,
        batch_size: int = 128,
        max_epochs: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-3,
        n_init: int = 1,
        orientation: str | int | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.alpha = alpha
        self.scale_invariant = scale_invariant
        self.translation_invariant = translation_invariant
        self.n_components = n_components
        self.basis = basis
        self.scale_bounds = scale_bounds
        self.max_shift = max_shift
        self.likelihood = likelihood
        self.size_factors = size_factors
        self.covariates = covariates
        self.unknown_covariate = unknown_covariate
        self.interactions = interactions
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
        self.weight_precision = weight_precision
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
            "with_flat": True,
            **self._integrated_network_config(),
        }

    def _assignment_config(self) -> dict[str, Any]:
        # The constant is one candidate more.
        return {**super()._assignment_config(), "n_clusters": self._n_clusters() + 1}

    def _basis(self) -> tuple[str, ...] | None:
        return resolve_basis(self.basis, self._n_clusters(), list(BEHAVIORS))

    def _preferred_directions(self) -> int:
        return direction_of(self._basis() or ())

    def _pools_units(self) -> bool:
        # Features that are equal must stay equal: the whole table has one unit.
        return not self.scale_invariant

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
        announce("search for the shapes that features share")
        alpha, moves = float(self.alpha), self.assignment == "collapsed"
        for shapes in find_starts(module, source, start, alpha=alpha, moves=moves, seed=seed):
            started = copy.deepcopy(module)
            start_from_shapes(started, shapes, alpha=alpha, moves=moves)
            # Starts are compared less what their functions cost: with more functions the bound is always higher.
            yield started, shapes.found.occam_cost / source.total_weight

    def _store_results(self) -> None:
        super()._store_results()
        decoder = cast(BasisDecoder, self.module_.decoder)
        labels = self.module_.labels.cpu().numpy()
        self.n_clusters_effective_ = len(np.unique(labels[labels < decoder.n_functions]))
        names = [f"{name or 'basis'} {number}" for number, name in enumerate(decoder.basis.names)]
        self.cluster_names_ = np.array([*names, "flat"], dtype=object)
        chosen = labels, np.arange(len(labels))
        levels, scales, shifts = (
            field.double().cpu().numpy()[chosen] for field in (decoder.levels, decoder.scales, decoder.shifts)
        )
        units, columns = self._reader_.units, self._reader_.columns
        # A copy of a function is a constant where nothing was learned.
        self.levels_ = self._reader_.curves_to_user(levels)
        self.scales_ = units.sizes * columns.spread_rates(scales)
        self.shifts_ = columns.spread_rates(shifts)

    # ---- the functions --------------------------------------------------------------------------------------------

    def basis_functions(self, z: ArrayLike) -> np.ndarray:
        """Values of the functions that features are copies of.

        Parameters
        ----------
        z : array-like of shape (n_points,) or (n_points, n_components)
            Positions, in units of the prior's standard deviation.

        Returns
        -------
        values : ndarray of shape (n_points, n_clusters)
            In units of the columns' standard deviations; for counts, on the log scale.

        Examples
        --------
        >>> from skdevae import BasisVAEClusterer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_increasing=3, n_decreasing=3, n_transient=0, random_state=0).data
        >>> clusterer = BasisVAEClusterer(n_clusters=2, max_epochs=5, random_state=0).fit(X)
        >>> clusterer.basis_functions([-1.0, 0.0, 1.0]).shape  # three positions, two functions
        (3, 2)
        """
        module, positions = self._at_positions(z)
        decoder = cast(BasisDecoder, module.decoder)
        with torch.no_grad():
            return decoder.functions(positions).cpu().numpy()
