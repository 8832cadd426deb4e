"""Stopping: a rule that was to end training, and was not met while epochs were left, is named in a warning."""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from skorch.history import History

from .._warnings import warn_user
from ..training.settings import FitSettings


def warn_unless_met(settings: FitSettings, history: History, ran_out: bool) -> None:
    """Warn where the user has asked for a rule that ends training, and the epochs of a fit ran out before it did.

    ``early_stopping`` asks for one, and so does a ``tol`` other than the default. The default is no promise: many
    fits take all their epochs, over which the learning rate falls, and end where more of them would change little. Nor
    does anybody count on a rule that waits for longer than there are epochs.
    """
    n_epochs, patience = len(history), settings.n_iter_no_change
    if not ran_out or not settings.asks_for_stopping or patience >= n_epochs:
        return
    if settings.early_stopping:
        best = int(np.argmin(history[:, "valid_loss"])) + 1
        warn_user(
            f"early_stopping=True, but training went on to the last of its {n_epochs} epochs: there were no "
            f"n_iter_no_change={patience} epochs in a row without progress of the held-out loss. The best epoch, "
            f"{best}, is kept. Epochs before annealing or kl_warmup has ended do not count. Increase max_epochs, or "
            "decrease n_iter_no_change.",
            ConvergenceWarning,
        )
        return
    losses = np.array(history[-patience - 1 :, "train_loss"])
    largest = np.abs(np.diff(losses)).max() if len(losses) > 1 else np.nan
    warn_user(
        f"tol={settings.tol:g} was not reached: training went on to the last of its {n_epochs} epochs. In the last "
        f"n_iter_no_change={patience} of them the loss changed by up to {largest:.2g} nats per sample from one to the "
        "next. Epochs before annealing or kl_warmup has ended do not count. Increase max_epochs or tol.",
        ConvergenceWarning,
    )
