"""The skorch net that trains every model of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from ..nn.losses import LossTerms
from .batches import ModuleInputs
from .interrupts import interrupts_of_this_fit

#: what a user may do where numbers are lost
ADVICE = "Try a smaller learning_rate, and look for columns with extreme values: a log or rank transform helps."


class _TotalLoss(nn.Module):
    """The number that skorch minimises; a validation set is judged by what its own samples contribute."""

    def forward(self, terms: LossTerms, _target: None) -> torch.Tensor:
        return terms.total if self.training else terms.data_part


class LatentVariableNet(NeuralNet):
    """A skorch net whose module returns named loss terms and whose batches are :class:`ModuleInputs`.

    Parameters
    ----------
    module : nn.Module
        An instance, already initialised.
    batches_train, batches_valid : iterable of ModuleInputs
        What an epoch iterates over; ``batches_valid`` may be None.
    **kwargs
        Those of :class:`skorch.NeuralNet`.
    """

    def __init__(self, module, *args, batches_train=None, batches_valid=None, criterion=_TotalLoss, **kwargs):
        super().__init__(module, *args, criterion=criterion, **kwargs)
        self.batches_train = batches_train
        self.batches_valid = batches_valid

    def get_split_datasets(self, X, y=None, **fit_params):
        """The batches know their data; skorch only asks whether there is a validation set."""
        return self.batches_train, self.batches_valid

    def get_iterator(self, dataset, training=False):
        """Batches are iterables already."""
        return dataset

    def fit_loop(self, X, y=None, epochs=None, **kwargs):
        """Train, and tell a callback that ends training from an interrupt: skorch itself swallows both."""
        self._interrupts = interrupts_of_this_fit()
        self._stopped_by_callback = self._has_epoch = False
        super()._set_training(True)
        try:
            return super().fit_loop(X, y, epochs, **kwargs)
        except KeyboardInterrupt:
            announced = self._interrupts.noted or self._interrupts.abandoned
            if not self._stopped_by_callback and not announced:
                self._interrupts.take_note()
            raise

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks, which (skorch's EarlyStopping does) may end training by a KeyboardInterrupt of theirs."""
        if method_name in ("on_train_begin", "on_train_end"):
            super().notify(method_name, **cb_kwargs)
            return
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:
            self._stopped_by_callback = not self._interrupts.abandoned
            raise
        finally:
            if method_name == "on_epoch_end":
                self._has_epoch = self._interrupts.has_result = True
        self._interrupts.raise_if_abandoned()
        if self._interrupts.noted and self._has_epoch:
            raise KeyboardInterrupt  # ends training in skorch's way

    def _set_training(self, training=True):
        """Set the mode of the module, where it is not in it: visiting all of its parts costs much of a small step."""
        if self.module_.training != training or self.criterion_.training != training:
            super()._set_training(training)

    def train_step_single(self, batch: ModuleInputs, **fit_params: Any) -> dict:
        """One forward and backward pass."""
        self._set_training(True)
        terms = self.module_(*batch.arguments)
        loss = self.get_loss(terms, None, training=True)
        self._raise_unless_finite(terms, loss)
        self._record(terms, "train")
        loss.backward()
        return {"loss": loss, "y_pred": terms}

    def validation_step(self, batch: ModuleInputs, **fit_params: Any) -> dict:
        """One forward pass, with full weights on all terms."""
        self._set_training(False)
        with torch.no_grad():
            terms = self.module_(*batch.arguments)
            return {"loss": self.get_loss(terms, None, training=False), "y_pred": terms}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """The total of the loss terms."""
        return self.criterion_(y_pred, y_true)

    def _record(self, terms: LossTerms, prefix: str) -> None:
        batch = self.history[-1, "batches", -1]
        batch.update({f"{prefix}_{name}": value for name, value in terms.named().items()})

    def _raise_unless_finite(self, terms: LossTerms, loss: torch.Tensor) -> None:
        if torch.isfinite(loss):
            return
        culprits = [name for name, value in terms.named().items() if not np.isfinite(value)]
        raise ValueError(
            f"The loss stopped being finite in epoch {len(self.history)}: {', '.join(culprits) or 'total'}. {ADVICE}"
        )


class RepresentationNet(LatentVariableNet):
    """A net whose module's representations are left to a callback: what steps here is decoder and mixture alone."""

    def initialize_optimizer(self, *args, **kwargs):
        """The optimiser of all parameters that are no representations."""
        named = [
            (name, parameter)
            for name, parameter in self.get_all_learnable_params()
            if parameter.requires_grad and not name.startswith("representations.")
        ]
        args, kwargs = self.get_params_for_optimizer("optimizer", named)
        self.optimizer_ = self.optimizer(*args, **kwargs)
        return self
