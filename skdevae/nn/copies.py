"""Copies: the decoder of BasisVAE, where features are scaled and shifted copies of K shared basis functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .behaviors import can_be_reversed
from .decoders import BehaviorNetwork, Decoder, spread_first_layer_
from .integrals import symmetric_grid
from .layers import Linear, multilayer_perceptron, scale_gradient, weights_log_prior
from .linear_tables import ALL_COLUMNS

#: number of knots from -z_max to z_max at which basis functions that are shifted are tabulated
_N_TABLE_KNOTS = 129

#: ridge penalty of the starting weights: hidden units are nearly collinear, and their weights should stay small
_STARTING_RIDGE = 1e-4

#: least distance from the bounds of a scale that is set, as a share of their range: at the bounds its gradient vanishes
_SCALE_MARGIN = 1e-3

#: largest size of a shift that is set, as a share of ``max_shift``: at ``max_shift`` itself its gradient vanishes
_LARGEST_SHIFT = 0.99


class FreeBasis(nn.Module):
    """K functions of the latent, the outputs of one multilayer perceptron (BasisVAE, equation 1).

    Without hidden layers they are K planes.

    Parameters
    ----------
    n_functions, n_components : int
        K and Q.
    hidden_layer_sizes, activation, z_max, generator
        See :class:`~skdevae.nn.decoders.AxisNetwork`.
    """

    #: whether the functions that it can take are the same on a reversed axis
    can_mirror = True

    def __init__(
        self,
        n_functions: int,
        n_components: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        z_max: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.names = [""] * n_functions
        self.hidden, n_hidden = multilayer_perceptron(n_components, hidden_layer_sizes, activation, generator)
        spread_first_layer_(self.hidden, generator, z_max / 4.5)
        self.head = Linear(n_hidden, n_functions, generator)
        self.directions = nn.Buffer(torch.ones(n_components))

    def forward(self, z: Tensor) -> Tensor:
        """Values at z (P, Q): (P, K)."""
        values: Tensor = self.head(self.hidden(self.directions * z))
        return values

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start near ``target`` (P, K) at z (P, Q), whose points have the weights ``mass`` (P,).

        The last layer is fitted by least squares to the hidden layers as they are.
        """
        with torch.no_grad():
            hidden = self.hidden(self.directions * z).double()
            weight = (mass / mass.sum()).double()[:, None]
            center, level = (weight * hidden).sum(0), (weight * target).sum(0)
            spread = hidden - center
            normal = spread.T @ (weight * spread)
            normal.diagonal().add_(_STARTING_RIDGE)
            slopes = torch.linalg.solve(normal, spread.T @ (weight * (target - level)))
            self.head.weight.copy_(slopes.T)
            self.head.bias.copy_(level - center @ slopes)

    def log_prior(self, weight_precision: float | None) -> Tensor:
        """Log prior of the output weights, Gaussians of mean 0 and this precision, up to a constant: a scalar."""
        return weights_log_prior(self.head.weight.square().sum(1), weight_precision).sum()

    def mirror_(self, component: int) -> None:
        """Reverse one axis, in place."""
        with torch.no_grad():
            self.directions[component].neg_()


