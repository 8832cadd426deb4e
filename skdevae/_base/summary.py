"""Summary: a fitted model on one page of text, from what the fit has kept and without a look at any table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from .._version import __version__
from ..table.columns import Columns
from ..table.covariates import CategoricalCovariate
from ..table.outliers import Outliers
from ..table.stored import row_blocks
from ..table.validation import first_columns
from .own_settings import UnderOwnSettings

#: rows of a table that are looked at together
_ROWS = 4096
#: characters in a line
_WIDTH = 88
#: characters of the name of a fact
_NAMES = 18
#: columns, covariates or clusters that are listed one by one
_LISTED = 20
#: least probability of the cluster of a column that is counted as sure
_SURE = 0.8


class Summary(str):
    """Text that a console shows as it is, and not between quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def report_of_table(
    X: Any, columns: Columns, outliers: Outliers, weights: np.ndarray, held_out: np.ndarray | None
) -> dict[str, Any]:
    """What a summary says of a training table (N, D), whose rows have weights (N,): plain values.

    ``held_out`` (N,) says which rows early stopping holds out.
    """
    used = weights > 0
    missing = None  # a table on disk is not read once more for this
    if sp.issparse(X):
        missing = 0.0
    elif isinstance(X, np.ndarray):
        n_missing = sum(int(np.isnan(columns.of(block))[used[rows]].sum()) for rows, block in row_blocks(X, _ROWS))
        missing = n_missing / max(1, used.sum() * columns.of(X[:1]).size)
    return {
        "n_rows": int(used.sum()),
        "total_weight": float(weights.sum()),
        "n_held_out": 0 if held_out is None else int((held_out & used).sum()),
        "n_rows_set_aside": len(outliers.rows),
        "n_entries_set_aside": int(outliers.entries),
        "missing": missing,
    }


def report_of_training(history: Any, patience: int, tol: float, *, by_validation: bool) -> dict[str, Any]:
    """Whether the loss had settled when a training ended: plain values.

    ``patience`` epochs without a change of ``tol`` nats are asked for, or of held-out rows without a new best loss.
    """
    settled, by_validation = False, bool(by_validation)
    if len(history) > patience:
        loss = np.array([epoch["valid_loss" if by_validation else "train_loss"] for epoch in history])
        if by_validation:
            settled = bool(loss[:-patience].min() <= loss[-patience:].min() + tol)
        else:
            settled = bool((np.abs(np.diff(loss[-patience - 1 :])) < tol).all())
    return {"settled": settled, "by_validation": by_validation, "patience": int(patience), "tol": float(tol)}


class SummaryMixin(UnderOwnSettings):
    """Adds :meth:`summary` to an estimator."""

    def summary(self) -> str:
        """One page of text on the fitted model: the table, the model, what was found, and what the fit warned of.

        It takes no table and computes nothing anew. The score is the one that the fit has ended with, on its training
        samples. To compare models, use :meth:`score` on held-out samples.

        Returns
        -------
        text : str
            A console shows it line by line; ``print`` does too.

        Examples
        --------
        >>> from skdevae import VAETransformer
        >>> from skdevae.datasets import make_progression
        >>> X = make_progression(60, n_transient=2, n_increasing=2, n_decreasing=1, random_state=0).data
        >>> text = VAETransformer(1, max_epochs=5, random_state=0).fit(X).summary()
        >>> for line in text.splitlines()[2:5]:
        ...     print(line)
        Samples           60
        Columns           5, all modelled
        Missing entries   none
        """
        check_is_fitted(self, "module_")
        blocks = [_table_of(self), _model_of(self), _training_of(self), _results_of(self), _warnings_of(self)]
        name = type(self).__name__
        version = f"skdevae {__version__}"
        head = f"{name}{version:>{_WIDTH - len(name)}}"
        lines = [head, "=" * _WIDTH]
        for block in blocks:
            lines += [*block, "-" * _WIDTH]
        return Summary("\n".join([*lines[:-1], "=" * _WIDTH]))


