"""The composed models: what a batch goes through, from data to loss terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .behaviors import Bump
from .cluster_prior import ASSIGNMENTS, FINAL_STEPS, ClusterAssignment
from .decoders import DerivativeDecoder
from .encoders import GaussianEncoder
from .integrals import IntegrationRule
from .latent_grid import GridStatistics, LatentGrid, log_joint, summarize
from .likelihoods import LIKELIHOODS, ColumnSummary, Gaussian, Likelihood, LinearTables, concatenate
from .losses import LossTerms
from .rows import DenseRows, Rows

#: entries of the curves' (P, K, D) array above which grid points are taken a few at a time
_CURVE_ENTRIES = 16_000_000


class FeatureClusterModel(nn.Module):
    """BasisDeVAE's generative model: z ~ N(0, 1), each feature follows one of K behaviours of z.

    Parameters
    ----------
    n_samples, n_features : int
        Size of the training table.
    behaviors : sequence of str
        Names from ``BEHAVIORS``.
    likelihood, assignment : str
        Names from ``LIKELIHOODS`` and ``ASSIGNMENTS``.
    alpha : float
        Concentration of the cluster weights' prior.
    noise_floor : float
        Least noise sd of the gaussian likelihood, in standardised units.
    weight_decay : float
        Precision of the Gaussian prior on the weights that turn hidden units into derivatives.
    beta, gamma : float
        Weights of the latent's and the clusters' divergences.
    generator : torch.Generator
        Source of the starting weights.
    **decoder_options
        See :class:`~skdevae.nn.decoders.DerivativeDecoder`.
    """

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        behaviors: Sequence[str],
        *,
        likelihood: str,
        assignment: str,
        alpha: float,
        noise_floor: float,
        weight_decay: float,
        beta: float,
        gamma: float,
        generator: torch.Generator,
        **decoder_options: Any,
    ):
        super().__init__()
        self.n_samples = n_samples
        self.weight_decay = weight_decay
        self.beta, self.gamma = beta, gamma
        self.decoder = DerivativeDecoder(n_features, behaviors, generator=generator, **decoder_options)
        family = LIKELIHOODS[likelihood]
        options = {"floor": noise_floor} if family is Gaussian else {}
        self.likelihood: Likelihood = family(n_features, **options)
        self.assignment: ClusterAssignment = ASSIGNMENTS[assignment](n_features, len(behaviors), alpha)

    #: whether q(z | x) comes from an encoder
    amortized = False

    @property
    def can_mirror(self) -> bool:
        """Whether :meth:`mirror_` is possible with the behaviours at hand."""
        return self.decoder.can_mirror

    @property
    def z_max(self) -> float:
        """Where the decoder's knots end."""
        return float(self.decoder.knots[-1])

    @property
    def labels(self) -> Tensor:
        """The most probable behaviour of every feature, (D,)."""
        return self.assignment.logits.argmax(1)

    def curves(self, z: Tensor) -> Tensor:
        """Curves of all behaviours at z (P,): (P, K, D)."""
        return self.decoder(self.decoder.rule(z))

    def predictive_curves(self, z: Tensor) -> Tensor:
        """The curve of every feature's most probable behaviour: (P, D). Predictions and held-out scores use these."""
        features = torch.arange(len(self.labels), device=z.device)
        return torch.cat([self.curves(part)[:, self.labels, features] for part in z.split(self._points_at_once())])

    def peaks(self) -> Tensor:
        """Where on the axis each transient feature has its maximum, NaN for the others: (D,)."""
        peaks = torch.full(self.labels.shape, torch.nan, dtype=self.assignment.logits.dtype, device=self.labels.device)
        for k, behavior in enumerate(self.decoder.behaviors):
            if isinstance(behavior, Bump) and behavior.has_peak:
                peaks = torch.where(self.labels == k, behavior.peak, peaks)
        return peaks

    def predictive_tables(self, z: Tensor) -> LinearTables:
        """Likelihood coefficients of each feature under its most probable behaviour: (P, D)."""
        return self.likelihood.tables(self.predictive_curves(z), z)

    def averaged_tables(self, rule: IntegrationRule) -> LinearTables:
        """Likelihood coefficients at ``rule.z``, averaged over q(w): (P, D)."""
        tables = self.likelihood.tables(self.decoder(rule), rule.z)
        return tables.average(self.assignment.responsibilities.T)

    def averaged_tables_at(self, z: Tensor) -> LinearTables:
        """:meth:`averaged_tables` at points z (P,), a few at a time."""
        return concatenate([self.averaged_tables(self.decoder.rule(part)) for part in z.split(self._points_at_once())])

    def _points_at_once(self) -> int:
        n_features, n_clusters = self.assignment.logits.shape
        return max(1, _CURVE_ENTRIES // (n_clusters * n_features))

    def slot_log_prior(self) -> Tensor:
        """Log prior of each behaviour's parameters for each feature, (K, D), with Schwarz's term for their number.

        The curves are fitted, not integrated over, so a behaviour with more freedom would win wherever two fit alike
        (a transient whose peak lies outside the data mimics every monotone curve). Half of log N for each parameter of
        the shape is what integrating over it would cost, to leading order.
        """
        complexity = self.decoder.n_shape_parameters.to(self.assignment.logits)
        return self.decoder.log_prior(self.weight_decay) - 0.5 * math.log(self.n_samples) * complexity[:, None]

    def log_prior(self) -> Tensor:
        """Log prior of all parameters in use, up to a constant: a scalar."""
        phi = self.assignment.responsibilities.T
        return (phi * self.slot_log_prior()).sum() + self.likelihood.log_prior()

    def mirror_(self) -> None:
        """Reverse the latent axis, in place."""
        self.assignment.permute_(self.decoder.mirror_())
        self.likelihood.mirror_()

    def initialize_(self, statistics: GridStatistics, summary: ColumnSummary, grid: LatentGrid) -> None:
        """Start from the smoothed mean of every feature along a first guess of the axis."""
        mass = statistics.mass.mean(1)
        present = mass > 1e-6 * mass.sum()
        smoothed = statistics.weighted[present] / statistics.mass[present].clamp(min=1e-6)
        self.decoder.initialize_(self.likelihood.unlink(smoothed), mass[present], grid.points[present])
        # At least one: early stopping may hold out every row in which a column is observed.
        n_observed = summary.n_observed.clamp(min=1)
        mean = statistics.weighted.sum(0) / n_observed
        self.likelihood.initialize_(mean, summary.sum_of_squares / n_observed - mean**2)


class ExactModel(FeatureClusterModel):
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
        self.assignment.logits.requires_grad_(False)
        self._rule: IntegrationRule | None = None

    def rule_on(self, grid: LatentGrid) -> IntegrationRule:
        """The integration rule for the points of a grid, kept for as long as the grid is the same."""
        if self._rule is None or self._rule.z is not grid.points:
            self._rule = self.decoder.rule(grid.points)
        return self._rule

    def expected_statistics(self, rows: Rows, tables: LinearTables, grid: LatentGrid) -> GridStatistics:
        """The E-step for some rows, given coefficients averaged over q(w)."""
        q = log_joint(rows, tables, grid, self.beta * self.latent_temperature).softmax(1)
        return summarize(rows, q, grid, tables.positive is not None)

    def update_clusters_(self, statistics: GridStatistics, grid: LatentGrid, max_steps: int = FINAL_STEPS) -> None:
        """Set q(w) to its optimum given q(z)."""
        tables = self.likelihood.tables(self.decoder(self.rule_on(grid)), grid.points)
        evidence = statistics.expected_log_likelihood(tables) + self.slot_log_prior()
        self.assignment.update_(evidence.T / self.cluster_temperature, self.gamma, max_steps)

    def forward(self, statistics: GridStatistics, summary: ColumnSummary, grid: LatentGrid) -> LossTerms:
        """The objective given q(z), with a gradient that fits *every* behaviour to every feature.

        Given q(z), the K candidate curves of a feature are K separate regressions, and in the bound's gradient
        candidate k has the factor phi_jk: one with phi near zero stops learning, and an early mistake is never revised.
        The loss has the bound's value, but in its gradient the candidates' own parameters have the factor 1. The
        feature's noise or dispersion keeps the bound's gradient.
        """
        phi = self.assignment.responsibilities.T  # (K, D)
        curves = self.decoder(self.rule_on(grid))
        tables = self.likelihood.tables(curves, grid.points, weights=phi)
        candidates = statistics.expected_log_likelihood(tables)  # (K, D)
        constant = self.likelihood.column_constant(summary).sum()
        return LossTerms(
            reconstruction=-(_bound_with_full_gradient(candidates, phi) + constant) / statistics.n_rows,
            latent=statistics.divergence / statistics.n_rows,
            clusters=self.assignment.divergence(),
            parameters=-_bound_with_full_gradient(self.slot_log_prior(), phi) - self.likelihood.log_prior(),
            n_samples=self.n_samples,
            beta=self.beta,
            gamma=self.gamma,
        )


def _bound_with_full_gradient(candidates: Tensor, phi: Tensor) -> Tensor:
    """The value of sum(phi * candidates) with the gradient of sum(candidates)."""
    fit = candidates.sum()
    return (phi * candidates.detach()).sum() + fit - fit.detach()


class AmortizedModel(FeatureClusterModel):
    """The model as published: an encoder for q(z | x), reparameterised samples, gradient steps on q(w).

    Parameters
    ----------
    encoder_hidden_layer_sizes : sequence of int
    sees_mask : bool
        Whether the encoder is told which entries are missing.
    **options
        See :class:`FeatureClusterModel`.

    Attributes
    ----------
    divergence_weight : float
        Factor on beta and gamma: the KL warm-up raises it from 0 to 1.
    """

    amortized = True

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        behaviors: Sequence[str],
        *,
        encoder_hidden_layer_sizes: Sequence[int],
        activation: str,
        sees_mask: bool,
        generator: torch.Generator,
        **options: Any,
    ):
        super().__init__(n_samples, n_features, behaviors, activation=activation, generator=generator, **options)
        self.encoder = GaussianEncoder(
            n_features,
            hidden_layer_sizes=encoder_hidden_layer_sizes,
            activation=activation,
            counts=self.likelihood.counts,
            sees_mask=sees_mask,
            generator=generator,
        )
        self.divergence_weight = 1.0

    def mirror_(self) -> None:
        super().mirror_()
        self.encoder.mirror_()

    def posterior(self, rows: DenseRows) -> tuple[Tensor, Tensor]:
        """Mean and log sd of q(z | x), (B,) each."""
        return self.encoder(rows.values, rows.observed)

    def log_likelihood(self, rows: DenseRows, z: Tensor) -> Tensor:
        """``E_q(w) log p(x | z, w)`` of every row at its own z (B,): (B,)."""
        phi = self.assignment.responsibilities.T
        return self.likelihood.expected_row_log_likelihood(rows, self.curves(z), z, phi)

    def forward(self, rows: DenseRows, noise: Tensor) -> LossTerms:
        """The objective on a batch, with z drawn through standard normal ``noise`` (B,)."""
        mean, log_sd = self.posterior(rows)
        z = mean + log_sd.exp() * noise
        return LossTerms(
            reconstruction=-self.log_likelihood(rows, z).mean(),
            latent=standard_normal_divergence(mean, log_sd).mean(),
            clusters=self.assignment.divergence(),
            parameters=-self.log_prior(),
            n_samples=self.n_samples,
            beta=self.beta * self.divergence_weight,
            gamma=self.gamma * self.divergence_weight,
        )


def standard_normal_divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)), elementwise."""
    return 0.5 * (mean**2 + torch.exp(2 * log_sd) - 1) - log_sd


#: name -> model, for persistence
MODELS: dict[str, type[FeatureClusterModel]] = {"exact": ExactModel, "amortized": AmortizedModel}
