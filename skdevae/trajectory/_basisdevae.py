"""BasisDeVAE: features clustered by behaviours that their derivatives define."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from .._base.orientation import direction_of
from .._base.training_table import TrainingTable
from .._sklearn import Interval, StrOptions
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
from ..inference.base import share_a_grid
from ..inference.behaviors import evidence_of_behaviors, gains_of_other_behaviors
from ..nn.behaviors import BEHAVIORS
from ..nn.latent_grid import LatentGrid
from ..nn.models import GenerativeModel
from ..table.source import RowSource
from ..table.validation import first_columns, resolve_behaviors
from ..training.fitting import Fit
from ..training.progress import progress_of_this_fit
from ..training.settings import FitSettings
from ._feature_clusterer import FeatureClusterer

#: precision of weights that keeps monotone curves nearly straight, so that what levels off is about to turn
_PRECISION_OF_TURNS = 20.0
#: Nats by which a behaviour that was not offered has to explain a column better, before the fit says so: odds of 1000.
#: Columns of generated tables whose behaviours are all offered stay below 2, and sinusoids of two periods are near 10.
_CLEAR_GAIN = float(np.log(1000))
#: points of the grid on which columns of a table are judged after the fit
_JUDGED_POINTS = 129


class BasisDeVAEClusterer(FeatureClusterer):
    """Place samples on one latent axis and cluster features by how they behave along it.

    The model is BasisDeVAE [1]_. Every sample has a latent z ~ N(0, 1), and the expected value of every feature follows
    one of K behaviours along z: it rises, falls, comes and goes, and so on. Each behaviour is defined by its
    derivative, so it holds for every z, also outside the data. A Dirichlet-categorical prior on the behaviours favours
    few of them [2]_.

    The paper trains an encoder. Here ``inference="exact"`` integrates the latent on a grid instead: posteriors are not
    approximated by an encoder, nothing is sampled, and q(z) and q(w) are updated in closed form.

    Where positions of the samples are known, as a pseudotime, an age or a stage, ``fit(X, axis=...)`` takes them for
    the axis. Everything else goes on as on an axis that is found.

    Parameters
    ----------
    n_clusters : int, default=None
        Number K of behaviours: the first K of increasing, decreasing, transient, flat, dip and free. 3 are those of the
        paper. None means as many as ``behaviors`` names or, without names, four.
    behaviors : str or sequence of str, default=None
        Names of the behaviours that features may have, in the order of the clusters. ``"transient"`` rises to a single
        maximum and falls again, ``"dip"`` is its mirror image, ``"flat"`` does not depend on the latent, and ``"free"``
        is any other smooth curve.
    margin : float, default=0.15
        Share of its own range by which a feature's curve may break the rule of its behaviour. A curve that rises, and
        at the end falls again by less than this share of its range, is increasing. Smaller values make more features
        transient, and ask for more data to tell. The default is about what a reader of a figure calls a plateau.
    leveling_off : {"plateau", "turn"}, default="plateau"
        What a rise becomes that levels off within the data. ``"plateau"`` takes behaviours as statements about where
        samples are: it is a rise. ``"turn"`` extrapolates, as the paper does: monotone curves are nearly straight, so
        the rise is the first half of a transient whose decline nobody has seen yet. Features then go by how well the
        fitted curves describe them, with Schwarz's term for the number of their parameters. ``margin`` is not used, and
        ``weight_precision=None`` means 20. Likelihoods of your own that are not linear in the data always go this way.
    alpha : float, default=0.1
        Concentration of the Dirichlet prior on the weights of the feature clusters. Small values favour few clusters.
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
        gives them a variational posterior, and ``"fixed"`` sets each to 1 / K.
    integrator : {"grid", "gauss-legendre"}, default="grid"
        How derivatives are integrated along the axis. ``"grid"`` takes them as linear between knots and integrates them
        exactly, so that curves are exactly monotone. ``"gauss-legendre"`` is the rule of order 15 of the BasisDeVAE
        paper.
    n_knots : int, default=65
        Number of knots of ``integrator="grid"``, from ``-z_max`` to ``z_max``.
    n_grid_points : int, default=None
        Number of grid points along each component on which exact inference integrates z during the fit. None means 129
        for one component (65 if the table has more than two million stored entries) and 49 for two. Scores use finer
        grids where posteriors are narrow.
    z_max : float, default=4.5
        Where the grid of z ends on either side of 0, in standard deviations of the prior. Curves continue beyond it,
        and a warning says if more than 5 % of the samples lie there.
    hidden_layer_sizes : sequence of int, default=(32,)
        Number of units in each hidden layer of the decoder's network. The network maps z to the derivatives of all
        curves. If empty, derivatives are functions of a linear map of z.
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
    weight_precision : float, default=None
        Precision of the Gaussian prior on each weight of the decoder's last layer: half of it times the sum of squared
        weights, in nats for the whole table, is taken off the log-likelihood. Larger values make simpler curves. None
        learns it for each feature: the root of the sum of squares has a half-Cauchy prior of scale 0.63, which hardly
        holds the large weights that a steep or sharply bent curve needs.
    noise_floor : float, default=0.1
        Smallest noise standard deviation of ``likelihood="gaussian"``, as a share of each column's standard deviation.
    learning_rate : float, default=None
        Initial learning rate of Adam. It falls to zero along a cosine. None means 0.1 for exact inference, 0.04 along
        an axis that is exactly known, and 0.01 for amortised inference.
    batch_size : int, default=128
        Number of rows per gradient step. Exact inference takes gradient steps for all rows at once and ignores it.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 200 for amortised inference. For exact inference it means
        150 with two gradient steps each, or 50 with four steps each if the table has more than two million stored
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
        principal components, others by random mixtures of a few more. In exact inference on a table of moderate size,
        all starts run for a few epochs side by side, and the first one and, if it leads, the winner are fitted; with
        covariates all are fitted.

        With exact inference and one axis, the first start may be fitted twice. A graph of nearest neighbours also puts
        samples in an order, if there are 40 at least and the graph connects all. If the fit has ended in another order,
        it is run again from that one. The better run counts, and callbacks see both. The second has a learning rate of
        0.05 if none is given.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis. :meth:`fit` also takes a variable outside
        of X. None points each axis so that the features' correlations with it add up to zero or more. If
        ``"decreasing"`` is among the behaviours and ``"increasing"`` is not, they add up to zero or less.
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
        Most probable cluster of each feature. It is a position in ``cluster_names_``; -1 for columns without any entry,
        and for constant ones where none of the behaviors is ``"flat"``.
    responsibilities_ : ndarray of shape (n_features, n_clusters)
        Probability of each cluster for each feature.
    cluster_names_ : ndarray of shape (n_clusters,)
        Names of the clusters. They are behaviours.
    cluster_weights_ : ndarray of shape (n_clusters,)
        Posterior means of the weights of the clusters.
    peaks_ : ndarray of shape (n_features,)
        Position on the axis of the maximum of each transient feature. NaN for other features, and where the maximum
        lies beyond all samples.
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
        plus the log prior of the model's parameters. It is that of the fitted curves, less Schwarz's term, at the
        behaviours that the features were judged to have.
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
    BasisVAEClusterer : Features of a cluster are scaled, and maybe shifted, copies of one function.
    DeVAETransformer : Which features rise or fall is known, not found out from the data.

    Notes
    -----
    A behaviour is a statement about the range in which there are samples. The families of curves that the paper
    compares bend with unequal ease, and the one that bends most easily would win. So features are judged apart from
    them. Every feature's curve has the same smooth prior, a Gaussian process whose length and amplitude are averaged
    over, and a behaviour is a region of its curves: those that break the behaviour's rule by less than ``margin`` of
    their own range, averaged over 20 bins of samples. The evidence of a behaviour is the evidence of the smooth curve,
    times the posterior probability of the region, divided by its prior probability. A feature is judged with the
    samples where the other features place them. So noise does not follow an axis that it has itself bent. Counts and
    binary features are judged by working responses (Laplace's approximation).

    ``responsibilities_`` are posterior probabilities given the axis: of the evidence, and of the Dirichlet prior on the
    weights of the clusters. They take the uncertainty of the curves into account, and that of single positions. They do
    not know of other axes that the table might have, nor of behaviours that are not offered: a dip among rises, falls
    and transients goes to whichever curve fits it best. To see such features, offer ``"dip"`` and ``"free"`` too: where
    behaviours are left to the defaults, :meth:`summary` notes columns that are clearly of such a kind. With
    ``leveling_off="turn"`` they are conditional on one fitted set of curves, and too sure.

    Features are judged half-way through the training, three quarters through, and at the end. Early stopping and
    convergence begin to count at three quarters. An encoder is trained for 60 % of the epochs, then features are
    judged, and the rest of the training fits the curves of the behaviours that were found. Tables of more than two
    million stored entries are judged at the end alone.

    The curves that are predicted, scored and drawn belong to the family of the feature's most probable behaviour, so
    they keep its rule exactly and at every z.

    In a table of raw counts the first axis is often the total count. If it is of no interest, pass log1p of
    size-normalised counts with ``likelihood="gaussian"``.

    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

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
    >>> progression = make_progression(200, random_state=0)
    >>> clusterer = BasisDeVAEClusterer(orientation=30, random_state=0).fit(progression.data)
    >>> clusterer.cluster_names_[clusterer.labels_[[0, 30, 40]]].tolist()
    ['transient', 'increasing', 'decreasing']
    >>> clusterer.transform(progression.data).shape
    (200, 1)
    """

    _parameter_constraints: ClassVar[dict] = {
        **FeatureClusterer._parameter_constraints,
        "weight_precision": [None, Interval(Real, 0, None, closed="left")],
        "n_clusters": [None, Interval(Integral, 1, None, closed="left")],
        "behaviors": [None, str, "array-like"],
        "margin": [Interval(Real, 0, 1, closed="neither")],
        "leveling_off": [StrOptions({"plateau", "turn"})],
    }

    _follows_paths: ClassVar[bool] = True
    #: behaviours went by the fitted curves
    _parameters_of_older_files: ClassVar[dict] = {"leveling_off": "turn"}

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        behaviors: str | Sequence[str] | None = None,
        margin: float = 0.15,
        leveling_off: Literal["plateau", "turn"] = "plateau",
        alpha: float = 0.1,
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
        hidden_layer_sizes: LayerSizes = (32,),
        encoder_hidden_layer_sizes: LayerSizes = (128,),
        activation: Activation = "tanh",
        beta: float = 1.0,
        gamma: float = 1.0,
        kl_warmup: float = 0.2,
        weight_precision: float | None = None,
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
        self.behaviors = behaviors
        self.margin = margin
        self.leveling_off = leveling_off
        self.alpha = alpha
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

    def _behaviors(self) -> tuple[str, ...]:
        return resolve_behaviors(self.n_clusters, self.behaviors, list(BEHAVIORS))

    def _margin(self) -> float | None:
        return float(self.margin) if self.leveling_off == "plateau" else None

    def _settings(self) -> FitSettings:
        settings = super()._settings()
        if settings.weight_precision is None and self.leveling_off == "turn":
            return replace(settings, weight_precision=_PRECISION_OF_TURNS)
        return settings

    def _n_clusters(self) -> int:
        return len(self._behaviors())

    def _preferred_directions(self) -> int:
        return direction_of(self._behaviors())

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        return {"name": "derivative", "behaviors": self._behaviors(), **self._integrated_network_config()}

    def _store_results(self) -> None:
        super()._store_results()
        self.cluster_names_ = np.array(self.module_.decoder.names, dtype=object)
        peaks = self.module_.peaks().double().cpu().numpy()
        (first,), (last,) = self._latent_range_
        self.peaks_ = self._reader_.columns.spread(np.where((peaks >= first) & (peaks <= last), peaks, np.nan), np.nan)

    def _keep(self, best: Fit, training: TrainingTable, source: RowSource, reference: np.ndarray | None) -> None:
        super()._keep(best, training, source, reference)
        model = self.module_
        is_default = self.behaviors is None and self.n_clusters is None
        if is_default and best.has_axis and model.judges_behaviors and not source.is_large:
            in_float64, model = source.to(torch.float64), self._float64_module()
            if share_a_grid(model, in_float64):
                self._note_other_behaviors(model, in_float64)

    def _note_other_behaviors(self, model: GenerativeModel, source: RowSource) -> None:
        """Keep a note for :meth:`summary`, and print it if asked to, where columns clearly behave in other ways."""
        others = [name for name in BEHAVIORS if name not in self._behaviors()]
        grid = LatentGrid.standard_normal(_JUDGED_POINTS, model.z_max).to(source.like)
        gains = gains_of_other_behaviors(model, source, grid, others).cpu().numpy()
        clear = (gains.max(1) > _CLEAR_GAIN) & source.varying_columns()
        if not clear.any():
            return
        columns = np.nonzero(self._reader_.columns.spread(clear, False))[0]
        wanted = [name for k, name in enumerate(others) if (gains[clear].argmax(1) == k).any()]
        number, verb = ("1 column", "behaves") if len(columns) == 1 else (f"{len(columns)} columns", "behave")
        note = (
            f"{number} ({first_columns(self._feature_names(), columns)}) clearly {verb} in none of the default ways, "
            f"but more like {' or '.join(wanted)}. Their labels are those of the nearest curve. To tell them apart, "
            f"set behaviors={[*self._behaviors(), *wanted]}."
        )
        self._report_ = {**self._report_, "notes": [note]}
        progress_of_this_fit().say(note)

    def _advice_without_axis(self) -> str:
        return " To place samples nevertheless, leave 'flat' out of behaviors." if "flat" in self._behaviors() else ""

    def _column_evidence(self, model: GenerativeModel, source: RowSource) -> np.ndarray:
        if not model.judges_behaviors or not share_a_grid(model, source):
            return super()._column_evidence(model, source)
        varying = torch.from_numpy(source.varying_columns()).to(source.like.device)
        grid = LatentGrid.standard_normal(_JUDGED_POINTS, model.z_max).to(source.like)
        evidence = evidence_of_behaviors(model, source, grid, varying)
        # Rows in which a column does not vary say nothing of how it behaves.
        return torch.where(varying[:, None], evidence, 0.0).cpu().numpy()
