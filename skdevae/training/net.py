"""The skorch net that trains every model of the package."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from skorch import NeuralNet
from skorch.hf import AccelerateMixin

from ..nn.layers import BatchShare, sharing_batch
from ..nn.losses import LossTerms
from .batches import ModuleInputs
from .data_parallel import ConnectedProcesses, Processes, Share
from .interrupts import interrupts_of_this_fit

#: what a user may do where numbers are lost
ADVICE = "Try a smaller learning_rate, and look for columns with extreme values: a log or rank transform helps."


class _TotalLoss:
    """The number that skorch minimises; a validation set is judged by what its own samples contribute.

    It is no module: accelerate wraps modules to average their gradients, which this one would not have.
    """

    def __call__(self, terms: LossTerms, training: bool) -> torch.Tensor:
        return terms.total if training else terms.data_part


class LatentVariableNet(NeuralNet):
    """A skorch net whose module returns named loss terms and whose batches are :class:`ModuleInputs`.

    Parameters
    ----------
    module : nn.Module
        An instance, already initialised. It is trained in place, though ``module_`` may be something around it.
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
        if self._is_to_end() and self._has_epoch:
            raise KeyboardInterrupt  # ends training in skorch's way

    def _is_to_end(self) -> bool:
        """Whether an interrupt ends training."""
        return self._interrupts.noted

    def _set_training(self, training=True):
        """Set the mode of the module, where it is not in it: visiting all of its parts costs much of a small step."""
        if self.module_.training != training:
            super()._set_training(training)

    def train_step_single(self, batch: ModuleInputs, **fit_params: Any) -> dict:
        """One forward and backward pass."""
        self._set_training(True)
        terms = self._terms(batch)
        loss = self.get_loss(terms, None, training=True)
        found, named = self._of_all_processes(loss, terms.named())
        self._raise_unless_finite(found, named)
        self.history[-1, "batches", -1].update({f"train_{name}": value for name, value in named.items()})
        self._go_back(loss)
        return {"loss": found, "y_pred": terms}

    def validation_step(self, batch: ModuleInputs, **fit_params: Any) -> dict:
        """One forward pass, with full weights on all terms."""
        self._set_training(False)
        with torch.no_grad():
            terms = self._terms(batch)
            loss, _ = self._of_all_processes(self.get_loss(terms, None, training=False), {})
            return {"loss": loss, "y_pred": terms}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """The total of the loss terms."""
        return self.criterion_(y_pred, training)

    def _terms(self, batch: ModuleInputs) -> LossTerms:
        """The loss terms of a batch."""
        terms: LossTerms = self.module_(*batch.arguments)
        return terms

    def _of_all_processes(self, loss: torch.Tensor, named: dict[str, float]) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a batch and its terms, of which this process may have found a share."""
        return loss, named

    def _go_back(self, loss: torch.Tensor) -> None:
        """Compute the gradients of a batch."""
        loss.backward()

    def _raise_unless_finite(self, loss: torch.Tensor, named: dict[str, float]) -> None:
        if torch.isfinite(loss):
            return
        culprits = [name for name, value in named.items() if not np.isfinite(value)]
        raise ValueError(
            f"The loss stopped being finite in epoch {len(self.history)}: {', '.join(culprits) or 'total'}. {ADVICE}"
        )


class DataParallelNet(AccelerateMixin, LatentVariableNet):
    """A net that trains on its share of every batch, and takes the steps and decisions that all processes take.

    The losses that its history holds are those of whole batches.

    Parameters
    ----------
    module, *args, **kwargs
        Those of :class:`LatentVariableNet`. The module says whether it ``leaves_parameters_out`` of training steps.
    processes : ConnectedProcesses
    """

    def __init__(self, module, *args, processes, **kwargs):
        accelerator = processes.accelerator_for(module)
        # The mixin would unwrap the module before callbacks end training: the best weights of early stopping are those
        # of the wrapped one. Here ``module`` itself is trained, so nothing has to be unwrapped.
        super().__init__(module, *args, accelerator=accelerator, unwrap_after_train=False, **kwargs)
        self.processes = processes
        self._all_are_to_end = False

    def initialize_callbacks(self):
        """The callbacks, without the one that prints: the mixin sets where it should print to."""
        self.__dict__.pop("callbacks__print_log__sink", None)
        return super().initialize_callbacks()

    # The mixin's version infers and computes the loss by itself.
    train_step_single = LatentVariableNet.train_step_single

    def _terms(self, batch: ModuleInputs) -> LossTerms:
        _, places, weight = cast(Share, batch.share)
        with sharing_batch(self.module, BatchShare(batch.n_rows, places, weight, self.processes.mean_tensor)):
            return super()._terms(batch).of_share(weight)

    def _of_all_processes(self, loss: torch.Tensor, named: dict[str, float]) -> tuple[torch.Tensor, dict[str, float]]:
        values = [float(loss.detach()), float(self._interrupts.noted), *named.values()]
        total, noted, *terms = self.processes.mean(values)
        # If one process ended by itself, the others would wait for it.
        if noted:
            self._interrupts.noted = self._all_are_to_end = True
        return torch.tensor(total), dict(zip(named, terms, strict=True))

    def _go_back(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)

    def _is_to_end(self) -> bool:
        return self._all_are_to_end


def net_of(processes: Processes, *args: Any, **kwargs: Any) -> LatentVariableNet:
    """The net that trains in one process, or in several that share batches."""
    if isinstance(processes, ConnectedProcesses):
        return DataParallelNet(*args, processes=processes, **kwargs)
    return LatentVariableNet(*args, **kwargs)
