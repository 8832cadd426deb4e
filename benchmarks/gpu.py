"""A GPU against the CPU: the tests of devices, whether results agree, and what both take.

    python benchmarks/gpu.py [--device cuda] [--threads 8] [--short] [--sections tests agreement times]

It takes eight minutes at most. What there is no time for is left out, and named. Without a GPU it says so and ends with
status 0. ``--device cpu --short`` runs all of it on small tables without one, to try the script itself.

tests      tests/device/.
agreement  Every estimator is fitted on both devices, to small tables of every likelihood that it takes: dense, sparse,
           with gaps, with size factors, covariates and weights. "same weights" is the largest difference between
           answers of one fitted model on both devices, relative to the largest answer: they are computed in double
           precision. "first loss" and "score" are relative differences of the two fits: of the loss after the first
           epoch, and of the fitted model. Exact inference trains in double precision, the others in single precision.
           "labels" is the share of equal labels.
times      Seconds on both devices, synchronised, after a warm-up. An epoch is the fastest after the first. Most of what
           a fit of an embedding takes, with so few epochs, comes before and after them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import print_table, set_threads
from scipy.sparse import csr_array
from sklearn.base import is_clusterer
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_cell_clusters, make_progression_counts
from skdevae.table.column_summary import summarize_columns
from skdevae.training.batches import expected_statistics
from skdevae.training.exact import grid_of

TESTS = Path(__file__).resolve().parents[1] / "tests" / "device"
#: seconds after which a section leaves out what has not begun, and after which all of them do
BUDGETS, TOTAL = {"tests": 130.0, "agreement": 120.0, "times": 220.0}, 450.0
#: epochs of the fits of embeddings
N_EPOCHS = 3
#: largest differences that pass, relative: of answers, of the first epoch's loss, of the score of a whole fit
SAME_WEIGHTS, FIRST_LOSS, SCORE = 1e-6, 1e-4, 2e-2


def say(text: str) -> None:
    print(text, flush=True)


def synchronize(device: str) -> None:
    """Wait until a device has done what it was asked for."""
    torch.get_device_module(device).synchronize()


class Clock:
    """Whether there is time for more."""

    def __init__(self, left: float):
        self._end = time.perf_counter() + left

    @property
    def left(self) -> float:
        return self._end - time.perf_counter()

    def has_time(self, what: str) -> bool:
        if self.left < 0:
            say(f"left out, time is up: {what}")
        return self.left > 0


# ---- agreement ------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    estimator: Any
    X: Any
    facts: dict[str, np.ndarray]


def small_tables(n_rows: int, n_features: int) -> dict[str, Any]:
    """Small tables in which all columns follow one latent, by the likelihood that suits them."""
    random = np.random.default_rng(0)
    latent, loadings = random.standard_normal((n_rows, 1)), random.uniform(0.5, 1.5, n_features)
    signal = latent * loadings * np.resize([1, -1], n_features)
    measurements = signal + 0.5 * random.standard_normal(signal.shape)
    gaps = np.where(random.random(signal.shape) < 0.1, np.nan, measurements)
    counts = random.poisson(np.exp(0.5 + 0.5 * signal)).astype(float)
    return {
        "gaussian": measurements,
        "nb": csr_array(counts),
        "gaussian, gaps": gaps,
        "bernoulli": (measurements > 0).astype(float),
        "zinb": csr_array(counts),
        "poisson": csr_array(counts),
        "poisson, dense": counts,
    }


def cases(short: bool) -> Iterator[Case]:
    n_rows, epochs = (60, 3) if short else (200, 10)
    tables = small_tables(n_rows, 10)
    random = np.random.default_rng(1)
    batch, weights = random.choice(["a", "b"], n_rows), random.integers(1, 4, n_rows).astype(float)
    embedding = {"max_epochs": epochs, "random_state": 0, "n_importance_samples": 64}
    families: dict[str, Callable[..., Any]] = {
        "BasisDeVAEClusterer": lambda **given: BasisDeVAEClusterer(max_epochs=epochs, random_state=0, **given),
        "BasisDeVAEClusterer, encoder": lambda **given: BasisDeVAEClusterer(
            inference="amortized", max_epochs=epochs, random_state=0, **given
        ),
        "BasisVAEClusterer": lambda **given: BasisVAEClusterer(4, max_epochs=epochs, random_state=0, **given),
        "DeVAETransformer": lambda **given: DeVAETransformer(max_epochs=epochs, random_state=0, **given),
        "DeVAETransformer(2)": lambda **given: DeVAETransformer(2, max_epochs=epochs, random_state=0, **given),
        "VAETransformer": lambda **given: VAETransformer(2, **embedding, **given),
        "VampVAE": lambda **given: VampVAE(2, **embedding, **given),
        "DGDEmbedder": lambda **given: DGDEmbedder(2, n_clusters=3, n_init=1, **embedding, **given),
    }
    counted, measured = tables["nb"], tables["gaussian"]
    kinds: dict[str, tuple[Any, dict[str, np.ndarray], dict[str, Any]]] = {
        name: (X, {}, {"likelihood": name.split(",")[0]}) for name, X in tables.items()
    }
    kinds["nb, sizes"] = counted, {}, {"likelihood": "nb", "size_factors": "sum"}
    kinds["nb, covariates"] = counted, {"covariates": batch}, {"likelihood": "nb"}
    kinds["gaussian, weights"] = measured, {"sample_weight": weights}, {}
    kinds["gaussian, covariates"] = measured, {"covariates": batch}, {}
    for kind, (X, facts, given) in kinds.items():
        for family, make in families.items():
            yield Case(f"{family}, {kind}", make(**given), X, facts)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest entry; infinite where one is no number and the other is."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return np.inf
    return float(np.nanmax(np.abs(found - expected)) / np.nanmax(np.abs(expected)))


def answers(model: Any, X: Any, of_rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    probabilities = "predict_features_proba" if hasattr(model, "predict_features_proba") else "predict_proba"
    methods = [name for name in ("transform", "score_samples", probabilities) if hasattr(model, name)]
    return {name: np.asarray(getattr(model, name)(X, **of_rows)) for name in methods}


def labels(model: Any, X: Any, of_rows: dict[str, np.ndarray]) -> np.ndarray | None:
    """Labels of features or samples, where an estimator has such. Of others, ``predict`` gives expected values."""
    if hasattr(model, "labels_"):
        return model.labels_
    return model.predict(X, **of_rows) if is_clusterer(model) else None


def compare(case: Case, device: str) -> dict[str, Any]:
    """One row of the table: one model on both devices, and two fits."""
    of_rows = {name: value for name, value in case.facts.items() if name != "sample_weight"}
    fits = [deepcopy(case.estimator).set_params(device=on).fit(case.X, **case.facts) for on in ("cpu", device)]
    on_cpu = answers(fits[0], case.X, of_rows)
    moved = deepcopy(fits[0])
    moved.module_ = moved.module_.to(device)
    on_device = answers(moved, case.X, of_rows)
    same = {name: difference(on_device[name], on_cpu[name]) for name in on_cpu}
    scores = [float(fit.score_samples(case.X, **of_rows).mean()) for fit in fits]
    losses = [fit.history_[0]["train_loss"] for fit in fits]
    found = [labels(fit, case.X, of_rows) for fit in fits]
    relative = [abs(pair[1] - pair[0]) / abs(pair[0]) for pair in (losses, scores)]
    agree = same and max(same.values()) <= SAME_WEIGHTS and relative[0] <= FIRST_LOSS and relative[1] <= SCORE
    return {
        "case": case.name,
        "same weights": max(same.values()),
        "which": max(same, key=lambda name: same[name]),
        "first loss": relative[0],
        "score": relative[1],
        "labels": "-" if found[0] is None else f"{np.mean(found[0] == found[1]):.2f}",
        "passes": "yes" if agree else "NO",
    }


def agreement(device: str, short: bool, clock: Clock) -> None:
    say(f"tolerances: same weights {SAME_WEIGHTS:g}, first loss {FIRST_LOSS:g}, score {SCORE:g}")
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for case in cases(short):
        if not clock.has_time(case.name):
            continue
        try:
            rows.append(compare(case, device))
        except Exception:
            failures.append(case.name)
            say(f"{case.name}:\n{traceback.format_exc()}")
            continue
        say(f"{case.name}: {rows[-1]['passes']}")
    print_table([{name: f"{v:.1e}" if isinstance(v, float) else v for name, v in row.items()} for row in rows])
    passed = sum(row["passes"] == "yes" for row in rows)
    worst = {name: max((row[name] for row in rows), default=np.nan) for name in ("same weights", "first loss", "score")}
    say(f"{passed} of {len(rows) + len(failures)} cases pass; largest differences {worst}")
    failures += [row["case"] for row in rows if row["passes"] != "yes"]
    if failures:
        raise AssertionError(f"not the same on both devices: {'; '.join(failures)}")


# ---- times ----------------------------------------------------------------------------------------------------------


class EpochsEndedError(Exception):
    """As many epochs as were asked for have ended."""


class EpochSeconds(Callback):
    """Notes the seconds of every epoch, and ends training after so many of them, where they are given."""

    def __init__(self, device: str, most: int | None = None):
        self.device, self.most = device, most

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        synchronize(self.device)
        self.began = time.perf_counter()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        synchronize(self.device)
        self.seconds.append(time.perf_counter() - self.began)
        if len(self.seconds) == self.most:
            raise EpochsEndedError


class Times:
    """Seconds of each step on each device, and the peak of the GPU's memory."""

    def __init__(self, device: str):
        self._device = device
        self.rows: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def peak(self, what: str, device: str) -> Iterator[dict[str, float]]:
        """The row of a step; memory is that of the GPU while the context lasts."""
        row = self.rows.setdefault(what, {})
        gc.collect()
        memory = torch.get_device_module(device) if device != "cpu" else None
        if memory is not None:
            memory.empty_cache()
            memory.reset_peak_memory_stats()
        yield row
        if memory is not None:
            row["GiB"] = memory.max_memory_allocated() / 2**30
        say(f"  {what}, {device}: {row[device]:.3f} s")

    def take(self, what: str, device: str, call: Callable[[], Any]) -> Any:
        """What a call returns; its seconds are noted."""
        with self.peak(what, device) as row:
            synchronize(device)
            begin = time.perf_counter()
            result = call()
            synchronize(device)
            row[device] = time.perf_counter() - begin
        return result

    def repeated(self, what: str, device: str, call: Callable[[], Any], repeats: int = 3) -> None:
        """The fastest of several calls, after one that is not counted."""
        call()
        for _ in range(repeats):
            before = self.rows.get(what, {}).get(device, np.inf)
            self.take(what, device, call)
            self.rows[what][device] = min(before, self.rows[what][device])

    def print(self) -> None:
        of_both = []
        for what, row in self.rows.items():
            cpu, other = (row.get(name, np.nan) for name in ("cpu", self._device))
            peak = row.get("GiB", np.nan)
            seconds = {"CPU s": cpu, f"{self._device} s": other, "ratio": cpu / other}
            of_both.append({"what": what, **seconds, "peak GPU memory, GiB": peak})
        print_table(of_both)


