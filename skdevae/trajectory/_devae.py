"""DeVAE: a latent-variable model whose curves are defined by their derivatives."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from .._base.denoising import DenoisingMixin
from .._base.fitting import LatentVariableModel
from .._base.given_axis import GivenAxisMixin
from .._base.level_curves import LevelCurvesMixin
from .._base.partial_fit import StreamingMixin
from .._base.uncertain_curves import UncertainCurvesMixin
from .._sklearn import Interval, StrOptions, check_monotonic_cst
from .._typing import (
    Activation,
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
from ..nn.likelihoods import LIKELIHOODS
from ..table.validation import column_label
from ..training.exact import MAX_EXACT_COMPONENTS
from ..training.settings import TrainingDefaults

#: the signs of derivatives that the strings of ``monotonic_cst`` stand for
_DIRECTIONS = {"increasing": 1, "decreasing": -1}


class DeVAETransformer(DenoisingMixin, GivenAxisMixin, StreamingMixin, UncertainCurvesMixin):
    """Place samples on latent axes along which chosen features can only rise, or only fall.

    The model is DeVAE [1]_. Samples have latents z ~ N(0, I). The expected value of a feature is a constant plus, for
    each component of z, the integral from 0 to z of the output of a network. A softplus gives the output the sign that
    the feature needs. So monotonicity is neither a penalty nor a projection: it holds for all weights of the network
    and at every z.

    The paper trains an encoder. Here one or two components are integrated on a grid instead, with exact posteriors and
    likelihoods.

    Where positions of the samples are known, as a pseudotime, an age or a stage, ``fit(X, axis=...)`` takes them for
    the (first) axis. Everything else goes on as on an axis that is found.

    Parameters
    ----------
    n_components : int, default=1
        Number of dimensions of the latent. The expected value of a feature is a sum of one curve for each.
    monotonic_cst : {"increasing", "decreasing"}, array-like of int of shape (n_features,), dict or None, default=None
        What every feature does along every component, as in :class:`~sklearn.ensemble.HistGradientBoostingRegressor`: 1
        rises, -1 falls, and 0 is free. A dict gives these numbers by feature name, and features that it does not name
        are free. A string stands for all features. None leaves all features free.
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
    inference : {"auto", "exact", "amortized"}, default="auto"
        How the latent is inferred. ``"exact"`` is expectation maximisation with z on a grid of one or two dimensions.
        ``"amortized"`` is the method of the paper: an encoder, reparameterised gradients, and a warm-up of the
        divergence. ``"auto"`` is exact for one or two components and amortised for more.
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
        Number of units in each hidden layer of the decoder's network. There is one network for each component; it maps
        the component to the derivatives of all curves. If empty, derivatives are functions of a linear map of the
        component.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Number of units in each hidden layer of the encoder. If empty, the encoder is linear.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Activation function of the hidden layers.
    beta : float, default=1.0
        Weight of the divergence KL(q(z | x) || p(z)) in the objective. 1 gives the evidence lower bound.
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
        Initial learning rate of Adam. It falls to zero along a cosine. None means 0.05 for exact inference, 0.04 along
        an axis that is exactly known, and 0.01 for amortised inference.
    batch_size : int, default=128
        Number of rows per gradient step. Exact inference takes gradient steps for all rows at once and ignores it.
    max_epochs : int, default=None
        Largest number of passes over the table. None means 200, in exact inference with two gradient steps each. If the
        table has more than two million stored entries, exact inference makes 50 passes with four steps each.
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
        it is run again from that one. The better run counts, and callbacks see both.
    n_importance_samples : int, default=500
        Number of quasi-random draws per sample from which likelihoods are estimated where they are not integrated on a
        grid. It is rounded up to a power of two. For a likelihood, samples whose posteriors are nearly Gaussian take
        fewer where these do as well, down to a quarter, and others take up to twice as many.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis. :meth:`fit` also takes a variable outside
        of X. None points each axis so that the features' correlations with it add up to zero or more. Constraints
        come first: where features are constrained, the axes point as the constraints say, and a warning says if that is
        not what was asked for.
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
    monotonic_cst_ : ndarray of shape (n_features,)
        What each feature does: 1 rises, -1 falls, 0 is free.
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
    BasisDeVAEClusterer : Finds out from the data which features rise, fall, or come and go.
    VAETransformer : Has an encoder and a plain decoder, and no constraints.

    Notes
    -----
    A column that has one value in training, or none, is left out (of counts: one without any event). It has no say in
    anything. Its expected value is the one that it had, and its noise is NaN. Training does without rows that are much
    farther from all others than the others are from each other, and reads such entries at the edge of the others. A
    warning says which. What a fitted model says of a row follows from the row as it is.

    References
    ----------
    .. [1] D. Danks and C. Yau. BasisDeVAE: Interpretable simultaneous dimensionality reduction and feature-level
       clustering with derivative-based variational autoencoders. ICML 2021, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skdevae import DeVAETransformer
    >>> from skdevae.datasets import make_progression
    >>> progression = make_progression(random_state=0)
    >>> rising = progression.data[:, progression.labels == 0]
    >>> devae = DeVAETransformer(monotonic_cst="increasing", random_state=0).fit(rising)
    >>> bool((devae.derivatives(np.linspace(-6, 6, 1000)) > 0).all())
    True
    >>> devae.predict(rising).shape
    (500, 10)
    """

    _features_follow_curves: ClassVar[bool] = True
    _scales_dispersion: ClassVar[bool] = True
    _follows_paths: ClassVar[bool] = True
    # Steps of 0.1 as of BasisDeVAEClusterer make worse curves of counts that change by factors, by several nats a row.
    _training_defaults: ClassVar[TrainingDefaults] = TrainingDefaults(exact_learning_rate=0.05, exact_epochs=200)
    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        **LatentVariableModel._grid_constraints,
        **LatentVariableModel._size_factor_constraints,
        **LatentVariableModel._covariate_constraints,
        **LevelCurvesMixin._interaction_constraints,
        "weight_precision": [None, Interval(Real, 0, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "monotonic_cst": [None, "array-like", dict, StrOptions(set(_DIRECTIONS))],
        "inference": [StrOptions({"auto", "exact", "amortized"})],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        monotonic_cst: Literal["increasing", "decreasing"] | ArrayLike | dict[str, int] | None = None,
        likelihood: LikelihoodName = "gaussian",
        size_factors: SizeRule = None,
        covariates: ColumnChoice = None,
        unknown_covariate: UnknownCovariate = "error",
        interactions: str | None = None,
        inference: Literal["auto"] | InferenceName = "auto",
        integrator: Integrator = "grid",
        n_knots: int = 65,
        n_grid_points: int | None = None,
        z_max: float = 4.5,
        hidden_layer_sizes: LayerSizes = (32,),
        encoder_hidden_layer_sizes: LayerSizes = (128,),
        activation: Activation = "tanh",
        beta: float = 1.0,
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
        n_importance_samples: int = 500,
        orientation: str | int | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.monotonic_cst = monotonic_cst
        self.likelihood = likelihood
        self.size_factors = size_factors
        self.covariates = covariates
        self.unknown_covariate = unknown_covariate
        self.interactions = interactions
        self.inference = inference
        self.integrator = integrator
        self.n_knots = n_knots
        self.n_grid_points = n_grid_points
        self.z_max = z_max
        self.hidden_layer_sizes = hidden_layer_sizes
        self.encoder_hidden_layer_sizes = encoder_hidden_layer_sizes
        self.activation = activation
        self.beta = beta
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
        self.n_importance_samples = n_importance_samples
        self.orientation = orientation
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    # ---- hooks of the base class ----------------------------------------------------------------------------------

    def _resolved_inference(self) -> str:
        if self.inference != "auto":
            return super()._resolved_inference()
        can_be_exact = self.n_components <= MAX_EXACT_COMPONENTS and LIKELIHOODS[self.likelihood].is_linear
        return "exact" if can_be_exact else "amortized"

    def _settle_parameters(self) -> None:
        constraint: Any = self.monotonic_cst
        modelled = self.modelled_columns_
        if isinstance(constraint, str):
            constraint = np.where(np.isin(np.arange(self.n_features_in_), modelled), _DIRECTIONS[constraint], 0)
        of_columns = check_monotonic_cst(self, constraint)
        conditioning = np.setdiff1d(np.nonzero(of_columns)[0], modelled)
        if len(conditioning):
            column = column_label(getattr(self, "feature_names_in_", None), conditioning[0])
            raise ValueError(
                f"monotonic_cst says how {column} of X behaves along the latent, but it is a covariate "
                "and not modelled. Let it be 0 there."
            )
        self.monotonic_cst_ = of_columns[modelled]

    def _axes_are_free(self) -> bool:
        return not self.monotonic_cst_.any()

    def _preferred_directions(self) -> int | np.ndarray:
        return 1 if self._axes_are_free() else self._reader_.columns.of(self.monotonic_cst_)

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        return {
            "name": "additive",
            "n_components": int(self.n_components),
            "signs": tuple(int(sign) for sign in self._reader_.columns.of(self.monotonic_cst_)),
            **self._integrated_network_config(),
        }
