"""Training runs: one module, from its start to its history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from skorch.history import History
from torch import nn

from ..nn.models import GenerativeModel
from ..nn.representations import RepresentationLearning, Representations
from .callbacks import (
    Convergence,
    MeanTerms,
    PatientEarlyStopping,
    PatientPlateau,
    RepresentationSteps,
    cosine_decay,
)
from .data_parallel import ALONE, Processes
from .interrupts import interrupts_of_this_fit
from .net import ADVICE, net_of
from .progress import EpochReports, progress_of_this_fit

#: names of the loss terms that the history records
_TERMS = ("reconstruction", "latent", "clusters", "parameters")
#: names of the callbacks that every skorch net has
_NAMES_OF_SKORCH = {"epoch_timer", "train_loss", "valid_loss", "print_log"}
#: learning rate of q(w) relative to the rest: its logits have far to go, and one feature's are few gradients' business
_ASSIGNMENT_RATE = 10
#: most epochs without progress after which ``decay="plateau"`` halves the learning rate (VAMP paper, section 2)
_PLATEAU_EPOCHS = 10


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast to train.

    ``annealed_epochs`` is the number of epochs over which temperatures or divergence weights change: neither
    convergence nor early stopping nor a plateau is judged before. ``decay`` of the learning rate is ``"cosine"`` or
    ``"plateau"``.
    """

    max_epochs: int
    steps_per_epoch: int
    learning_rate: float
    betas: tuple[float, float]
    annealed_epochs: int
    tol: float
    patience: int
    early_stopping: bool
    decay: str


@dataclass(frozen=True)
class TrainingResult:
    """How training went; the module itself is trained in place.

    ``interrupted`` says whether an interrupt has ended the fit, and ``ran_out`` whether the epochs were over before the
    rule that ends training was met.
    """

    history: History
    interrupted: bool
    ran_out: bool


@dataclass(frozen=True)
class Fit:
    """The result of one start: the trained module, how it got there, and its bound in nats per sample (model units).

    ``ran_out`` is that of :class:`TrainingResult`. ``has_axis`` is false where no sample's latent is known better than
    before it was seen.
    """

    module: GenerativeModel
    history: History
    lower_bound: float
    interrupted: bool
    ran_out: bool = False
    has_axis: bool = True

    def __post_init__(self):
        if not math.isfinite(self.lower_bound):
            raise ValueError(f"Training ended with a model whose bound is not finite. {ADVICE}")


def train(
    module: nn.Module,
    batches: Iterable,
    batches_valid: Iterable | None,
    options: TrainingOptions,
    schedules: Sequence[Callback],
    callbacks: Sequence[Callback],
    processes: Processes = ALONE,
) -> TrainingResult:
    """Train with Adam and a decaying learning rate; ``schedules`` drive annealing, KL warm-up and the like."""
    rates = {"assignment.*": _ASSIGNMENT_RATE * options.learning_rate}
    return _run(module, batches, batches_valid, options, rates, schedules, callbacks, processes)


def train_representations(
    module: RepresentationLearning,
    representations: Representations,
    batches: Iterable,
    options: TrainingOptions,
    latent_learning_rate: float,
    mixture_learning_rate: float,
    callbacks: Sequence[Callback],
    processes: Processes = ALONE,
) -> TrainingResult:
    """Train a decoder and a mixture batch by batch, and with them, once an epoch, representations.

    These are the representations of the samples that belong to this process.
    """
    steps = RepresentationSteps(
        representations, latent_learning_rate, options.betas, options.max_epochs, processes.size
    )
    rates = {"model.mixture.*": mixture_learning_rate}
    return _run(module, batches, None, options, rates, [steps], callbacks, processes)