def exact_steps(times: Times, model: BasisDeVAEClusterer, X: csr_array, device: str) -> None:
    """An E-step and a gradient step of the M-step, with the curves of a fitted model."""
    like = torch.zeros((), device=device)
    source = model._reader_.read(X).source(like)
    module = deepcopy(model.module_).to(like).requires_grad_()
    grid, summary = grid_of(source, model._settings()), summarize_columns(source, counts=True)
    with torch.no_grad():
        times.repeated("exact: E-step", device, lambda: expected_statistics(module, source, grid))
        statistics = expected_statistics(module, source, grid)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        module(statistics, summary, grid).total.backward()
        optimizer.step()

    times.repeated("exact: gradient step", device, step)


def exact(times: Times, device: str, short: bool) -> None:
    shape = (300, 60) if short else (8509, 5216)
    X = make_progression_counts(*shape, random_state=0).data
    name = f"exact, nb, {shape[0]} x {shape[1]}"
    model = BasisDeVAEClusterer(likelihood="nb", random_state=0, max_epochs=3 if short else None, device=device)
    times.take(f"{name}: whole fit", device, lambda: model.fit(X))
    say(f"  {model.n_iter_} passes, bound {model.lower_bound_:.4f}")
    times.take(f"{name}: transform", device, lambda: model.transform(X))
    times.take(f"{name}: score", device, lambda: model.score(X))
    exact_steps(times, model, X, device)


