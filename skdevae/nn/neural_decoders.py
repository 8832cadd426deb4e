"""Neural decoders: curves that are perceptrons of the latent, and of the covariates of rows beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .behaviors import weighted_plane
from .decoders import Decoder, some_outputs, spread_first_layer_
from .layers import CovariatesBeside, Linear, multilayer_perceptron, squared_norms, weights_log_prior
from .linear_tables import ALL_COLUMNS

#: Prior sd of an effect, in units of curves: a standardised measurement moves by one sd, a count by a factor of e. A
#: narrower prior would leave a part of the effects of batches on rare counts to the latent.
_EFFECT_SD = 1.0


class ConditionalDecoder(Decoder):
    """A decoder whose curves also depend on covariates of the rows: each has an additive effect on every curve.

    It takes latents with the covariates beside them: points (P, Q + C), as ``beside`` makes them.

    Parameters
    ----------
    n_features : int
    average_covariates : sequence of float
        Training average of each column of the covariates' design, C in number. Effects count from there.
    """

    def __init__(self, n_features: int, average_covariates: Sequence[float] = ()):
        super().__init__()
        self.n_covariates = len(average_covariates)
        self.beside = CovariatesBeside(average_covariates)
        self.effects = nn.Parameter(torch.zeros(self.n_covariates, n_features)) if self.n_covariates else None

    def split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (P, Q) and covariates (P, C) of points (P, Q + C)."""
        n_components = points.shape[1] - self.n_covariates
        return points[:, :n_components], points[:, n_components:]

    def with_effects(self, values: Tensor, covariates: Tensor, columns: slice) -> Tensor:
        """Values (P, d) of some features, with the effects of covariates (P, C) added."""
        return values if self.effects is None else values + covariates @ self.effects[:, columns]

    def initialize_effects_(self, effects: Tensor | None) -> None:
        """Start from given effects (C, D), where there are covariates."""
        if self.effects is not None and effects is not None:
            with torch.no_grad():
                self.effects.copy_(effects)

    def effects_log_prior(self) -> Tensor:
        """Log prior of the effects on every feature, up to a constant: (D,), or 0 where there are none."""
        if self.effects is None:
            return torch.zeros(())
        return weights_log_prior(self.effects.square().sum(0), _EFFECT_SD**-2)


