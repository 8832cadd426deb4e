"""CPU-seconds of an epoch against scvi-tools' SCVI, taken in turn on one thread, on the PBMC counts.

    python benchmarks/against_scvi.py [--environment DIRECTORY] [--blocks 3] [--epochs 2] [--seconds]

scvi-tools 1.4.2 and torch 2.13.0 are installed once, by pip, into a virtual environment of their own in DIRECTORY;
nothing of it enters the project's environment. A process there trains SCVI (nb, 10 latents, hidden layers of 128,
batches of 128), and takes turns with our estimators of the same widths: a few epochs of each, block by block.

With --seconds, also the CPU-seconds of whole fits to nine tenths of the cells, and the held-out log-likelihood of the
others, against what SCVI reaches after 100 epochs (../shared/data/README.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
import warnings
from pathlib import Path

import numpy as np
from common import print_table, set_threads, shared_data
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

from skdevae import DGDEmbedder, VAETransformer, VampVAE

REQUIREMENTS = ["scvi-tools==1.4.2", "torch==2.13.0"]
HELD_OUT = -634.8  # SCVI after 100 epochs, nats a cell
LAYERS = {"hidden_layer_sizes": (128,)}
MODELS = {
    "VampVAE": lambda **options: VampVAE(likelihood="nb", random_state=0, **options),
    "VAETransformer": lambda **options: VAETransformer(
        10, likelihood="nb", encoder_hidden_layer_sizes=(128,), random_state=0, **LAYERS, **options
    ),
    "DGDEmbedder": lambda **options: DGDEmbedder(10, likelihood="nb", random_state=0, **LAYERS, **options),
}

#: what the other process does: a line with a number of epochs comes in, and the CPU-seconds that they took go out
SCVI = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore")
import anndata, numpy as np, scipy.sparse as sp, scvi, torch
torch.set_num_threads(1)
logging.disable(logging.WARNING)
scvi.settings.seed = 0
table = anndata.AnnData(sp.csr_matrix(np.load(sys.argv[1])["X"].astype(np.float32)))
scvi.model.SCVI.setup_anndata(table)
model = scvi.model.SCVI(table, n_hidden=128, n_latent=10, n_layers=1, gene_likelihood="nb")
options = dict(train_size=1.0, batch_size=128, accelerator="cpu", enable_progress_bar=False, logger=False)
for line in sys.stdin:
    begin = time.process_time()
    model.train(max_epochs=int(line), **options)
    print("took", json.dumps(time.process_time() - begin), flush=True)
"""


class Rival:
    """SCVI in a process of its own."""

    def __init__(self, directory: Path):
        python = directory / "bin" / "python"
        if not python.exists():
            venv.create(directory, with_pip=True)
        if subprocess.run([python, "-c", "import scvi"], capture_output=True, check=False).returncode:
            subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS], check=True)
        arguments = [python, "-c", SCVI, str(shared_data("pbmc4k_2000.npz"))]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def seconds(self, n_epochs: int) -> float:
        """CPU-seconds of some epochs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(n_epochs, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("took"):
                return float(json.loads(line.removeprefix("took")))
        sys.exit("SCVI's process has ended.")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Clock:
    """A callback's class is asked for by skorch: it notes the CPU time at which every epoch ends."""

    def __new__(cls):
        from skorch.callbacks import Callback

        class _Clock(Callback):
            def on_train_begin(self, net, **kwargs):
                self.ends_ = [time.process_time()]

            def on_epoch_end(self, net, **kwargs):
                self.ends_.append(time.process_time())

        return _Clock()


def seconds_of_epochs(name: str, X: csr_array, n_epochs: int) -> tuple[float, float]:
    """CPU-seconds of one of our epochs, without the first, and of what a fit does beside its epochs."""
    clock = Clock()
    begin = time.process_time()
    MODELS[name](max_epochs=n_epochs + 1, callbacks=[clock]).fit(X)
    whole = time.process_time() - begin
    return float(np.diff(clock.ends_)[1:].mean()), whole - (clock.ends_[-1] - clock.ends_[0])


def held_out(X: csr_array, scvi_epoch: float) -> list[dict]:
    """Whole fits of VampVAE of several lengths, and their held-out log-likelihoods."""
    order = np.random.RandomState(0).permutation(X.shape[0])
    cut = int(0.9 * len(order))
    train, test = X[order[:cut]], X[order[cut:]]
    rows = []
    for n_epochs in (10, 20, 40):
        begin = time.process_time()
        model = MODELS["VampVAE"](max_epochs=n_epochs).fit(train)
        took = time.process_time() - begin
        score = model.score(test)
        # SCVI's epochs were timed on all cells, and its published figure is from nine tenths of them
        share = took / (100 * 0.9 * scvi_epoch)
        rows.append({"epochs": n_epochs, "CPU s": took, "held out": score, "SCVI": HELD_OUT, "of SCVI's 100": share})
    return rows


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "skdevae-scvi")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--seconds", action="store_true")
    arguments = parser.parse_args()
    set_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    X = csr_array(np.load(shared_data("pbmc4k_2000.npz"))["X"].astype(np.float32))
    rival = Rival(arguments.environment)
    rival.seconds(1)
    for name in arguments.models:  # what the first fit of a process imports is not a fit's own
        MODELS[name](max_epochs=1).fit(X[:300])
    times: dict[str, list[float]] = {name: [] for name in ["SCVI", *arguments.models]}
    beside: dict[str, list[float]] = {name: [] for name in times}
    for _ in range(arguments.blocks):
        times["SCVI"].append(rival.seconds(arguments.epochs) / arguments.epochs)
        for name in arguments.models:
            epoch, rest = seconds_of_epochs(name, X, arguments.epochs)
            times[name].append(epoch)
            beside[name].append(rest)
    rival.close()
    scvi_epoch = float(np.median(times["SCVI"]))
    print_table(
        [
            {
                "model": name,
                "CPU s an epoch": np.median(found),
                "of SCVI's": np.median(found) / scvi_epoch,
                "CPU s beside epochs": np.median(beside[name]) if beside[name] else np.nan,
            }
            for name, found in times.items()
        ]
    )
    if arguments.seconds:
        print_table(held_out(X, scvi_epoch))


if __name__ == "__main__":
    main()