EMBEDDINGS: dict[str, Callable[..., Any]] = {
    "VampVAE": lambda **given: VampVAE(10, likelihood="nb", random_state=0, **given),
    "VAETransformer": lambda **given: VAETransformer(
        10, likelihood="nb", hidden_layer_sizes=(128,), encoder_hidden_layer_sizes=(128,), random_state=0, **given
    ),
    "DGDEmbedder": lambda **given: DGDEmbedder(10, likelihood="nb", hidden_layer_sizes=(128,), random_state=0, **given),
}


def epochs(times: Times, name: str, X: csr_array, device: str) -> None:
    """The fastest epoch of a fit but for its first, which ends after a few."""
    timer = EpochSeconds(device, N_EPOCHS)
    model = EMBEDDINGS[name](max_epochs=N_EPOCHS, callbacks=[timer], device=device)
    with times.peak(f"{name}, {X.shape[0]} x {X.shape[1]}: epoch", device) as row:
        with contextlib.suppress(EpochsEndedError):
            model.fit(X)
        row[device] = min(timer.seconds[1:])


def whole_fit(times: Times, name: str, X: csr_array, device: str) -> None:
    """A fit of a few epochs, most of which is what comes before and after them, and what it answers."""
    model = EMBEDDINGS[name](max_epochs=N_EPOCHS, device=device)
    times.take(f"{name}, {X.shape[0]} x {X.shape[1]}: fit of {N_EPOCHS} epochs", device, lambda: model.fit(X))
    few = X[:20]
    times.take(f"{name}: transform of {few.shape[0]} rows", device, lambda: model.transform(few))
    times.take(f"{name}: score of {few.shape[0]} rows", device, lambda: model.score(few))


