"""Encoders: networks from a row of the table to a Gaussian over the latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .layers import CovariatesBeside, Linear, multilayer_perceptron
from .posteriors import Encoding
from .rows import DenseRows

#: ends of the range of posterior log sds: nearer than 1 to an end they bend towards it, elsewhere they are as they come
_LOG_SD_RANGE = (-10.0, 3.0)


class GaussianEncoder(nn.Module):
    """Mean and sd of a Gaussian over z, from a multilayer perceptron and, on request, a linear map added to its means.

    The linear map starts as the projection that the fit starts from (principal components). So the encoder places
    samples sensibly before it has learned anything. Sds are bounded: a row unlike any seen in training, whose hidden
    units may be as large as its entries, is not encoded as if it told less than nothing.

    Parameters
    ----------
    n_features, n_components : int
        D and Q.
    hidden_layer_sizes, activation, normalization, dropout
        The perceptron: see :func:`~skdevae.nn.layers.multilayer_perceptron`.
    counts : bool
        Whether rows are counts. A count x enters as log(1 + x), or as log(1 + x / s) in a row with the size factor s.
    sees_mask : bool
        Whether the mask of observed entries is an input too. Values of missing entries are zeros.
    linear_skip : bool
        Whether there is a linear map.
    n_context : int
        Number of further outputs, which are the context of a flow.
    average_covariates : sequence of float
        Training average of each column of the covariates' design, C in number. Covariates are inputs beside the row.
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
        counts: bool,
        sees_mask: bool,
        generator: torch.Generator,
        normalization: str | None = None,
        dropout: float = 0.0,
        linear_skip: bool = True,
        n_context: int = 0,
        average_covariates: Sequence[float] = (),
    ):
        super().__init__()
        self.counts, self.sees_mask = counts, sees_mask
        self.n_components, self.n_context = n_components, n_context
        self.beside = CovariatesBeside(average_covariates)
        n_linear = n_features + len(self.beside)
        n_inputs = n_linear + n_features if sees_mask else n_linear
        self.perceptron, n_hidden = multilayer_perceptron(
            n_inputs, hidden_layer_sizes, activation, generator, normalization=normalization, dropout=dropout
        )
        # With a linear map, the perceptron has only the rest to learn.
        scale = 1e-3 if linear_skip else None
        self.head = Linear(n_hidden, 2 * n_components + n_context, generator, scale=scale)
        self.projection = nn.Parameter(torch.zeros(n_linear, n_components)) if linear_skip else None

    def inputs(self, rows: DenseRows) -> Tensor:
        """Rows on the scale on which the encoder sees them: (B, D)."""
        if not self.counts:
            return rows.values
        log_size = rows.context.log_size
        if rows.entries is None:
            return torch.log1p(rows.values if log_size is None else rows.values * torch.exp(-log_size)[:, None])
        row, _, count = rows.entries
        count = count if log_size is None else count * torch.exp(-log_size)[row]
        return rows.filled_in(torch.log1p(count))

    def forward(self, rows: DenseRows) -> Encoding:
        """Encode rows of the table."""
        return self.encode(self.inputs(rows), rows.observed, rows.context.covariates)

    def encode(self, inputs: Tensor, observed: Tensor | None = None, covariates: Tensor | None = None) -> Encoding:
        """Encode inputs (B, D) that are on the encoder's scale already.

        No mask stands for complete rows, and no covariates (B, C) for average ones.
        """
        linear = seen = self.beside(inputs, covariates)
        if self.sees_mask:
            seen = torch.cat([seen, torch.ones_like(inputs) if observed is None else observed], 1)
        q = self.n_components
        outputs: Tensor = self.head(self.perceptron(seen))
        mean, log_sd, context = torch.split(outputs, [q, q, self.n_context], dim=1)
        if self.projection is not None:
            mean = mean + linear @ self.projection
        return Encoding(mean, _bounded(log_sd), context if self.n_context else None)

    def initialize_(self, projection: Tensor, offset: Tensor, log_sd: float) -> None:
        """Start from ``mean = inputs @ projection + offset``, with projection (D, Q), and a constant sd.

        Without a linear map, the encoder keeps its random weights.
        """
        if self.projection is None:
            return
        q = self.n_components
        with torch.no_grad():
            self.projection[: len(projection)] = projection
            self.head.bias[:q] = offset
            self.head.bias[q : 2 * q] = log_sd

    def adjusted_inputs(self, effects: Tensor | None) -> Callable[[DenseRows], Tensor]:
        """:meth:`inputs` of rows, less effects (C, D) of their covariates: as if these were average."""

        def adjusted(rows: DenseRows) -> Tensor:
            inputs = self.inputs(rows)
            if effects is None:
                return inputs
            n_features = inputs.shape[1]
            return inputs - self.beside(inputs, rows.context.covariates)[:, n_features:] @ effects

        return adjusted

    def initialize_covariates_(self, effects: Tensor) -> None:
        """Start with linear maps that see inputs less effects (C, D) of covariates.

        Otherwise latents would tell covariates at first, and a prior that lies where the latents are keeps them there.
        """
        first = next(layer for layer in [*self.perceptron, self.head] if isinstance(layer, nn.Linear))
        n_covariates, n_features = effects.shape
        of_covariates = slice(n_features, n_features + n_covariates)
        with torch.no_grad():
            first.weight[:, of_covariates] = -first.weight[:, :n_features] @ effects.T
            if self.projection is not None:
                self.projection[of_covariates] = -effects @ self.projection[:n_features]

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place."""
        with torch.no_grad():
            if self.projection is not None:
                self.projection[:, component].neg_()
            self.head.weight[component].neg_()
            self.head.bias[component].neg_()


def _bounded(log_sd: Tensor) -> Tensor:
    """Log sds within :data:`_LOG_SD_RANGE`, smooth in what the network gives."""
    lowest, highest = _LOG_SD_RANGE
    as_they_come = log_sd.clamp(lowest + 1, highest - 1)
    return as_they_come + torch.tanh(log_sd - as_they_come)
