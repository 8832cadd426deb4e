"""Stacked models: many models of one form that differ in their parameters only, evaluated side by side."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from .linear_tables import LinearTables
from .models import ExactModel

#: parameters that say which candidate a feature follows, and not what its curve is
_ASSIGNMENT = "assignment."
_LOGITS = "assignment.logits"


class _Caller(nn.Module):
    """Lets a function of a model be called as a module is, so that its parameters can be put in their places."""

    def __init__(self, model: ExactModel):
        super().__init__()
        self.model = model

    def forward(self, question: Callable[..., Any], *arguments: Any) -> Any:
        return question(self.model, *arguments)


class StackedModels:
    """R models of the form of one, each with parameters of its own: a vector of Q numbers, and q(w).

    Parameters
    ----------
    model : ExactModel
        Gives the form, and the vector that all start from.
    """

    def __init__(self, model: ExactModel):
        #: the model that gives the form
        self.form = deepcopy(model).requires_grad_(False)
        self._caller = _Caller(self.form)
        self._shapes = {name: value.shape for name, value in _own_parameters(self.form).items()}
        #: parameters of the model that gives the form: (Q,)
        self.start = self.vector_of(self.form)

    @staticmethod
    def vector_of(model: ExactModel) -> Tensor:
        """The parameters of a model of this form: (Q,)."""
        return torch.cat([value.detach().reshape(-1) for value in _own_parameters(model).values()])

    def double(self) -> StackedModels:
        """The same form in double precision."""
        return StackedModels(deepcopy(self.form).double())

    def ask(
        self,
        question: Callable[..., Any],
        parameters: Tensor,
        *arguments: Tensor,
        logits: Tensor | None = None,
    ) -> Any:
        """What a function of a model says of each of R models: tensors with R as their first dimension.

        ``parameters`` are (R, Q). ``arguments`` have R as their first dimension, too, and each model sees its own.
        ``logits`` (R, D, K) are those of q(w). None takes those of the model that gives the form.
        """
        own = self._by_name(parameters)
        if logits is not None:
            own[_LOGITS] = logits

        def of_one(values: dict[str, Tensor], *own_arguments: Tensor) -> Any:
            named = {f"model.{name}": value for name, value in values.items()}
            return functional_call(self._caller, named, (question, *own_arguments))

        return vmap(of_one)(own, *arguments)

    def tables(
        self,
        of_model: Callable[[ExactModel, Tensor], LinearTables],
        parameters: Tensor,
        points: Tensor,
        logits: Tensor | None = None,
    ) -> LinearTables:
        """Coefficients (R P, D) at points z (P, Q), model by model. ``of_model`` gives those of one."""

        def of_one(model: ExactModel) -> tuple[Tensor, ...]:
            return tuple(table for table in of_model(model, points) if table is not None)

        zero, slope, *positive = (part.flatten(0, 1) for part in self.ask(of_one, parameters, logits=logits))
        return LinearTables(zero, slope, positive[0] if positive else None)

    def model(self, parameters: Tensor, logits: Tensor | None = None) -> ExactModel:
        """One of the models, with parameters (Q,) and the logits (D, K) of q(w)."""
        one = deepcopy(self.form)
        values = {name: value[0] for name, value in self._by_name(parameters[None]).items()}
        if logits is not None:
            values[_LOGITS] = logits
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                if name in values:
                    parameter.copy_(values[name])
        return one

    def _by_name(self, parameters: Tensor) -> dict[str, Tensor]:
        """Parameters (R, Q) as those of the modules: (R, ...) each."""
        parts = parameters.split([shape.numel() for shape in self._shapes.values()], 1)
        return {
            name: part.reshape(len(part), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


def _own_parameters(model: ExactModel) -> dict[str, Tensor]:
    """All parameters but those of q(w), by their names."""
    return {name: value for name, value in model.named_parameters() if not name.startswith(_ASSIGNMENT)}