class NeuralDecoder(ConditionalDecoder):
    """A plane, a multilayer perceptron, or their sum: the decoder of a linear or an ordinary VAE.

    A fit starts with the plane, at principal components. The perceptron has only the rest to learn.

    Parameters
    ----------
    n_features, n_components : int
    hidden_layer_sizes, activation, normalization, dropout
        The perceptron: see :func:`~skdevae.nn.layers.multilayer_perceptron`. Without hidden layers the decoder is
        linear.
    linear_skip : bool
        Whether there is a plane. Without hidden layers there always is.
    normalized : bool
        Whether expected values are shares of a total that is learned, and curves their logs. For counts whose size
        factors are the samples' sums.
    average_covariates : sequence of float
        See :class:`ConditionalDecoder`. The perceptron sees covariates as it sees the latent.
    generator : torch.Generator
        Source of the starting weights.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
        normalization: str | None = None,
        dropout: float = 0.0,
        linear_skip: bool = True,
        normalized: bool = False,
        average_covariates: Sequence[float] = (),
    ):
        super().__init__(n_features, average_covariates)
        self.level = nn.Parameter(torch.zeros(n_features))
        self.hidden, n_hidden = multilayer_perceptron(
            n_components + self.n_covariates,
            hidden_layer_sizes,
            activation,
            generator,
            normalization=normalization,
            dropout=dropout,
        )
        self.head = Linear(n_hidden, n_features, generator, scale=0.03) if len(self.hidden) else None
        has_plane = linear_skip or self.head is None
        self.loadings = nn.Parameter(torch.zeros(n_components, n_features)) if has_plane else None
        if has_plane:
            spread_first_layer_(self.hidden, generator)
        self.log_total = nn.Parameter(torch.zeros(())) if normalized else None

    def forward(self, points: Tensor, sharing: Tensor | None = None, columns: slice = ALL_COLUMNS) -> Tensor:
        if self.log_total is None:
            return self._values(points, columns)[:, None]
        # A share depends on all features.
        shares = torch.log_softmax(self._values(points, ALL_COLUMNS), -1) + self.log_total
        return shares[:, None] if columns == ALL_COLUMNS else shares[:, None, columns]

    def _values(self, points: Tensor, columns: slice) -> Tensor:
        z, covariates = self.split(points)
        level = self.level[columns]
        if self.head is None:
            values = level.expand(len(points), -1)
        else:
            values = some_outputs(self.head, self.hidden(points), columns, level)
        if self.loadings is not None:
            loadings = self.loadings if columns == ALL_COLUMNS else self.loadings[:, columns]
            values = torch.addmm(values, z, loadings) if self.head is None else values.addmm_(z, loadings)
        return self.with_effects(values, covariates, columns)

    def select(self, points: Tensor, labels: Tensor, columns: slice = ALL_COLUMNS) -> Tensor:
        curves: Tensor = self(points, columns=columns)
        return curves[:, 0]  # the only candidate, without a copy

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        share = mass / mass.sum()
        with torch.no_grad():
            if self.loadings is None:
                self.level.copy_(share @ target)
            else:
                level, slopes = weighted_plane(target, mass, z)
                self.level.copy_(level)
                self.loadings.copy_(slopes)
            if self.log_total is not None:
                self.log_total.copy_((share @ target.exp().sum(1)).log())

    def log_prior(self, weight_precision: float | None) -> Tensor:
        log_prior = torch.zeros_like(self.level) + self.effects_log_prior()
        if self.head is not None:
            log_prior = log_prior + weights_log_prior(squared_norms(self.head.weight), weight_precision)
        return log_prior[None]

    def mirror_(self, component: int) -> list[int]:
        with torch.no_grad():
            if self.loadings is not None:
                self.loadings[component].neg_()
            if self.head is not None:
                cast(nn.Linear, self.hidden[0]).weight[:, component].neg_()
        return [0]


class ModuleDecoder(ConditionalDecoder):
    """A module of the user's own, which maps latents (P, Q) to D values for each point, in any shape.

    It knows nothing of covariates, whose effects are added to its values.

    Parameters
    ----------
    n_features : int
    module : nn.Module
        The decoder keeps a copy. Values of one point are flattened.
    generator : torch.Generator
        Not used: the module comes with its starting weights.
    n_outputs : int, default=None
        Number of the module's values for each point; None stands for D.
    columns : list of int, default=None
        Which of them, D in number, are those of the model's features; None stands for all.
    average_covariates : sequence of float
        See :class:`ConditionalDecoder`.
    """

    def __init__(
        self,
        n_features: int,
        *,
        module: nn.Module,
        generator: torch.Generator,
        n_outputs: int | None = None,
        columns: list[int] | None = None,
        average_covariates: Sequence[float] = (),
    ):
        super().__init__(n_features, average_covariates)
        self.n_features = n_features
        self.n_outputs = n_features if n_outputs is None else n_outputs
        self.columns = columns
        self.module = copy.deepcopy(module)

    def forward(self, points: Tensor, sharing: Tensor | None = None, columns: slice = ALL_COLUMNS) -> Tensor:
        z, covariates = self.split(points)
        weight = next(self.module.parameters(), z)
        values: Tensor = self.module(z.to(weight))
        if not isinstance(values, Tensor) or values.dtype != weight.dtype:
            returned = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"decoder returned {returned} for latents of dtype {weight.dtype}: it must return a tensor of the "
                "latents' dtype."
            )
        if values.shape[:1] != z.shape[:1]:
            raise ValueError(
                f"decoder returned values of shape {tuple(values.shape)} for latents of shape {tuple(z.shape)}: "
                "it must return values for each row of latents."
            )
        if values[0].numel() != self.n_outputs:
            raise ValueError(
                f"decoder returned {values[0].numel()} values for each latent of {z.shape[1]} components, but X "
                f"has {self.n_outputs} features."
            )
        values = values.reshape(len(points), 1, self.n_outputs)
        if self.columns is not None:
            values = values[..., self.columns]
        return self.with_effects(values[..., columns], covariates[:, None], columns)

    def select(self, points: Tensor, labels: Tensor, columns: slice = ALL_COLUMNS) -> Tensor:
        curves: Tensor = self(points, columns=columns)
        return curves[:, 0]

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Do nothing: the module comes with its starting weights."""

    def log_prior(self, weight_precision: float | None) -> Tensor:
        return torch.zeros(1, self.n_features) + self.effects_log_prior()

    @property
    def can_mirror(self) -> bool:
        return False
