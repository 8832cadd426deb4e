"""DeVAE: a latent-variable model whose decoder is given by its derivatives."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from .._base.estimator import DenoisingModel
from .._base.fitting import MAX_EXACT_COMPONENTS, LatentVariableModel
from .._sklearn import Interval, StrOptions, check_monotonic_cst

#: shorthands of ``monotonic_cst`` for all features
_DIRECTIONS = {"increasing": 1, "decreasing": -1}


class DeVAETransformer(DenoisingModel, LatentVariableModel):
    """Place samples on a latent axis along which chosen features can only rise, or only fall.

    The model is DeVAE [1]_: z ~ N(0, I), and the expected value of every feature is x0 plus, for each latent component,
    the integral from 0 of a network's output. A softplus gives a derivative its sign, so that a feature's monotonicity
    is no penalty and no projection: it holds for every weight and at every point. Unlike the paper, which trains an
    encoder, one or two components are integrated on a grid, with exact posteriors and likelihoods.

    Parameters
    ----------
    n_components : int, default=1
        Dimensions of the latent. Components add up: a feature's expected value is a sum of one curve for each.
    monotonic_cst : {"increasing", "decreasing"}, array-like of int of shape (n_features,), dict or None, default=None
        What every feature does along every component, as in
        :class:`~sklearn.ensemble.HistGradientBoostingRegressor`: 1 rises, -1 falls, 0 is free. A dict goes by feature
        name, with 0 for those that it leaves out; a string stands for all features; None leaves all free. With
        ``likelihood="zinb"`` it holds for what is counted where there is no excess zero.
    likelihood : {"gaussian", "poisson", "nb", "zinb", "bernoulli"}, default="gaussian"
        Observation model. ``"gaussian"`` standardises columns internally and has a noise sd for each feature. Counts
        have a log link; ``"nb"`` and ``"zinb"`` have a dispersion for each feature, ``"zinb"`` also a probability of
        excess zeros that is logit-linear in z. All but ``"gaussian"`` accept sparse tables.
    inference : {"auto", "exact", "amortized"}, default="auto"
        ``"exact"``: expectation maximisation with z on a grid, for up to two components. ``"amortized"``: the paper's
        encoder, reparameterised gradient and KL warm-up. ``"auto"`` is exact where that is possible.
    integrator : {"grid", "gauss-legendre"}, default="grid"
        How derivatives are integrated. ``"grid"`` takes them as linear between knots and integrates exactly, so that
        monotonicity is exact too; ``"gauss-legendre"`` is the paper's rule of order 15.
    n_knots : int, default=65
        Knots of ``integrator="grid"``, from ``-z_max`` to ``z_max``.
    n_grid_points : int, default=None
        Grid points along each component that z is integrated over while fitting; None means 129 (65 where the table has
        more than two million stored entries), or 49 for two components. Scores use finer grids where a posterior needs
        them.
    z_max : float, default=4.5
        Where knots and grid end, in prior sds. Beyond it curves go on as straight lines (or as what their link makes of
        one); samples found there are reported.
    hidden_layer_sizes : sequence of int, default=(32,)
        Hidden layers of the network of each component from which all derivatives are read. Empty: derivatives are
        functions of a linear map of the component.
    encoder_hidden_layer_sizes : sequence of int, default=(128,)
        Hidden layers of the encoder of amortised inference.
    activation : {"tanh", "relu", "softplus", "elu", "gelu"}, default="tanh"
        Nonlinearity of hidden layers.
    beta : float, default=1.0
        Weight of KL(q(z | x) || p(z)).
    kl_warmup : float, default=0.2
        Share of the epochs over which amortised inference raises that weight from zero.
    weight_decay : float, default=20.0
        Precision of the Gaussian prior on each weight between hidden units and a feature's derivative, in nats: larger
        values make simpler curves.
    noise_floor : float, default=0.1
        Least noise sd of ``likelihood="gaussian"``, as a share of each column's sd.
    learning_rate : float, default=None
        Starting rate of Adam; it decays to zero along a cosine. None means 0.1 for exact and 0.01 for amortised
        inference.
    batch_size : int, default=128
        Rows per gradient step of amortised inference. Exact inference sums over all rows before each step and chooses
        by itself how many to hold in memory.
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
        Number of starts, of which the one with the best ``lower_bound_`` is kept. The first starts from the leading
        principal components, the others from random mixtures of a few more.
    n_importance_samples : int, default=500
        Draws for each sample's likelihood, where amortised inference has more than one component.
    orientation : str or int, default=None
        Name or position of a feature that should rise along the first axis, as far as ``monotonic_cst`` leaves the axes
        a choice. None points each axis so that the features' correlations with it have a non-negative sum. A variable
        outside of X can be given to :meth:`fit`.
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
    monotonic_cst_ : ndarray of shape (n_features,)
        -1, 0 or 1 for each feature.
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
    BasisDeVAEClusterer : Finds out from the data which features rise, fall, or come and go.
    VAETransformer : The same without constraints, by an encoder and a plain decoder.

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

    _parameter_constraints: ClassVar[dict] = {
        **LatentVariableModel._parameter_constraints,
        **LatentVariableModel._grid_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "monotonic_cst": [None, "array-like", dict, StrOptions(set(_DIRECTIONS))],
        "inference": [StrOptions({"auto", "exact", "amortized"})],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=1,
        *,
        monotonic_cst=None,
        likelihood="gaussian",
        inference="auto",
        integrator="grid",
        n_knots=65,
        n_grid_points=None,
        z_max=4.5,
        hidden_layer_sizes=(32,),
        encoder_hidden_layer_sizes=(128,),
        activation="tanh",
        beta=1.0,
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
        n_importance_samples=500,
        orientation=None,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.monotonic_cst = monotonic_cst
        self.likelihood = likelihood
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

    def _resolved_inference(self) -> str:
        if self.inference == "auto":
            return "exact" if self.n_components <= MAX_EXACT_COMPONENTS else "amortized"
        return super()._resolved_inference()

    def _settle_parameters(self) -> None:
        constraint: Any = self.monotonic_cst
        if isinstance(constraint, str):
            constraint = np.full(self.n_features_in_, _DIRECTIONS[constraint])
        self.monotonic_cst_ = check_monotonic_cst(self, constraint)

    def _axes_are_free(self) -> bool:
        return not self.monotonic_cst_.any()

    def _preferred_directions(self) -> int | np.ndarray:
        return 1 if self._axes_are_free() else self.monotonic_cst_

    def _decoder_config(self, n_features: int) -> dict[str, Any]:
        return {
            "name": "additive",
            "n_components": int(self.n_components),
            "signs": tuple(int(sign) for sign in self.monotonic_cst_),
            **self._integrated_network_config(),
        }
