"""To NumPy: a fitted model as a folder of one file of arrays and one short file of Python."""

from __future__ import annotations

import json
import math
import shutil
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._base.estimator import LatentEstimator
from .._base.simulation import float64_like
from .._version import __version__
from ..inference import Inference
from ..inference.encoder import EncoderInference
from ..inference.grid import GridInference
from ..inference.lattice import Lattice
from ..metrics._pipelines import flat_steps
from ..nn.layers import ACTIVATIONS
from ..nn.likelihoods import LIKELIHOODS
from ..nn.models import GenerativeModel
from ..nn.row_context import RowContext
from ..table.source import RowSource
from ..table.table import TableReader
from . import _stand_alone

#: number of the form of the exported files
_FORMAT = 1
#: sds of the prior within which the finest grid has to resolve the posterior of a typical sample
_USUAL = 3.0
#: spacings that the sd of such a posterior should have
_SPACINGS_PER_SD = 2.5
#: least halvings of the coarsest grid, and most by number of components
_LEAST_HALVINGS, _MOST_HALVINGS = 2, {1: 7, 2: 3}
#: most bytes of an exported table
_MOST_BYTES = 1_000_000_000


def to_numpy(estimator: Any, folder: str | PathLike[str]) -> Path:
    """Export ``transform`` of a fitted model: positions of new samples with NumPy alone.

    What is written is a small Python package of two files: ``model.npz`` with arrays, and ``__init__.py``, which needs
    NumPy and nothing else. Copy the folder to where samples are to be placed, and import it by its name. Nothing in it
    is executed but that one file, which one can read in one sitting. Loading a file of arrays runs no code.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of this package; or a Pipeline of StandardScalers that ends in one, or a search whose best
        estimator is one of these.
    folder : path
        Where to write. The last part of the path is the name by which the package is imported. A folder that an export
        has written before is written anew.

    Returns
    -------
    folder : Path
        The folder. It has the functions ``transform(X)``, ``place(X)`` and the dictionary ``REASONS``:

        - ``transform(X)`` gives the positions of the rows of X, (n_samples, n_components), in double precision. X is
          what the estimator's own ``transform`` takes, in the units of the table that it was fitted to, with NaN for
          missing entries. Columns of a data frame are taken by their names.
        - ``place(X)`` gives the same, and for each row a number that says why it has no position (NaN). ``REASONS`` has
          the numbers in words.
        - A model with given size factors takes them: ``transform(X, size_factors)``. With ``size_factors="sum"`` they
          are computed.

    Raises
    ------
    ValueError
        If a model cannot be exported: it has covariates, an encoder with a flow, or no encoder (:class:`DGDEmbedder`);
        a step of the pipeline is no StandardScaler; the table would take more than a gigabyte; the folder holds other
        files, or its name is no name of a Python package.

    Notes
    -----
    Models whose latent is integrated on a grid are a table lookup. Rows are judged as ``transform`` judges them, on
    the same points, so positions agree with those of ``transform`` to 1e-6. The table ends at 8/3 of ``z_max``: rows
    whose posteriors reach farther out get NaN. ``transform`` places them, with a warning.

    Of models with an encoder (``VampVAE``, ``VAETransformer`` with several components) the encoder is exported. It
    gives complete rows what ``transform`` gives them. Rows with missing entries, and rows beyond ``z_max`` sds of the
    prior, get NaN: for them ``transform`` samples the posterior, which takes the whole model.

    No warning is given about rows unlike all training rows: ask ``posterior(X).beyond_training`` of the model itself.

    Examples
    --------
    >>> import sys, tempfile
    >>> import numpy as np
    >>> from skdevae import BasisDeVAEClusterer
    >>> from skdevae.datasets import make_progression
    >>> from skdevae.export import to_numpy
    >>> cohort = make_progression(200, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0)
    >>> model = BasisDeVAEClusterer(max_epochs=60, random_state=0).fit(cohort.data)
    >>> folder = tempfile.mkdtemp()
    >>> exported = to_numpy(model, f"{folder}/disease_stage")
    >>> sys.path.insert(0, folder)  # where the package lies
    >>> import disease_stage
    >>> new = cohort.data[:5].copy()
    >>> new[0, 3] = np.nan  # not measured
    >>> bool(np.abs(disease_stage.transform(new) - model.transform(new)).max() < 1e-6)
    True
    >>> positions, reasons = disease_stage.place(np.full((1, 12), np.nan))
    >>> disease_stage.REASONS[reasons[0]]
    'no observed entry, or no counts: the position is that of the prior'
    """
    model, scalers = _model_and_scalers(estimator)
    facts, arrays = _how_tables_are_read(model, scalers)
    inference = model._inference()
    if _integrates_on_grid(inference, model._reader_):
        part = _tables(inference.model, model)
    elif isinstance(inference, EncoderInference):
        part = _encoder(inference)
    else:
        raise ValueError(
            f"{type(model).__name__} has no encoder and no grid: it searches for every position with the decoder's "
            "gradients, which takes torch. Use its own transform."
        )
    folder = _prepared(Path(folder))
    facts |= {"kind": "table", "prior_mean": [0.0] * inference.model.n_components} | part.pop("facts")
    everything: dict[str, Any] = {"facts": json.dumps(facts), **arrays, **part}
    np.savez(folder / "model.npz", **everything)
    shutil.copyfile(cast(str, _stand_alone.__file__), folder / "__init__.py")
    return folder