def _fact(name: str, value: str) -> str:
    """A named fact, whose further lines are indented."""
    return textwrap.fill(
        value,
        _WIDTH,
        initial_indent=f"{name:<{_NAMES}}",
        subsequent_indent=" " * _NAMES,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table_of(model: Any) -> Iterator[str]:
    report, columns = getattr(model, "_report_", {}), model._reader_.columns
    if "n_rows" in report:
        others = []
        if report["total_weight"] != report["n_rows"]:
            others.append(f"of total weight {report['total_weight']:.6g}")
        if report["n_held_out"]:
            others.append(f"{report['n_held_out']} of them held out to stop the training")
        if report["n_rows_set_aside"]:
            others.append(f"{report['n_rows_set_aside']} of them set aside as outliers")
        yield _fact("Samples", ", ".join([str(report["n_rows"]), *others]))
    else:
        yield _fact("Samples", f"of total weight {model._config_['n_samples']:.6g}")
    if hasattr(model, "n_samples_seen_"):
        yield _fact("", f"in the first table of a stream, of which {model.n_samples_seen_} samples were read")
    n_modelled = len(model.modelled_columns_)
    said = [f"{model.n_features_in_}"]
    if n_modelled < model.n_features_in_:
        said.append(f"{model.n_features_in_ - n_modelled} of them covariates")
    if len(columns.left_out):
        names = first_columns(model._feature_names(), columns.left_out)
        said.append(f"{len(columns.left_out)} left out, of one value or none ({names})")
    yield _fact("Columns", ", ".join(said if len(said) > 1 else [*said, "all modelled"]))
    if report.get("missing") is not None:
        yield _fact("Missing entries", f"{report['missing']:.2%}" if report["missing"] else "none")
    if report.get("n_entries_set_aside"):
        yield _fact("Entries set aside", f"{report['n_entries_set_aside']}, read as if at the edge of the others")


def _model_of(model: Any) -> Iterator[str]:
    reader, config = model._reader_, model._config_
    yield _fact("Model", f"latent of {_number(model.module_.n_components, 'component')}, {_inference_of(config)}")
    yield _fact("Likelihood", config["likelihood"]["name"])
    if reader.sizes is not None:
        rule = "given with the rows" if reader.sizes.is_given else "a function of the rows"
        rule = "total counts of the rows" if reader.sizes.is_total else rule
        yield _fact("Size factors", f"{rule}, sd of their logs {reader.sizes.log_sd:.3g}")
    if reader.covariates is not None:
        parts = reader.covariates.parts
        named = [
            f"{part.name} ({len(part.levels)} levels)" if isinstance(part, CategoricalCovariate) else part.name
            for part in parts[:_LISTED]
        ]
        yield _fact("Covariates", ", ".join([*named, *(["..."] if len(parts) > _LISTED else [])]))
    if getattr(model, "axis_is_given_", False):
        yield _fact("Axis", "given with the table")


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _inference_of(config: dict[str, Any]) -> str:
    if "mixture" in config:
        return "one representation for each sample"
    return "integrated on a grid" if config.get("encoder") is None else "inferred by an encoder"


def _training_of(model: Any) -> Iterator[str]:
    report = getattr(model, "_report_", {})
    ended = ""
    if report.get("interrupted"):
        ended = ", ended by an interruption"
    elif report.get("settled"):
        ended = ", the loss had settled"
    elif report.get("by_validation"):
        ended = f", the held-out loss was still falling (by {report['tol']:g} nats in {report['patience']} epochs)"
    elif "settled" in report:
        ended = f", the loss still moved: by {report['tol']:g} nats or more within the last {report['patience']} epochs"
    yield _fact("Epochs", f"{model.n_iter_}{ended}")
    if hasattr(model, "log_posterior_"):
        yield _fact("Log posterior", f"{model.log_posterior_:.4f} nats per training sample")
    elif hasattr(model, "lower_bound_"):
        name = "Lower bound" if model._config_.get("variational", True) else "log p(x | z)"
        yield _fact(name, f"{model.lower_bound_:.4f} nats per training sample")


def _results_of(model: Any) -> Iterator[str]:
    if hasattr(model, "responsibilities_"):
        yield from _clusters_of_columns(model)
    elif hasattr(model, "labels_"):
        sizes = np.bincount(model.labels_[model.labels_ >= 0])
        weight = model.prior_mixture_.weights if len(model.prior_mixture_.weights) == len(sizes) else None
        yield f"{'Cluster':<{_NAMES}}{'samples':>10}" + (f"{'prior weight':>15}" if weight is not None else "")
        for number, size in enumerate(sizes[:_LISTED]):
            yield f"{number:<{_NAMES}}{size:>10}" + (f"{weight[number]:>15.3f}" if weight is not None else "")
        if len(sizes) > _LISTED:
            yield f"... and {len(sizes) - _LISTED} more"
    elif hasattr(model, "monotonic_cst_"):
        names = {1: "rising", -1: "falling", 0: "free"}
        counts = {name: int((model.monotonic_cst_ == sign).sum()) for sign, name in names.items()}
        yield _fact(
            "Along the axis", ", ".join(f"{_number(count, 'column')} {name}" for name, count in counts.items() if count)
        )
    else:
        yield _fact("Prior", str(model._config_["prior"]["name"]))


def _clusters_of_columns(model: Any) -> Iterator[str]:
    labels, sure = model.labels_, model.responsibilities_.max(1) >= _SURE
    yield f"{'Cluster':<{_NAMES}}{'columns':>10}{f'sure ({_SURE:.0%})':>15}{'weight':>10}"
    for number, name in enumerate(model.cluster_names_[:_LISTED]):
        own = labels == number
        weight = model.cluster_weights_[number]
        yield f"{name!s:<{_NAMES}}{own.sum():>10}{(own & sure).sum():>15}{weight:>10.3f}"
    if len(model.cluster_names_) > _LISTED:
        yield f"... and {len(model.cluster_names_) - _LISTED} more"
    if (labels < 0).any():
        yield f"{'none':<{_NAMES}}{(labels < 0).sum():>10}"


def _warnings_of(model: Any) -> Iterator[str]:
    for note in getattr(model, "_report_", {}).get("notes", []):
        yield _fact("Note", note)
    met = getattr(model, "_report_", {}).get("warnings")
    if met is None:
        yield _fact("Warnings", "not known: the model was saved by an older version")
    elif not met:
        yield _fact("Warnings", "none")
    for number, message in enumerate(met or ()):
        yield _fact("Warnings" if number == 0 else "", f"{number + 1}. {message}")
