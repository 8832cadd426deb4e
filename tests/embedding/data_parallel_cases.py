"""Fits that processes share, and what each process finds: a program for ``torchrun``, and what its tests read of it.

``torchrun --standalone --nproc-per-node 2 data_parallel_cases.py FOLDER CASE ...`` fits the named cases. It leaves
``FOLDER/found_0.pickle`` and the same of process 1. Its last fit fails in process 1, on purpose.
"""

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
from skorch.callbacks import Callback

from skdevae import DGDEmbedder, VAETransformer, VampVAE
from skdevae.training.interrupts import FitInterrupted

#: processes that share the fits
N_PROCESSES = 2
#: what the callback says that fails in one of them
REASON = "this callback fails in process 1"
#: number of this process
RANK = int(os.environ.get("RANK", 0))


def counts(n_rows, seed=0):
    """Counts (n_rows, 12) of four groups of samples of different depths."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.full(12, 0.5), 4)[generator.integers(4, size=n_rows)]
    means = 100 * np.exp(generator.normal(0, 0.4, (n_rows, 1))) * shares
    return generator.negative_binomial(4, 4 / (4 + means)).astype(np.float64)


def measurements(n_rows):
    """Logs of counts, some of them missing."""
    table = np.log1p(counts(n_rows))
    table[np.random.default_rng(1).random(table.shape) < 0.05] = np.nan
    return table


def network(family, **parameters):
    """A small estimator that is trained for a few epochs, each process with a batch of 16."""
    settings = {"n_components": 2, "max_epochs": 4, "batch_size": 16, "hidden_layer_sizes": (8,), "random_state": 0}
    if family is DGDEmbedder:
        settings |= {"n_clusters": 3, "n_init": 1, "n_importance_samples": 64}
    else:
        settings["encoder_hidden_layer_sizes"] = (8,)
    return family(**{**settings, **parameters}, data_parallel=True)


#: name -> estimator and number of rows. 81 rows end with a batch of 17 rows, whose shares differ, and 65 with a batch
#: of one row. Of 5 rows in batches of two, both often belong to one process.
CASES: dict = {
    "vamp": (network(VampVAE, likelihood="nb"), 81),
    "vamp in blocks": (network(VampVAE, likelihood="poisson", n_pseudo_inputs=150), 170),
    "mixture, last batch of one row": (network(VampVAE, likelihood="zinb", prior="mixture"), 65),
    "stored": (network(VampVAE, likelihood="nb"), 90),
    "best epoch of early stopping": (
        network(VAETransformer, hidden_layer_sizes=(), early_stopping=True, n_iter_no_change=2, tol=10),
        75,
    ),
    "plain autoencoder, plateau": (
        network(VAETransformer, variational=False, learning_rate_decay="plateau", n_iter_no_change=1), 60
    ),
    "batch normalisation, dropout": (network(VAETransformer, normalization="batch", dropout=0.2, n_init=2), 65),
    "dgd": (network(DGDEmbedder, likelihood="nb"), 81),
    "dgd variational, weighted": (network(DGDEmbedder, representation="variational"), 70),
    "dgd, more batches than rows of a process": (network(DGDEmbedder, n_clusters=1, batch_size=1), 5),
    "no random state": (network(DGDEmbedder, likelihood="nb", random_state=None), 40),
}  # fmt: skip
#: cases in which nothing but the two processes can be compared
RANDOM = {"no random state"}


def table_of(name, folder):
    """The table of a case, and facts about its rows."""
    model, n_rows = CASES[name]
    table = measurements(n_rows) if model.likelihood == "gaussian" else counts(n_rows)
    if name == "stored":
        return h5py.File(Path(folder) / "table.h5", "r")["X"], {}
    weights = np.random.default_rng(2).integers(1, 4, n_rows) if name.endswith("weighted") else None
    return table, {"sample_weight": weights}


def answers(model, name):
    """What a fitted estimator holds and says, as plain arrays."""
    held_out = (measurements if model.likelihood == "gaussian" else counts)(20)
    terms = ("train_loss", "train_reconstruction", "train_latent", "train_parameters", "valid_loss")
    return {
        "weights": {key: values.numpy() for key, values in model.module_.state_dict().items()},
        "curves": np.array([[epoch[term] for term in terms if term in epoch] for epoch in model.history_]),
        "transform": model.transform(held_out),
        "scores": model.score_samples(held_out) if getattr(model, "variational", True) else np.zeros(1),
        "embedding": getattr(model, "embedding_", np.zeros(1)),
        "labels": getattr(model, "labels_", np.zeros(1)),
    }


class InOneProcess(Callback):
    """Does something at the end of the third epoch, in process 1 alone."""

    def __init__(self, act):
        self.act = act

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3 and RANK == 1:
            self.act()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def fail():
    raise RuntimeError(REASON)


def message_of(fit):
    """What a ValueError says that a fit raises in every process."""
    try:
        fit()
    except ValueError as error:
        return str(error)
    return None


def main(folder, names):
    warnings.simplefilter("error", FutureWarning)
    found = {}
    for name in names:
        model = CASES[name][0]
        table, facts = table_of(name, folder)
        model.fit(table, **facts)
        again = pickle.loads(pickle.dumps(model))
        found[name] = answers(again, name)
    table = counts(60)
    try:
        network(VampVAE, likelihood="nb", callbacks=[InOneProcess(interrupt)]).fit(table)
    except FitInterrupted as interruption:
        found["interrupted"] = (interruption.estimator.n_iter_, str(interruption))
    found["not finite"] = message_of(lambda: network(VAETransformer, learning_rate=1e30).fit(measurements(40)))
    found["other tables"] = message_of(lambda: network(VampVAE, likelihood="nb").fit(counts(60 + RANK)))
    (Path(folder) / f"found_{RANK}.pickle").write_bytes(pickle.dumps(found))
    network(DGDEmbedder, likelihood="nb", callbacks=[InOneProcess(fail)]).fit(table)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
