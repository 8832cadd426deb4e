"""The composed models: what a batch goes through, from data to loss terms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .behaviors import Bump
from .cluster_prior import ASSIGNMENTS, FINAL_STEPS, ClusterAssignment, OnlyCandidate
from .copies import BasisDecoder
from .decoders import AdditiveDerivativeDecoder, Decoder, DerivativeDecoder, ModuleDecoder, NeuralDecoder
from .encoders import GaussianEncoder
from .latent_grid import GridStatistics, LatentGrid, log_joint, summarize
from .layers import without_batch_effects
from .likelihoods import LIKELIHOODS, ColumnSummary, Likelihood, LinearTables, concatenate
from .losses import LossTerms
from .posteriors import POSTERIORS, Encoding, GaussianPosterior
from .priors import PRIORS, GaussianMixture, Prior, StandardNormal
from .regularized_mixture import RegularizedMixture
from .rows import DenseRows, Rows

#: entries of the curves' (P, K, D) array above which grid points are taken a few at a time
_CURVE_ENTRIES = 16_000_000


class GenerativeModel(nn.Module):
    """z ~ N(0, I), and each feature follows one of the candidate curves that the decoder has for it.

    Parameters
    ----------
    n_samples, n_components : int
        Rows of the training table, and dimensions of the latent.
    decoder : Decoder
    likelihood : Likelihood
    assignment : ClusterAssignment or OnlyCandidate
        Which candidate a feature follows.
    z_max : float
        How far from 0 the latent is looked for.
    weight_decay : float
        Precision of the Gaussian prior on output weights of the decoder's network.
    beta, gamma : float
        Weights of the latent's and the clusters' divergences.
    """

    #: whether q(z | x) comes from an encoder
    amortized = False

    def __init__(
        self,
        n_samples: int,
        n_components: int,
        decoder: Decoder,
        likelihood: Likelihood,
        assignment: ClusterAssignment | OnlyCandidate,
        *,
        z_max: float,
        weight_decay: float,
        beta: float,
        gamma: float,
    ):
        super().__init__()
        self.n_samples, self.n_components = n_samples, n_components
        self.decoder = decoder
        self.likelihood = likelihood
        self.assignment = assignment
        self.z_max = z_max
        self.weight_decay = weight_decay
        self.beta, self.gamma = beta, gamma

    @property
    def can_mirror(self) -> bool:
        """Whether :meth:`mirror_` is possible."""
        return self.decoder.can_mirror

    @property
    def labels(self) -> Tensor:
        """The most probable candidate of every feature, (D,)."""
        return self.assignment.labels

    def curves(self, z: Tensor) -> Tensor:
        """Curves of all candidates at z (P, Q): (P, K, D)."""
        return self.decoder(self.decoder.prepare(z))

    def predictive_curves(self, z: Tensor) -> Tensor:
        """The curve of every feature's most probable candidate: (P, D). Predictions and held-out scores use these."""
        labels, prepare = self.labels, self.decoder.prepare
        return torch.cat([self.decoder.select(prepare(part), labels) for part in z.split(self._points_at_once())])

    def peaks(self) -> Tensor:
        """Where on the axis each transient feature has its maximum, NaN for the others: (D,)."""
        labels = self.labels
        peaks = torch.full(labels.shape, torch.nan, device=labels.device)
        if isinstance(self.decoder, DerivativeDecoder):
            for k, behavior in enumerate(self.decoder.behaviors):
                if isinstance(behavior, Bump) and behavior.has_peak:
                    peaks = torch.where(labels == k, behavior.peak, peaks)
        return peaks

    def predictive_tables(self, z: Tensor, log_size: Tensor | None = None) -> LinearTables:
        """Likelihood coefficients of each feature under its most probable candidate: (P, D).

        ``log_size`` (P,) are log size factors of the rows that the points z (P, Q) are for.
        """
        return self.likelihood.tables(sized(self.predictive_curves(z), log_size), z)

    def latent_prior(self) -> GaussianMixture:
        """p(z), a mixture of Gaussians: here of one, the standard normal."""
        return GaussianMixture.standard_normal(self.n_components, next(self.parameters()))

    def averaged_tables(self, points: Any, z: Tensor) -> LinearTables:
        """Likelihood coefficients at z (P, Q), prepared as ``points``, averaged over q(w): (P, D)."""
        tables = self.likelihood.tables(self.decoder(points), z)
        return tables.average(self.assignment.responsibilities.T)

    def averaged_tables_at(self, z: Tensor) -> LinearTables:
        """:meth:`averaged_tables` at z (P, Q), a few points at a time."""
        parts = z.split(self._points_at_once())
        return concatenate([self.averaged_tables(self.decoder.prepare(part), part) for part in parts])

    def expected_log_likelihood(self, statistics: GridStatistics, z: Tensor) -> Tensor:
        """Log-likelihood of each feature under each of its candidates, (K, D), for the sums at z (P, Q)."""
        step = self._points_at_once()
        parts = [slice(start, start + step) for start in range(0, len(z), step)]
        return torch.stack(
            [
                statistics.at(part).expected_log_likelihood(self.likelihood.tables(self.curves(z[part]), z[part]))
                for part in parts
            ]
        ).sum(0)

    @property
    def entries_per_point(self) -> int:
        """Size of the largest arrays that curves at one point of the latent need."""
        return max(
            self.decoder.nodes_per_point * self.assignment.responsibilities.numel(), self.decoder.weights_per_point
        )

    def _points_at_once(self) -> int:
        return max(1, _CURVE_ENTRIES // self.entries_per_point)

    def candidate_log_prior(self) -> Tensor:
        """Log prior of each candidate's parameters for each feature, (K, D), with Schwarz's term for their number.

        The curves are fitted, not integrated over, so a candidate with more freedom would win wherever two fit alike
        (a transient whose peak lies outside the data mimics every monotone curve). Half of log N for each parameter of
        the shape is what integrating over it would cost, to leading order.
        """
        log_prior = self.decoder.log_prior(self.weight_decay)
        complexity = self.decoder.n_shape_parameters.to(log_prior)
        return log_prior - 0.5 * math.log(self.n_samples) * complexity[:, None]

    def shared_log_prior(self) -> Tensor:
        """Log prior of the parameters that are not one candidate's, up to a constant: a scalar."""
        return self.decoder.shared_log_prior(self.weight_decay) + self.likelihood.log_prior()

    def log_prior(self) -> Tensor:
        """Log prior of all parameters in use, up to a constant: a scalar."""
        phi = self.assignment.responsibilities.T
        return (phi * self.candidate_log_prior()).sum() + self.shared_log_prior()

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place."""
        self.assignment.permute_(self.decoder.mirror_(component))
        self.likelihood.mirror_(component)

    def initialize_(self, statistics: GridStatistics, summary: ColumnSummary, z: Tensor) -> None:
        """Start from the smoothed mean of every feature at points z (P, Q) of a first guess of the latent."""
        present, mass, smoothed = statistics.smoothed()
        self.decoder.initialize_(self.likelihood.unlink(smoothed), mass, z[present])
        # At least one: early stopping may hold out every row in which a column is observed.
        n_observed = summary.n_observed.clamp(min=1)
        mean = statistics.weighted.sum(0) / n_observed
        self.likelihood.initialize_(mean, summary.sum_of_squares / n_observed - mean**2)


class ExactModel(GenerativeModel):
    """The model with its latent integrated on a grid: variational EM in which only q(w) is approximate.

    The E-step (:meth:`expected_statistics`) finds the optimal q(z) of every sample and sums the data under it; the
    M-step is the loss of :meth:`forward`, a function of those sums alone. At the q(z) of the present parameters that
    loss is the negative bound, and its gradient is the gradient of the log evidence (Fisher's identity).

    Attributes
    ----------
    latent_temperature, cluster_temperature : float
        What the likelihood is divided by when q(z) and q(w) are updated; 1 but for deterministic annealing.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.latent_temperature = self.cluster_temperature = 1.0
        # Updated in closed form, between gradient steps.
        self.assignment.hold_(True)
        self._prepared: tuple[LatentGrid, Any] | None = None

    def points_on(self, grid: LatentGrid) -> Any:
        """The grid's points as the decoder wants them, kept for as long as the grid is the same."""
        if self._prepared is None or self._prepared[0] is not grid:
            self._prepared = grid, self.decoder.prepare(grid.points)
        return self._prepared[1]

    def tables_on(self, grid: LatentGrid) -> LinearTables:
        """Coefficients averaged over q(w) on a grid: (P, D)."""
        return self.averaged_tables(self.points_on(grid), grid.points)

    def expected_statistics(self, rows: Rows, tables: LinearTables, grid: LatentGrid) -> GridStatistics:
        """The E-step for some rows, given coefficients averaged over q(w)."""
        q = log_joint(rows, tables, grid, self.beta * self.latent_temperature).softmax(1)
        return summarize(rows, q, grid.log_mass, tables.positive is not None)

    def update_clusters_(self, statistics: GridStatistics, grid: LatentGrid, max_steps: int = FINAL_STEPS) -> None:
        """Set q(w) to its optimum given q(z)."""
        if isinstance(self.assignment, OnlyCandidate):
            return
        tables = self.likelihood.tables(self.decoder(self.points_on(grid)), grid.points)
        evidence = statistics.expected_log_likelihood(tables) + self.candidate_log_prior()
        self.assignment.update_(evidence.T / self.cluster_temperature, self.gamma, max_steps)

    def forward(self, statistics: GridStatistics, summary: ColumnSummary, grid: LatentGrid) -> LossTerms:
        """The objective given q(z), with a gradient that fits *every* candidate to every feature.

        Given q(z), the K candidate curves of a feature are K separate regressions, and in the bound's gradient
        candidate k has the factor phi_jk: one with phi near zero stops learning, and an early mistake is never revised.
        The loss has the bound's value, but in its gradient the candidates' own parameters have the factor 1. What
        candidates or features share (noise, dispersion, basis functions) keeps the bound's gradient.
        """
        phi = self.assignment.responsibilities.T  # (K, D)
        curves = self.decoder(self.points_on(grid), phi)
        tables = self.likelihood.tables(curves, grid.points, weights=phi)
        candidates = statistics.expected_log_likelihood(tables)  # (K, D)
        constant = self.likelihood.column_constant(summary).sum()
        return LossTerms(
            reconstruction=-(_bound_with_full_gradient(candidates, phi) + constant) / statistics.n_rows,
            latent=statistics.divergence / statistics.n_rows,
            clusters=self.assignment.divergence(),
            parameters=-_bound_with_full_gradient(self.candidate_log_prior(), phi) - self.shared_log_prior(),
            n_samples=self.n_samples,
            beta=self.beta,
            gamma=self.gamma,
        )


def _bound_with_full_gradient(candidates: Tensor, phi: Tensor) -> Tensor:
    """The value of sum(phi * candidates) with the gradient of sum(candidates)."""
    fit = candidates.sum()
    return (phi * candidates.detach()).sum() + fit - fit.detach()


class AmortizedModel(GenerativeModel):
    """The model as published: an encoder for q(z | x), reparameterised samples, gradient steps on q(w).

    Parameters
    ----------
    *args, **options
        See :class:`GenerativeModel`.
    encoder : GaussianEncoder
    posterior_family : GaussianPosterior
        What becomes of the encoder's Gaussian.
    prior : Prior
        p(z).
    variational : bool
        Whether z is drawn from q(z | x) and its divergence from p(z) counts; else z is the encoder's mean: a plain
        autoencoder.

    Attributes
    ----------
    divergence_weight : float
        Factor on beta and gamma: the KL warm-up raises it from 0 to 1.
    """

    amortized = True

    def __init__(
        self,
        *args: Any,
        encoder: GaussianEncoder,
        posterior_family: GaussianPosterior,
        prior: Prior,
        variational: bool,
        **options: Any,
    ):
        super().__init__(*args, **options)
        self.encoder = encoder
        self.posterior_family = posterior_family
        self.prior = prior
        self.variational = variational
        self.divergence_weight = 1.0

    def mirror_(self, component: int) -> None:
        super().mirror_(component)
        for part in (self.encoder, self.posterior_family, self.prior):
            part.mirror_(component)

    def latent_prior(self) -> GaussianMixture:
        return self.prior.mixture(self._encode_inputs)

    def _encode_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log sds (K, Q) for inputs (K, D) that are not data."""
        with without_batch_effects(self.encoder):
            encoding = self.encoder.encode(inputs)
        return encoding.mean, encoding.log_sd

    def initialize_prior_(self, inputs: Tensor) -> None:
        """Start the prior from rows (K, D), on the encoder's scale, that stand for the data."""
        self.prior.initialize_(inputs, self._encode_inputs)

    @property
    def has_closed_divergence(self) -> bool:
        """Whether KL(q(z | x) || p(z)) has a formula."""
        return self.posterior_family.is_gaussian and isinstance(self.prior, StandardNormal)

    def log_likelihood(self, rows: DenseRows, z: Tensor) -> Tensor:
        """``E_q(w) log p(x | z, w)`` of every row at its own z (B, Q): (B,)."""
        phi = self.assignment.responsibilities.T
        return self.likelihood.expected_row_log_likelihood(rows, sized(self.curves(z), rows.log_size), z, phi)

    def divergence(self, encoding: Encoding, z: Tensor, log_q: Tensor, prior: GaussianMixture) -> Tensor:
        """KL(q(z | x) || p(z)) of every row, or its estimate from one z (B, Q) each with log q (B,): (B,)."""
        if self.has_closed_divergence:
            return standard_normal_divergence(encoding.mean, encoding.log_sd)
        return log_q - prior.log_density(z)

    def forward(self, rows: DenseRows, noise: Tensor) -> LossTerms:
        """The objective on a batch, with z drawn through standard normal ``noise`` (B, Q)."""
        encoding = self.encoder(rows)
        if self.variational:
            z, log_q = self.posterior_family.draw(encoding, noise)
            latent = self.divergence(encoding, z, log_q, self.latent_prior()).mean()
        else:
            z, latent = encoding.mean, torch.zeros_like(encoding.mean[0, 0])
        return LossTerms(
            reconstruction=-self.log_likelihood(rows, z).mean(),
            latent=latent,
            clusters=self.assignment.divergence(),
            parameters=-self.log_prior(),
            n_samples=self.n_samples,
            beta=self.beta * self.divergence_weight,
            gamma=self.gamma * self.divergence_weight,
        )


class MixtureModel(GenerativeModel):
    """The deep generative decoder: z follows a learned Gaussian mixture, and nothing but the decoder is a network.

    Parameters
    ----------
    *args, **options
        See :class:`GenerativeModel`; ``n_samples`` is the training samples' total weight. ``weight_decay`` is that of a
        gradient step, as torch has it: the Gaussian prior on the decoder's weights has ``n_samples`` times that
        precision.
    mixture : RegularizedMixture
    prior_weight : float
        Factor on the log prior of the mixture's parameters.
    """

    def __init__(self, *args: Any, mixture: RegularizedMixture, prior_weight: float, **options: Any):
        super().__init__(*args, **options)
        self.mixture = mixture
        self.prior_weight = prior_weight

    def latent_prior(self) -> GaussianMixture:
        return self.mixture.mixture()

    def log_prior(self) -> Tensor:
        """log p(theta) and the weighted log p(phi), up to a constant: a scalar."""
        weights = sum(w.square().sum() for w in self.decoder.parameters() if w.ndim > 1)
        of_the_decoder = -0.5 * self.n_samples * self.weight_decay * weights
        return of_the_decoder + self.likelihood.log_prior() + self.prior_weight * self.mixture.log_prior()

    def log_likelihood(self, rows: DenseRows, z: Tensor, with_constant: bool = True) -> Tensor:
        """log p(x | z) of every row at its own z (B, Q), or what of it depends on z: (B,)."""
        phi, curves = self.assignment.responsibilities.T, sized(self.curves(z), rows.log_size)
        return self.likelihood.expected_row_log_likelihood(rows, curves, z, phi, with_constant)


def sized(curves: Tensor, log_size: Tensor | None) -> Tensor:
    """Curves (P, ..., D), on a log scale, of rows with log size factors (P,)."""
    return curves if log_size is None else curves + log_size.view(-1, *[1] * (curves.ndim - 1))


def standard_normal_divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)) summed over components: (B,) from (B, Q)."""
    return (0.5 * (mean**2 + torch.exp(2 * log_sd) - 1) - log_sd).sum(1)


#: name -> decoder, for persistence
DECODERS: dict[str, type[Decoder]] = {
    "derivative": DerivativeDecoder,
    "additive": AdditiveDerivativeDecoder,
    "neural": NeuralDecoder,
    "basis": BasisDecoder,
    "module": ModuleDecoder,
}


def build_model(config: dict[str, Any], generator: torch.Generator) -> GenerativeModel:
    """The model that a configuration of plain values describes, with weights drawn from the generator.

    ``config["decoder"]``, ``["likelihood"]`` and ``["assignment"]`` are dicts of a ``name`` and constructor arguments;
    an assignment of None stands for one candidate, and ``config["encoder"]`` is None for exact inference. Of an
    amortised model, ``["prior"]`` and ``["posterior_family"]`` are such dicts too. A ``config["mixture"]``, arguments
    of a :class:`RegularizedMixture`, makes it a :class:`MixtureModel`.
    """
    n_features, n_components = config["n_features"], config["n_components"]
    decoder = _named(DECODERS, config["decoder"], n_features, generator=generator)
    likelihood = _named(LIKELIHOODS, config["likelihood"], n_features)
    assignment = (
        OnlyCandidate(n_features)
        if config["assignment"] is None
        else _named(ASSIGNMENTS, config["assignment"], n_features)
    )
    parts = (config["n_samples"], n_components, decoder, likelihood, assignment)
    weights = {name: config[name] for name in ("z_max", "weight_decay", "beta", "gamma")}
    if "mixture" in config:
        mixture = RegularizedMixture(n_components=n_components, **config["mixture"])
        return MixtureModel(*parts, mixture=mixture, prior_weight=config["prior_weight"], **weights)
    if config["encoder"] is None:
        return ExactModel(*parts, **weights)
    posterior_family = _named(POSTERIORS, config["posterior_family"], n_components, generator=generator)
    encoder = GaussianEncoder(
        n_features, n_components, n_context=posterior_family.n_context, generator=generator, **config["encoder"]
    )
    return AmortizedModel(
        *parts,
        encoder=encoder,
        posterior_family=posterior_family,
        prior=_named(PRIORS, config["prior"], n_features, n_components),
        variational=config["variational"],
        **weights,
    )


def _named(registry: dict[str, Any], config: dict[str, Any], *sizes: int, **more: Any) -> Any:
    arguments = {name: value for name, value in config.items() if name != "name"}
    return registry[config["name"]](*sizes, **arguments, **more)