def times(device: str, short: bool, clock: Clock) -> None:
    both = Times(device)
    tables = {}
    for n_rows in (150, 200) if short else (4271, 50_000):
        begin = time.perf_counter()
        tables[n_rows] = csr_array(make_cell_clusters(n_rows, 60 if short else 2000, random_state=0).data)
        say(f"  {n_rows} rows drawn in {time.perf_counter() - begin:.1f} s")
    small, large = tables.values()
    steps: dict[str, Callable[[str], None]] = {"exact": lambda on: exact(both, on, short)}
    for size, X in {"small": small, "large": large}.items():
        steps |= {f"epochs of {name}, {size}": partial(epochs, both, name, X) for name in EMBEDDINGS}
    steps |= {f"whole fit of {name}": partial(whole_fit, both, name, small) for name in EMBEDDINGS}
    warm_up(device, small[:150])
    failures = []
    try:
        for step, run in steps.items():
            for on in dict.fromkeys([device, "cpu"]):
                if not clock.has_time(f"{step}, {on}"):
                    continue
                try:
                    run(on)
                except Exception:
                    failures.append(f"{step}, {on}")
                    say(f"{step}, {on}:\n{traceback.format_exc()}")
    finally:
        both.print()
    if failures:
        raise AssertionError(f"failed: {'; '.join(failures)}")


def warm_up(device: str, X: csr_array) -> None:
    """Let a device load what it computes with."""
    for make in EMBEDDINGS.values():
        make(max_epochs=2, device=device).fit(X)
    BasisDeVAEClusterer(likelihood="nb", max_epochs=2, device=device).fit(X)


# ---- all sections ---------------------------------------------------------------------------------------------------


def tests(device: str, short: bool, clock: Clock) -> None:
    # Warnings of versions of torch other than ours are no failures here.
    options = [
        "-q",
        "--tb=short",
        "-n",
        "4",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",  # which warns of processes beside it
        "-W",
        "ignore::DeprecationWarning",
    ]
    command = [sys.executable, "-m", "pytest", *options, str(TESTS)]
    run = subprocess.run(
        command, cwd=TESTS.parents[1], timeout=max(1.0, clock.left), stdout=subprocess.PIPE, text=True, check=False
    )
    say(run.stdout if run.returncode else run.stdout.splitlines()[-1])
    run.check_returncode()


def describe(device: str) -> None:
    say(f"Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}")
    if device != "cpu":
        module = torch.get_device_module(device)
        memory = module.get_device_properties(0).total_memory / 2**30
        say(f"{module.get_device_name(0)}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    say(f"float32 products: {torch.get_float32_matmul_precision()}")


SECTIONS = {"tests": tests, "agreement": agreement, "times": times}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        say("skipped: no GPU here")
        return 0
    set_threads(arguments.threads)
    warnings.simplefilter("ignore")
    describe(arguments.device)
    failed, total = [], Clock(TOTAL)
    for name in arguments.sections:
        begin = time.perf_counter()
        say(f"\n== {name} ==")
        try:
            SECTIONS[name](arguments.device, arguments.short, Clock(min(total.left, BUDGETS[name])))
        except Exception:
            failed.append(name)
            say(traceback.format_exc())
        say(f"{name}: {time.perf_counter() - begin:.0f} s")
    say(f"\nfailed sections: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
