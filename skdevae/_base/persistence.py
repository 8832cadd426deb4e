"""Persistence: a fitted estimator's state as plain values.

Files that hold only numbers, strings and NumPy arrays are small, know no device, and are safe to load: a reader such as
skops has to trust no other type than the estimator's own. A decoder of the user's (of :class:`DGDEmbedder`) and
callbacks are objects of other classes, which pickle keeps as they are and skops refuses.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from skorch.history import History

from .._version import __version__
from ..inference import TrainingRange
from ..nn.models import build_model
from ..table.columns import Columns
from ..table.covariates import Covariates
from ..table.size_factors import SizeScale
from ..table.table import TableReader
from ..table.units import Units
from ..training.streaming import Stream

#: Number of the form in which fitted state is stored. It goes up by one whenever a version cannot read the last one's.
FORMAT = 1
#: where the stamp stands in a stored state
_STAMP = "_stored_by"


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an estimator as it goes into a file: stamped, with its model as arrays."""
    state = state.copy()
    if "module_" not in state:
        return state
    state[_STAMP] = {"format": FORMAT, "skdevae": __version__}
    weights = state.pop("module_").state_dict()
    state["_weights_"] = {name: tensor.cpu().numpy() for name, tensor in weights.items()}
    state["history_"] = _plain_history(state["history_"])
    state["_reader_"] = _plain_reader(state["_reader_"])
    if "_training_range_" in state:
        state["_training_range_"] = asdict(state["_training_range_"])
    if "_stream_" in state:
        state["_stream_"] = state["_stream_"].plain()
    return state


def restored(state: dict[str, Any], estimator: str) -> dict[str, Any]:
    """The state of an estimator from what :func:`stored` has made of it; raises unless this version can read it."""
    state = state.copy()
    stamp = state.pop(_STAMP, None)
    if stamp is None and "_weights_" not in state:
        return state
    _check_stamp(stamp, estimator)
    try:
        return state | _restored_parts(state, state.pop("_weights_"))
    except Exception as error:  # whatever the parts of a file may be
        raise ValueError(
            f"This {estimator} cannot be restored: its file is damaged, or is not what skdevae {__version__} has "
            f"saved: {error!r}. Save the model again, or fit it again."
        ) from error


def _restored_parts(state: dict[str, Any], weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """What fitted state has in memory other than in a file."""
    module = build_model(state["_config_"], torch.Generator())
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    lost = [name for name, array in weights.items() if np.isnan(array).any()]
    if lost:
        raise ValueError(f"the weights {lost[0]} are no numbers")
    training_range = state.get("_training_range_")
    known = TrainingRange.of_older_files(module) if training_range is None else TrainingRange.restored(training_range)
    stream = {"_stream_": Stream.restored(state["_stream_"])} if "_stream_" in state else {}
    return {
        **stream,
        "_training_range_": known,
        "module_": module.eval().requires_grad_(False),
        "history_": History(state["history_"]),
        "_reader_": _restored_reader(state["_reader_"]),
    }


def _check_stamp(stamp: Any, estimator: str) -> None:
    known = isinstance(stamp, dict) and isinstance(stamp.get("format"), int)
    if known and stamp["format"] == FORMAT:
        return
    if not known:
        raise ValueError(
            f"This {estimator} was saved without a format number, so nobody can say what its parts mean. Fit it again "
            f"with skdevae {__version__} and save that."
        )
    age = "newer" if stamp["format"] > FORMAT else "older"
    remedy = "Update skdevae" if age == "newer" else f"Load it with skdevae {stamp.get('skdevae')}"
    raise ValueError(
        f"This {estimator} was saved by skdevae {stamp.get('skdevae')} in format {stamp['format']}, which is {age} "
        f"than format {FORMAT} of the installed skdevae {__version__}. {remedy}, or fit it again."
    )


def _plain_history(history: History) -> list[dict[str, Any]]:
    """The history without its per-batch records, as built-in types."""
    plain = {bool: bool, np.bool_: bool, int: int, np.int64: int}
    return [
        {name: plain.get(type(value), float)(value) for name, value in row.items() if name != "batches"}
        for row in history
    ]


def _plain_reader(reader: TableReader) -> dict[str, Any]:
    return {
        "units": _fields(reader.units),
        "sizes": None if reader.sizes is None else _fields(reader.sizes),
        "columns": _fields(reader.columns),
        "covariates": None if reader.covariates is None else reader.covariates.plain(),
    }


def _restored_reader(plain: dict[str, Any]) -> TableReader:
    sizes = plain["sizes"]
    if sizes is not None and "given_for" in sizes:  # older files kept the sizes, and a hash of their table
        sizes = {**sizes, "is_given": sizes["given_for"] is not None}
        del sizes["given_for"]
    return TableReader(
        Units(**plain["units"]),
        None if sizes is None else SizeScale(**sizes),
        Columns(**plain.get("columns", {})),  # older files know of no columns that are left out
        None if plain.get("covariates") is None else Covariates.of_plain(plain["covariates"]),
    )


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, uncopied."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