def _prepared(folder: Path) -> Path:
    """The folder, made if it is not there."""
    if not folder.name.isidentifier():
        raise ValueError(
            f"The folder's name is that of a Python package, which {folder.name!r} cannot be: use letters, digits and "
            "underscores, and no digit first."
        )
    if folder.exists():
        written = {"model.npz", "__init__.py", "__pycache__"}
        strangers = sorted(file.name for file in folder.iterdir() if file.name not in written)
        if strangers or (any(folder.iterdir()) and not (folder / "model.npz").exists()):
            raise ValueError(
                f"{folder} holds other files ({', '.join(strangers) or '__init__.py'}): name a new folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _model_and_scalers(estimator: Any) -> tuple[LatentEstimator, list[StandardScaler]]:
    """The fitted model that an estimator is or ends in, and the scalers before it."""
    *scalers, model = [step for _, step in flat_steps(estimator)]
    if not isinstance(model, LatentEstimator):
        raise ValueError(
            "Expected a fitted estimator of skdevae, or a Pipeline that ends in one, but the last step is "
            f"{type(model).__name__}."
        )
    check_is_fitted(model, "module_")
    for step in scalers:
        if type(step) is not StandardScaler:
            raise ValueError(
                f"A step of the pipeline is {type(step).__name__}, and only StandardScaler can be exported with a "
                "model. Apply that step to the table first, and export the model after it: pipeline[-1]."
            )
        check_is_fitted(step)
    return model, scalers


def _how_tables_are_read(
    model: LatentEstimator, scalers: list[StandardScaler]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays that lead from a user's table to what the model sees."""
    reader = model._reader_
    if reader.covariates is not None:
        raise ValueError(
            f"This {type(model).__name__} has covariates, which the export does not know. Fit it without them, or to a "
            "table from which their effects have been taken away (adjust)."
        )
    n_features = model.n_features_in_
    kept = np.arange(n_features) if reader.columns.kept is None else np.asarray(reader.columns.kept)
    center, scale = reader.units.center, reader.units.scale
    center = np.zeros(n_features) if center is None else np.array(center, dtype=float)
    scale = np.ones(n_features) if scale is None else np.array(scale, dtype=float)
    for scaler in reversed(scalers):  # x = mean + sd y, and y is what the model reads
        mean, sd = (0.0 if part is None else part for part in (scaler.mean_, scaler.scale_))
        sd = 1.0 if scaler.scale_ is None else sd
        center, scale = mean + sd * center, sd * scale
    first = scalers[0] if scalers else model
    names = getattr(first, "feature_names_in_", None)
    facts: dict[str, Any] = {
        "format": _FORMAT,
        "skdevae": __version__,
        "estimator": type(model).__name__,
        "n_features": n_features,
        "names": None if names is None else names.tolist(),
        "n_components": model.module_.n_components,
        "counts": LIKELIHOODS[model._config_["likelihood"]["name"]].counts,
        "sizes": None,
    }
    arrays = {"kept": kept, "center": center[kept], "scale": scale[kept]}
    if reader.sizes is not None:
        facts |= {"sizes": "sum" if reader.sizes.is_total else "given", "size_unit": math.exp(reader.sizes.log_unit)}
        arrays["count_means"] = reader.sizes.count_means
    return facts, arrays


# ---- models on a grid ------------------------------------------------------------------------------------------------


def _integrates_on_grid(inference: Inference, reader: TableReader) -> bool:
    """Whether positions of rows, which have size factors or not, are found on a grid."""
    if isinstance(inference, GridInference):
        return True
    if not isinstance(inference, EncoderInference):
        return False
    like = float64_like(inference.model)
    context = RowContext(log_size=None if reader.sizes is None else np.zeros(1))
    return inference.integrates_on_grid(
        RowSource(np.zeros((1, len(inference.model.labels))), None, None, like, context)
    )


@torch.no_grad()
def _tables(model: GenerativeModel, estimator: LatentEstimator) -> dict[str, Any]:
    """Coefficients of the likelihood on the grid around zero, and on one of twice its width, as fine as need be."""
    n_axes, n_features, like = model.n_components, len(model.labels), float64_like(model)
    lattice = Lattice(model.predictive_tables, model.z_max, n_axes, n_features, like)
    halvings = [_halvings_needed(model, lattice, axis) for axis in range(n_axes)]
    n_points = 2 * math.prod((lattice.whole_shape[0] - 1) * 2**number + 1 for number in halvings)
    n_bytes = n_points * n_features * 8 * (3 if model.likelihood.has_positive_term else 2)
    if n_bytes > _MOST_BYTES:
        raise ValueError(
            f"The table of this {type(estimator).__name__} would have {n_points} points for each of {n_features} "
            f"features, {n_bytes / 1e9:.1f} gigabytes: so many features place samples so exactly. Fit the model to "
            "fewer columns, or use its own transform."
        )
    arrays: dict[str, Any] = {"facts": {"levels": halvings}}
    for name, coarsest in (("near", 0), ("wide", -1)):
        axes = [_coordinates(lattice, coarsest, number) for number in halvings]
        tables = model.predictive_tables(torch.cartesian_prod(*axes).view(-1, n_axes))
        for part, values in tables._asdict().items():
            if values is not None:
                arrays[f"{name}_{part}"] = values.view(*map(len, axes), n_features).cpu().numpy()
        arrays |= {f"{name}_axis{number}": axis.cpu().numpy() for number, axis in enumerate(axes)}
    return arrays


def _coordinates(lattice: Lattice, coarsest: int, halvings: int) -> Tensor:
    """Coordinates along an axis of the grid around zero of some level, with its spacing halved some times."""
    levels = (coarsest + halvings,) * lattice.n_components
    low = torch.full((1, len(levels)), lattice.first_of_whole * 2**halvings, device=lattice.like.device)
    shape = ((lattice.whole_shape[0] - 1) * 2**halvings + 1,) * len(levels)
    return lattice.windows(levels, low, shape).coordinates()[0][0]


def _halvings_needed(model: GenerativeModel, lattice: Lattice, axis: int) -> int:
    """How often the spacing along an axis has to be halved to resolve the posterior of typical samples.

    By the Fisher information on the axis: the posterior of a sample at z has an sd of about ``(1 + I(z))^-1/2``.
    """
    along = _coordinates(lattice, 0, 2)
    z = torch.zeros(len(along), model.n_components).to(along)
    z[:, axis] = along
    curves = model.predictive_curves(z)
    (slopes,) = torch.gradient(curves, spacing=(along,), dim=0)
    information = (model.likelihood.information(curves, z) * slopes**2).sum(1)[along.abs() <= _USUAL]
    spacing = float(along[4] - along[0])
    needed = math.log2(_SPACINGS_PER_SD * spacing * math.sqrt(1 + float(information.max())))
    return min(max(_LEAST_HALVINGS, math.ceil(needed)), _MOST_HALVINGS[model.n_components])


# ---- models with an encoder ------------------------------------------------------------------------------------------


@torch.no_grad()
def _encoder(inference: EncoderInference) -> dict[str, Any]:
    """The layers of an encoder, and how far from the prior's mean it is believed."""
    model = inference.model
    if not model.posterior_family.is_gaussian:
        raise ValueError(
            "The model has a flow behind its encoder, and its positions are means of draws, which take torch. Fit it "
            "with posterior_family='gaussian' to export it."
        )
    encoder = model.encoder
    mean, sd = model.latent_prior().moments()
    arrays: dict[str, Any] = {
        "reach": (model.z_max * sd if model.variational else torch.full_like(sd, math.inf)).cpu().numpy()
    }
    kinds: list[str] = []
    for layer in [*encoder.perceptron, encoder.head]:
        for kind, *parameters in _plain(layer):
            for name, values in zip(("weight", "bias"), parameters, strict=False):
                arrays[f"{len(kinds)}_{name}"] = values.cpu().numpy()
            kinds.append(kind)
    if encoder.projection is not None:
        arrays["projection"] = encoder.projection.cpu().numpy()
    facts = {
        "kind": "encoder",
        "layers": kinds,
        "sees_mask": encoder.sees_mask,
        "takes_gaps": not model.variational,
        "prior_mean": mean.tolist(),
    }
    return arrays | {"facts": facts}


def _plain(layer: torch.nn.Module) -> list[tuple[Any, ...]]:
    """A layer of an encoder as it works after training: its kind, and its parameters."""
    if isinstance(layer, torch.nn.Linear):
        return [("linear", layer.weight, layer.bias)]
    if isinstance(layer, torch.nn.BatchNorm1d):
        weight = layer.weight / torch.sqrt(cast(Tensor, layer.running_var) + layer.eps)
        return [("affine", weight, layer.bias - cast(Tensor, layer.running_mean) * weight)]
    if isinstance(layer, torch.nn.LayerNorm):
        return [("layer_norm", layer.weight, layer.bias)]
    return [(name,) for name, kind in ACTIVATIONS.items() if type(layer) is kind]  # none of dropout
