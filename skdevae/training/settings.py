"""Settings of a fit: what training reads of an estimator's parameters, and each family's defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from .._typing import UnknownCovariate
from .fitting import TrainingOptions


def plain(value: Any) -> Any:
    """A parameter as a number of Python's own, where it is a number: torch does not take NumPy's, or True for 1."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


@dataclass(frozen=True)
class TrainingDefaults:
    """How long and how fast a family of estimators trains where its parameters leave that open.

    Attributes
    ----------
    exact_learning_rate, exact_epochs
        Starting rate of Adam and passes over the table, in exact inference.
    path_learning_rate
        Starting rate of runs that begin along a path, on curves that have settled there. Larger steps undo them.
    known_learning_rate
        Starting rate where the positions of all rows are known: a regression goes further with smaller steps.
    annealed_share
        Share of the epochs of exact inference over which q(z) and q(w) are annealed.
    amortized_learning_rate, amortized_epochs
        The same with an encoder.
    least_steps
        Gradient steps that training with an encoder takes at least.
    """

    exact_learning_rate: float = 0.1
    path_learning_rate: float = 0.05
    known_learning_rate: float = 0.04
    exact_epochs: int = 150
    annealed_share: float = 0.5
    amortized_learning_rate: float = 0.01
    amortized_epochs: int = 200
    least_steps: int = 0


@dataclass(frozen=True)
class FitSettings:
    """The parameters that a fit reads, whichever estimator they come from.

    The defaults are what a parameter is settled to in estimators that do not have it.
    """

    n_components: int = 1
    inference: str = "exact"
    z_max: float = 4.5
    n_grid_points: int | None = None
    beta: float = 1.0
    gamma: float = 1.0
    kl_warmup: float = 0.0
    weight_precision: float | None = 0.0
    learning_rate: float | None = None
    learning_rate_decay: str = "cosine"
    batch_size: int = 128
    max_epochs: int | None = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-3
    n_init: int = 1
    n_importance_samples: int = 500
    size_factors: Any = None
    covariates: Any = None
    unknown_covariate: UnknownCovariate = "error"
    random_state: Any = None
    device: str = "auto"
    data_parallel: bool = False
    callbacks: Sequence[Any] | None = None

    @classmethod
    def of(cls, estimator: Any) -> FitSettings:
        """The parameters of an estimator as they are now."""
        parameters = estimator.get_params(deep=False)
        return cls(**{field.name: plain(parameters[field.name]) for field in fields(cls) if field.name in parameters})

    @property
    def asks_for_stopping(self) -> bool:
        """Whether the user counts on a rule that ends training before its last epoch; ``tol=0`` asks for none."""
        return self.early_stopping or self.tol not in (0, FitSettings.tol)

    def options(
        self,
        max_epochs: int,
        steps_per_epoch: int,
        *,
        learning_rate: float,
        betas: tuple[float, float],
        annealed_share: float,
    ) -> TrainingOptions:
        """Options of a training run; ``learning_rate`` is the one to take where the parameter leaves it open."""
        return TrainingOptions(
            max_epochs=max_epochs,
            steps_per_epoch=steps_per_epoch,
            learning_rate=self.learning_rate or learning_rate,
            betas=betas,
            annealed_epochs=math.ceil(annealed_share * max_epochs),
            tol=self.tol,
            patience=self.n_iter_no_change,
            early_stopping=self.early_stopping,
            decay=self.learning_rate_decay,
        )