def _run(
    module: nn.Module,
    batches: Iterable,
    batches_valid: Iterable | None,
    options: TrainingOptions,
    rates: dict[str, float],
    schedules: Sequence[Callback],
    callbacks: Sequence[Callback],
    processes: Processes,
) -> TrainingResult:
    """``rates`` are learning rates, by pattern of parameters' names, other than that of the rest."""
    ours = [(f"_skdevae_schedule_{position}", schedule) for position, schedule in enumerate(schedules)]
    stopping = _stopping(options)
    ours += _callbacks(options, stopping)
    net = net_of(
        processes,
        module,
        batches_train=batches,
        batches_valid=batches_valid,
        optimizer=torch.optim.Adam,
        optimizer__betas=options.betas,
        optimizer__fused=True,
        optimizer__param_groups=[(pattern, {"lr": rate}) for pattern, rate in rates.items()],
        lr=options.learning_rate,
        max_epochs=options.max_epochs,
        device=None,
        callbacks=[*ours, *_users(callbacks, {name for name, _ in ours} | _NAMES_OF_SKORCH)],
        callbacks__print_log=None,
        verbose=0,
    )
    net.fit(None)
    interrupts = interrupts_of_this_fit()
    interrupts.raise_if_abandoned()  # skorch has caught it
    processes.copy_from_the_first_([*module.parameters(), *module.buffers()])
    raise_unless_finite(module)
    history = net.history
    while len(history) and "train_loss" not in history[-1]:
        history.pop()  # the epoch in which an interruption came
    interrupted = processes.any(interrupts.noted)
    ran_out = len(history) >= options.max_epochs and not stopping.has_stopped_ and not interrupted
    return TrainingResult(history, interrupted, ran_out)


def raise_unless_finite(module: nn.Module) -> None:
    """Raise where a trained module has weights that are no finite numbers: no loss is computed after the last step."""
    culprits = [name for name, weights in module.named_parameters() if not torch.isfinite(weights).all()]
    if culprits:
        raise ValueError(f"Training ended with weights that are not finite ({culprits[0]}). {ADVICE}")


def _callbacks(options: TrainingOptions, stopping: Convergence | PatientEarlyStopping) -> list[tuple[str, Callback]]:
    chosen: list[tuple[str, Callback]] = [
        ("_skdevae_terms", MeanTerms([f"train_{term}" for term in _TERMS])),
        ("_skdevae_learning_rate", _decay(options)),
    ]
    progress = progress_of_this_fit()
    if progress.is_watched:
        # Before what ends training: the last epoch counts.
        chosen.append(("_skdevae_progress", EpochReports(progress, options.max_epochs, stopping)))
    return [*chosen, ("_skdevae_stopping", stopping)]


def _stopping(options: TrainingOptions) -> Convergence | PatientEarlyStopping:
    """The rule that ends training before its last epoch."""
    if not options.early_stopping:
        return Convergence(options.tol, options.patience, options.annealed_epochs)
    return PatientEarlyStopping(
        options.annealed_epochs,
        monitor="valid_loss",
        patience=options.patience,
        threshold=options.tol,
        threshold_mode="abs",  # the default, "rel", turns around where the loss is negative
        load_best=True,
        sink=lambda *_: None,
    )


def _decay(options: TrainingOptions) -> Callback:
    if options.decay == "plateau":
        monitor = "valid_loss" if options.early_stopping else "train_loss"
        # Before training is ended for the same reason.
        patience = max(1, min(_PLATEAU_EPOCHS, options.patience // 2))
        return PatientPlateau(options.annealed_epochs, monitor, patience, options.tol)
    n_steps = options.max_epochs * options.steps_per_epoch
    return LRScheduler(
        torch.optim.lr_scheduler.LambdaLR,
        lr_lambda=lambda step: cosine_decay(step / n_steps),
        step_every="batch",
    )


def _users(callbacks: Sequence[Any], taken: set[str]) -> list[tuple[str, Any]]:
    """The user's callbacks under their names, or under numbers; names that are ``taken`` are not theirs to give."""
    named: dict[str, Any] = {}
    for position, item in enumerate(callbacks):
        is_pair = isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str)
        name, callback = item if is_pair else (f"user_{position}", item)
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks[{position}] is {item!r}: give a callback of skorch, or a pair of a name and a callback."
            )
        if name in named or name in taken:
            whose = "two callbacks have it" if name in named else "a callback that every fit has bears it"
            raise ValueError(f"callbacks[{position}] is named {name!r}, but {whose}. Choose another name.")
        named[name] = callback
    return list(named.items())