class BehaviorBasis(BehaviorNetwork):
    """K functions of a one-dimensional latent, each of which keeps to a behaviour.

    Parameters
    ----------
    names : sequence of str
        A behaviour for each function, from :data:`~skdevae.nn.behaviors.BEHAVIORS`. Equal names stand side by side.
    generator : torch.Generator
        Source of the starting weights.
    **network
        See :class:`~skdevae.nn.decoders.AxisNetwork`.
    """

    def __init__(self, names: Sequence[str], *, generator: torch.Generator, **network: Any):
        sizes = [(name, names.count(name)) for name in dict.fromkeys(names)]
        super().__init__(sizes, generator=generator, **network)
        #: number of functions of each distinct behaviour
        self.sizes = [size for _, size in sizes]

    @property
    def names(self) -> list[str]:
        """The behaviour of each function, (K,)."""
        return [
            name for behavior, size in zip(self.behaviors, self.sizes, strict=True) for name in [behavior.name] * size
        ]

    def forward(self, z: Tensor) -> Tensor:
        """Values at z (P, 1): (P, K)."""
        return torch.cat(self.behavior_curves(self.rule(z[:, 0])), 1)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start near ``target`` (P, K) at z (P, 1), whose points have the weights ``mass`` (P,)."""
        for behavior, part in zip(self.behaviors, torch.split(target, self.sizes, dim=1), strict=True):
            behavior.initialize_(part, mass, z[:, 0])

    def log_prior(self, weight_precision: float | None) -> Tensor:
        """Log prior of all parameters, up to a constant: a scalar."""
        return torch.stack([behavior.log_prior(weight_precision).sum() for behavior in self.behaviors]).sum()

    @property
    def can_mirror(self) -> bool:
        """Whether the functions that it can take are the same on the reversed axis."""
        return can_be_reversed(self.names)

    def mirror_(self, component: int) -> None:
        """Reverse the axis, in place. What was increasing is called decreasing afterwards."""
        self.mirror_behaviors_()


class Copies(NamedTuple):
    """How each of M curves is made from a basis function. All fields are (M,).

    The curve is ``level + scale * function(z + shift)``. Its gradient is multiplied by ``sharing``, where given, on the
    way to the function's parameters.
    """

    function: Tensor
    level: Tensor
    scale: Tensor
    shift: Tensor
    sharing: Tensor | None


class BasisDecoder(Decoder):
    """Curves ``level_jk + lambda_jk f_k(z + delta_jk)`` (BasisVAE, equation 3), and a constant if asked for.

    The level is not in the paper. Where zero lies on a feature's scale is a convention, and should not decide which
    shape the feature has.

    The constant is not in the paper either. It is the last candidate, a level of the feature's own and nothing else.
    Without it, a feature that has nothing to do with the latent has to follow some function all the same.

    Parameters
    ----------
    n_features, n_components, n_clusters : int
        D, Q and K.
    scale_bounds : (float, float) or None
        Ends of the range of lambda. None fixes lambda at 1 and the level at 0.
    max_shift : float
        Largest size of delta. Above 0 the latent has one component. The functions are then evaluated at the knots of a
        table, once for all features, and are straight between the knots.
    basis : sequence of str or None
        Behaviours of the functions, one name for each (:class:`BehaviorBasis`). None leaves them free
        (:class:`FreeBasis`).
    with_flat : bool, default=False
        Whether there is a constant beside the K functions: K + 1 candidates.
    hidden_layer_sizes, activation, integrator, n_knots, z_max, generator
        See :class:`~skdevae.nn.decoders.AxisNetwork`.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        n_clusters: int,
        *,
        scale_bounds: tuple[float, float] | None,
        max_shift: float,
        basis: Sequence[str] | None,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        integrator: str,
        n_knots: int,
        z_max: float,
        generator: torch.Generator,
        with_flat: bool = False,
    ):
        super().__init__()
        network: dict[str, Any] = {"hidden_layer_sizes": hidden_layer_sizes, "activation": activation, "z_max": z_max}
        self.basis: FreeBasis | BehaviorBasis
        if basis is None:
            self.basis = FreeBasis(n_clusters, n_components, generator=generator, **network)
        else:
            self.basis = BehaviorBasis(
                basis,
                integrator=integrator,
                n_knots=n_knots,
                generator=generator,
                **network,
            )
        self.scale_bounds, self.max_shift = scale_bounds, max_shift
        shape = (n_clusters, n_features)
        # What the model fixes is no parameter, so that a gradient reaches every parameter.
        if scale_bounds is not None:
            self.raw_scale = nn.Parameter(self._unbounded_scale(torch.ones(shape)))
            self.level = nn.Parameter(torch.zeros(shape))
        else:
            self.fixed_scale, self.fixed_level = nn.Buffer(torch.ones(shape)), nn.Buffer(torch.zeros(shape))
        if max_shift > 0:
            self.raw_shift = nn.Parameter(torch.zeros(shape))
        self.flat_level = nn.Parameter(torch.zeros(n_features)) if with_flat else None
        step = 2 * z_max / (_N_TABLE_KNOTS - 1)
        n_beyond = math.ceil(max_shift / step) + 1
        self.table_knots = nn.Buffer(symmetric_grid(_N_TABLE_KNOTS + 2 * n_beyond, z_max + n_beyond * step).float())

    @property
    def n_functions(self) -> int:
        """K."""
        return len(self.basis.names)

    @property
    def has_flat(self) -> bool:
        """Whether the last candidate is a constant."""
        return self.flat_level is not None

    @property
    def scales(self) -> Tensor:
        """lambda of every candidate, 0 of the constant: (K, D) or (K + 1, D)."""
        return self._with_constant(self._copy_scales(), 0.0)

    @property
    def levels(self) -> Tensor:
        """Level of every candidate: (K, D) or (K + 1, D)."""
        return self._with_constant(self._copy_levels(), self.flat_level)

    @property
    def shifts(self) -> Tensor:
        """delta of every candidate, 0 of the constant: (K, D) or (K + 1, D)."""
        return self._with_constant(self._copy_shifts(), 0.0)

    def _copy_scales(self) -> Tensor:
        """lambda of the copies, (K, D)."""
        if self.scale_bounds is None:
            return self.fixed_scale
        low, high = self.scale_bounds
        return low + (high - low) * torch.sigmoid(self.raw_scale)

    def _copy_levels(self) -> Tensor:
        """Levels of the copies, (K, D)."""
        return self.fixed_level if self.scale_bounds is None else self.level

    def _copy_shifts(self) -> Tensor:
        """delta of the copies, (K, D)."""
        levels = self._copy_levels()
        return self.max_shift * torch.tanh(self.raw_shift) if self.max_shift > 0 else torch.zeros_like(levels)

    def _with_constant(self, values: Tensor, constant: Tensor | float | None) -> Tensor:
        """Values of the copies (..., K, D), and then that of the constant where there is one: (..., K + 1, D)."""
        if not self.has_flat:
            return values
        last = torch.as_tensor(constant).to(values).expand_as(values[..., :1, :])
        return torch.cat([values, last], -2)

    def _unbounded_scale(self, scale: Tensor) -> Tensor:
        """The raw parameter of a scale between the bounds."""
        low, high = cast(tuple[float, float], self.scale_bounds)
        return torch.logit((scale - low) / (high - low), eps=_SCALE_MARGIN)

    def set_copies_(self, levels: Tensor, scales: Tensor, shifts: Tensor) -> None:
        """Set levels, scales and shifts of the copies, (K, D) each. Those that the model fixes stay as they are."""
        with torch.no_grad():
            if self.scale_bounds is not None:
                self.level.copy_(levels)
                self.raw_scale.copy_(self._unbounded_scale(scales))
            if self.max_shift > 0:
                share = (shifts / self.max_shift).clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT)
                self.raw_shift.copy_(torch.atanh(share))

    def set_flat_(self, levels: Tensor) -> None:
        """Set the level of the constant, (D,). Does nothing where there is none."""
        if self.flat_level is not None:
            with torch.no_grad():
                self.flat_level.copy_(levels)

    def functions(self, z: Tensor) -> Tensor:
        """The basis functions at z (P, Q), from the table where there is one: (P, K)."""
        if self.max_shift == 0:
            functions: Tensor = self.basis(z)
            return functions
        left, share = self._cells(z[:, 0])
        table: Tensor = self.basis(self.table_knots[:, None])
        return torch.lerp(table[left], table[left + 1], share[:, None])

    def _cells(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the table's knot to the left of each z, and how far z is on the way to the next one: 0 to 1.

        z has any shape. Beyond the table, the first or the last piece is continued.
        """
        knots = self.table_knots
        position = (z - knots[0]) * ((len(knots) - 1) / (knots[-1] - knots[0]))
        left = position.detach().floor().long().clamp(0, len(knots) - 2)
        return left, position - left

    def forward(self, points: Tensor, sharing: Tensor | None = None, columns: slice = ALL_COLUMNS) -> Tensor:
        levels, scales, shifts = (
            field[:, columns] for field in (self._copy_levels(), self._copy_scales(), self._copy_shifts())
        )
        k = torch.arange(len(levels), device=points.device)[:, None].expand_as(levels)
        copies = Copies(
            k.reshape(-1),
            levels.reshape(-1),
            scales.reshape(-1),
            shifts.reshape(-1),
            None if sharing is None else sharing[: len(levels)].reshape(-1),
        )
        flat_level = None if self.flat_level is None else self.flat_level[columns]
        return self._with_constant(self._curves(points, copies).view(len(points), *levels.shape), flat_level)

    def select(self, points: Tensor, labels: Tensor, columns: slice = ALL_COLUMNS) -> Tensor:
        features = torch.arange(len(labels), device=labels.device)
        level, scale, shift = (field[:, columns][labels, features] for field in (self.levels, self.scales, self.shifts))
        # The constant is a copy of scale 0, whatever the function.
        return self._curves(points, Copies(labels.clamp(max=self.n_functions - 1), level, scale, shift, None))

    def _curves(self, z: Tensor, copies: Copies) -> Tensor:
        """The M curves at z (P, Q): (P, M)."""
        if self.max_shift == 0:
            values = _shared(self.basis(z)[:, copies.function], copies.sharing)
        else:
            table = self.basis(self.table_knots[:, None]).T  # (K, G)
            left, share = self._cells(z + copies.shift)  # (P, M) each
            start = copies.function * len(self.table_knots) + left
            flat = table.reshape(-1)
            values = torch.lerp(_shared(flat[start], copies.sharing), _shared(flat[start + 1], copies.sharing), share)
        return torch.addcmul(copies.level, copies.scale, values)

    def initialize_(self, target: Tensor, mass: Tensor, z: Tensor) -> None:
        """Start each function near the curve of one feature. These features are equally far apart in the table."""
        chosen = torch.linspace(0, target.shape[1] - 1, self.n_functions).round().long()
        self.basis.initialize_(target[:, chosen], mass, z)
        self.set_flat_((mass / mass.sum()) @ target)

    def log_prior(self, weight_precision: float | None) -> Tensor:
        """Gamma(1, 1) for lambda and N(0, 1) for delta (BasisVAE, section 3.3), up to constants: (K or K + 1, D)."""
        scales, shifts = self._copy_scales(), self._copy_shifts()
        log_prior = torch.zeros_like(scales)
        if self.scale_bounds is not None:
            log_prior = log_prior - scales
        if self.max_shift > 0:
            log_prior = log_prior - 0.5 * shifts**2
        return self._with_constant(log_prior, 0.0)

    def shared_log_prior(self, weight_precision: float | None) -> Tensor:
        return self.basis.log_prior(weight_precision)

    @property
    def names(self) -> list[str]:
        return [*self.basis.names, *["flat"] * self.has_flat]

    @property
    def n_shape_parameters(self) -> Tensor:
        """What a feature's own curve takes, beside its level: a scale and a shift where they are free, (K or K + 1,).

        Zeros where there is no constant: copies are equally flexible.
        """
        if not self.has_flat:
            return torch.zeros(self.n_functions)
        of_a_copy = int(self.scale_bounds is not None) + int(self.max_shift > 0)
        # Where copies have no level of their own, the constant's is a parameter more.
        of_the_constant = float(self.scale_bounds is None)
        return torch.tensor([float(of_a_copy)] * self.n_functions + [of_the_constant])

    @property
    def can_mirror(self) -> bool:
        return self.basis.can_mirror

    def mirror_(self, component: int) -> list[int]:
        self.basis.mirror_(component)
        if self.max_shift > 0:
            with torch.no_grad():
                self.raw_shift.neg_()
        return list(range(len(self.names)))


def _shared(values: Tensor, sharing: Tensor | None) -> Tensor:
    """Values whose gradient is multiplied by ``sharing`` on its way back."""
    return values if sharing is None else scale_gradient(values, sharing)
