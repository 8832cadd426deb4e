"""Callbacks, in skorch's vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..nn.representations import Representations

#: nats per sample that two behaviours of a feature must differ by, at the start, for q(w) to take notice
_CLUSTER_TEMPERATURE = 0.3


class Annealing(Callback):
    """Deterministic annealing of the E-step: broad q(z) and undecided q(w) at first, exact ones from half-way on.

    With many features every q(z) is narrow from the first step, and samples would hardly move from where the starting
    axis has put them; and q(w) would settle before the curves are fitted. ``hottest`` is what the likelihood is divided
    by when q(z) starts.
    """

    def __init__(self, n_samples: float, hottest: float, n_epochs: int):
        self.n_samples = n_samples
        self.hottest = hottest
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net, **kwargs):
        remaining = max(0.0, 1 - (len(net.history) - 1) / self.n_epochs) if self.n_epochs else 0.0
        net.module.latent_temperature = self.hottest**remaining
        net.history.record("temperature", float(net.module.latent_temperature))
        net.module.cluster_temperature = cluster_temperature(remaining, self.n_samples)


def cluster_temperature(remaining: float, n_samples: float) -> float:
    """What the evidence of behaviours is divided by when a share of the annealing remains."""
    return max(1.0, remaining * _CLUSTER_TEMPERATURE * n_samples)


class KeptAxis(Callback):
    """Let no update of q(w) make every feature flat in the first epochs.

    Functions that a search has found need not be ones that the model can take. Until they are fitted, a flat curve may
    be better than any, and with all features flat there is no axis along which they could be fitted.
    """

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net, **kwargs):
        net.module.keeps_an_axis = len(net.history) <= self.n_epochs


class Judgement(Callback):
    """Judge the behaviours of features during training, twice or (``first`` being ``last``) once, and hold q(w) there.

    Before the last time no feature may be flat. The axis then rests on all of them, and has had time to settle.

    Parameters
    ----------
    judge : callable
        Judges all features. Its argument ``may_be_flat`` says whether they may be flat.
    first, last : int
        Epochs before which it is called.
    """

    def __init__(self, judge: Callable[..., None], first: int, last: int):
        self.judge = judge
        self.first = first
        self.last = last

    def on_epoch_begin(self, net, **kwargs):
        epoch = len(net.history) - 1
        if epoch in (self.first, self.last):
            self.judge(may_be_flat=epoch == self.last)
            net.module.assignment.hold_(True)


class DivergenceWarmUp(Callback):
    """KL annealing: beta and gamma grow linearly from 0 over the first share of the epochs (BasisDeVAE, section 5.3).

    Until they have, q(w) stays undecided: a behaviour that it gives up gets no more gradient, so it must not choose
    between curves that are hardly fitted.
    """

    def __init__(self, share: float, max_epochs: int):
        self.share = share
        self.max_epochs = max_epochs

    def _weight(self, epoch: int) -> float:
        n_epochs = self.share * self.max_epochs
        return 1.0 if epoch >= n_epochs else epoch / n_epochs

    def on_epoch_begin(self, net, **kwargs):
        weight = self._weight(len(net.history) - 1)
        net.module.divergence_weight = weight
        net.history.record("divergence_weight", float(weight))
        net.module.assignment.hold_(weight < 1 or net.module.is_judged)


class RepresentationSteps(Callback):
    """A step of Adam on the representations of all samples at the end of every epoch (DGD paper, algorithm 1).

    Over an epoch each sample's gradient is that of the one batch that it was in. The rate falls along a cosine, like
    that of the other parameters.

    Where processes share batches, gradients are averaged over processes. Those of a representation are in one process
    alone. So they are divided by the number of processes.
    """

    def __init__(
        self,
        representations: Representations,
        learning_rate: float,
        betas: tuple[float, float],
        max_epochs: int,
        n_processes: int,
    ):
        self.representations = representations
        self.learning_rate = learning_rate
        self.betas = betas
        self.max_epochs = max_epochs
        self.n_processes = n_processes

    def on_train_begin(self, net, **kwargs):
        parameters = self.representations.parameters()
        self.optimizer_ = torch.optim.Adam(parameters, lr=self.learning_rate, betas=self.betas)
        self.scheduler_ = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer_, lambda epoch: cosine_decay(epoch / self.max_epochs)
        )

    def on_epoch_begin(self, net, **kwargs):
        self.optimizer_.zero_grad()

    def on_epoch_end(self, net, **kwargs):
        if self.n_processes > 1:
            for parameter in self.representations.parameters():
                cast(torch.Tensor, parameter.grad).div_(self.n_processes)
        self.optimizer_.step()
        self.scheduler_.step()


def cosine_decay(progress: float) -> float:
    """Factor on a learning rate when a share ``progress`` of the training is over; a little is left at the end."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1))) + 1e-3


class MeanTerms(Callback):
    """Record the mean of each of some numbers that batches have recorded, by the batches' sizes, for every epoch.

    As skorch's ``PassthroughScoring`` does for one number. On small tables, reading the history once for each costs
    half as much as a gradient step.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names

    def on_epoch_end(self, net, **kwargs):
        epoch = net.history[-1]
        batches = [batch for batch in epoch["batches"] if "train_batch_size" in batch]  # others are for validation
        sizes = [batch["train_batch_size"] for batch in batches]
        for name in self.names:
            epoch[name] = float(np.average([batch[name] for batch in batches], weights=sizes))


class Convergence(Callback):
    """Stop once the training loss has moved by less than ``tol`` nats a sample in each of ``patience`` epochs.

    Epochs before ``start``, while temperatures or divergence weights still change, do not count.
    """

    def __init__(self, tol: float, patience: int, start: int):
        self.tol = tol
        self.patience = patience
        self.start = start

    def on_train_begin(self, net, **kwargs):
        self.has_stopped_, self.ended_ = False, ""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) <= self.start + self.patience:
            return
        losses = np.array(net.history[-self.patience - 1 :, "train_loss"])
        if np.all(np.abs(np.diff(losses)) < self.tol):
            self.has_stopped_, self.ended_ = True, f"converged after {len(net.history)} epochs"
            raise KeyboardInterrupt  # how skorch's callbacks end a fit


class PatientEarlyStopping(EarlyStopping):
    """skorch's early stopping on the validation loss, blind to the first ``start`` epochs.

    Until then temperatures or divergence weights still change, and the best loss so far may be that of a model that the
    schedule has not finished.
    """

    def __init__(self, start, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net, **kwargs)
        self.has_stopped_, self.ended_ = False, ""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) <= self.start:
            return
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt:  # how it ends a fit
            self.has_stopped_, self.ended_ = True, f"stopped early after {len(net.history)} epochs"
            raise


class PatientPlateau(Callback):
    """Halve the learning rate whenever ``patience`` epochs have passed without progress, blind to the first ``start``.

    torch's ReduceLROnPlateau, with its threshold in nats: the relative one of its default turns around where losses are
    negative.
    """

    def __init__(self, start: int, monitor: str, patience: int, tol: float):
        self.start = start
        self.monitor = monitor
        self.patience = patience
        self.tol = tol

    def on_train_begin(self, net, **kwargs):
        # torch counts the epochs that are let pass before the one that acts.
        self.scheduler_ = ReduceLROnPlateau(
            net.optimizer_, factor=0.5, patience=self.patience - 1, threshold=self.tol, threshold_mode="abs"
        )

    def on_epoch_end(self, net, **kwargs):
        net.history.record("event_lr", net.optimizer_.param_groups[0]["lr"])
        if len(net.history) > self.start:
            self.scheduler_.step(net.history[-1, self.monitor])
