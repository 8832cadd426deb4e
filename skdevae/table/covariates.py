"""Covariates: what a row's covariates (batch, sex, age) are as numbers that a model can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from .._typing import UnknownCovariate
from .._warnings import warn_user
from .validation import check_real, routing_advice

#: a level of a categorical covariate, as a plain value
Level: TypeAlias = str | int | float | bool

#: share of a column's variance, left by columns before it, that is rounding
_ROUNDING = 1e-10
#: coefficient, of standardised columns, that is rounding
_NO_PART = 1e-6
#: steps of double precision within which the values of a column are taken for one value
_ROUNDING_STEPS = 8


@dataclass(frozen=True)
class NumericCovariate:
    """A covariate that is a number, standardised with the moments of the training table.

    Attributes
    ----------
    name : str
    center, scale : float
        Mean and standard deviation; a scale of 0 belongs to a covariate that never varied, which has no column.
    """

    name: str
    center: float
    scale: float

    @classmethod
    def learn(cls, name: str, values: pd.Series, weights: np.ndarray) -> NumericCovariate:
        # Over distinct values, so that neither the order nor the repetition of rows changes a bit.
        numbers, which = np.unique(_numbers(name, values)[weights > 0], return_inverse=True)
        shares = np.bincount(which, weights[weights > 0]) / weights.sum()
        largest = float(np.abs(numbers).max()) or 1.0
        center = float(shares @ (numbers / largest))
        scale = float(np.sqrt(shares @ (numbers / largest - center) ** 2))
        varies = scale > _ROUNDING_STEPS * np.finfo(np.float64).eps
        return cls(name, center * largest, scale * largest if varies else 0.0)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of its design."""
        return [self.name] if self.scale > 0 else []

    @property
    def average(self) -> np.ndarray:
        """The training average of its design."""
        return np.zeros(len(self.columns))

    def design(self, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Design (N, 1 or 0), and which rows are unknown: (N,)."""
        numbers = _numbers(self.name, values)
        standardised = (numbers - self.center) / (self.scale or 1.0)
        return standardised[:, None][:, : len(self.columns)], np.isnan(numbers)

    def complaint(self, values: pd.Series, unknown: np.ndarray) -> str:
        """What is wrong with the unknown rows."""
        return _missing(self.name, unknown)


@dataclass(frozen=True)
class CategoricalCovariate:
    """A covariate that is one of some levels: one column for each level but the first, which is the reference.

    Attributes
    ----------
    name : str
    levels : list of L plain values
        Those of the training table.
    shares : ndarray of shape (L,)
        Of the training rows, by weight.
    """

    name: str
    levels: list[Level]
    shares: np.ndarray

    @classmethod
    def learn(cls, name: str, values: pd.Series, weights: np.ndarray) -> CategoricalCovariate:
        """Levels come in the order of a category dtype, or sorted. Those without any weight are not known."""
        codes, found = _coded(values)
        totals = np.bincount(codes, weights, minlength=len(found))
        seen = [number for number in _ordered(values, found) if totals[number] > 0]
        n_rows = int((weights > 0).sum())
        if len(seen) == n_rows > 2:
            raise ValueError(
                f"Covariate {name!r} has a level of its own for each of the {n_rows} rows, so it explains every row "
                "and leaves nothing for the model. Is it an identifier, or a number that is stored as text? Leave it "
                "out, or convert it."
            )
        return cls(name, [found[number] for number in seen], totals[seen] / weights.sum())

    @property
    def columns(self) -> list[str]:
        """Names of the columns of its design."""
        return [f"{self.name}[{level}]" for level in self.levels[1:]]

    @property
    def average(self) -> np.ndarray:
        """The training average of its design."""
        return self.shares[1:]

    def design(self, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Design (N, L - 1), and which rows are unknown: (N,)."""
        codes, found = _coded(values)
        numbers = {level: number for number, level in enumerate(self.levels)}
        known = np.array([numbers.get(level, -1) for level in found] + [-1])[codes]  # -1, the last, is missing
        return np.eye(len(self.levels))[known][:, 1:], known < 0

    def complaint(self, values: pd.Series, unknown: np.ndarray) -> str:
        """What is wrong with the unknown rows."""
        codes, found = _coded(values)
        missing = codes < 0
        if missing.any():
            return _missing(self.name, missing)
        new = list(dict.fromkeys(repr(found[code]) for code in codes[unknown]))
        shown = ", ".join(new[:3]) + (f" and {len(new) - 3} more" if len(new) > 3 else "")
        known = ", ".join(repr(level) for level in self.levels[:5]) + (", ..." if len(self.levels) > 5 else "")
        return (
            f"Covariate {self.name!r} has levels that the training table did not have: {shown}, in {unknown.sum()} "
            f"rows (the first is row {np.argmax(unknown)}). It had {known}."
        )


@dataclass(frozen=True)
class Covariates:
    """How the covariates of rows become columns of numbers: learned from the training table.

    Attributes
    ----------
    parts : tuple of NumericCovariate or CategoricalCovariate
        One for each covariate.
    """

    parts: tuple[NumericCovariate | CategoricalCovariate, ...]

    _kinds: ClassVar[dict[str, type[NumericCovariate] | type[CategoricalCovariate]]] = {
        "numeric": NumericCovariate,
        "categorical": CategoricalCovariate,
    }

    @classmethod
    def learn(
        cls, table: pd.DataFrame, weights: np.ndarray | None = None, kinds: Mapping[str, str] | None = None
    ) -> tuple[Covariates, np.ndarray]:
        """From the covariates of a training table; with its design (N, C).

        Parameters
        ----------
        table : DataFrame of shape (N, n_covariates)
        weights : ndarray of shape (N,), optional
            Of the rows. What rows of weight zero alone have is not known.
        kinds : mapping, optional
            ``"categorical"`` or ``"numeric"``, by name, for covariates whose dtype does not say which they are.
        """
        weights = np.ones(len(table)) if weights is None else weights
        kinds = kinds or {}
        parts = []
        for name in table.columns:
            values = table[name]
            _check_complete(name, values)
            parts.append(cls._kinds[kinds.get(name) or _kind(name, values)].learn(name, values, weights))
        covariates = cls(tuple(parts))
        constant = [repr(part.name) for part in parts if not part.columns]
        if constant:
            warn_user(
                f"Covariates of one value in training: {', '.join(constant)}. Nothing can be learned about their "
                "effects, and they are left out."
            )
        design = covariates.design(table, unknown="average")  # of rows of weight zero alone
        covariates._check_rank(design, weights)
        return covariates, design

    @property
    def names(self) -> list[str]:
        """Names of the covariates."""
        return [part.name for part in self.parts]

    @property
    def columns(self) -> list[str]:
        """Names of the C columns of the design, such as ``age`` and ``sex[male]``."""
        return [column for part in self.parts for column in part.columns]

    @property
    def scales(self) -> np.ndarray:
        """What one unit of each column of the design is in the user's units: (C,)."""
        scales = [[part.scale] if isinstance(part, NumericCovariate) else [1.0] for part in self.parts]
        by_part = [scale * len(part.columns) for scale, part in zip(scales, self.parts, strict=True)]
        return np.array([scale for of_part in by_part for scale in of_part])

    @property
    def average(self) -> np.ndarray:
        """The training average of the design: (C,)."""
        return np.concatenate([part.average for part in self.parts])

    def design(
        self,
        table: pd.DataFrame,
        *,
        unknown: UnknownCovariate = "error",
        absent: UnknownCovariate | None = None,
    ) -> np.ndarray:
        """The design (N, C) of the rows of a later table, whose other columns do not matter.

        Parameters
        ----------
        table : DataFrame of shape (N, n_columns)
        unknown : "error" or "average", default="error"
            What becomes of rows without a value, or of a level that training did not have.
        absent : "error" or "average", optional
            What becomes of covariates that the table does not have; as of ``unknown`` values unless it is said.
        """
        lacking = [repr(name) for name in self.names if name not in table]
        if lacking and (absent or unknown) == "error":
            raise ValueError(
                f"The model was fitted with covariates that are not given: {', '.join(lacking)}. Pass covariates=... "
                "of the rows in the same form as to fit, or in a data frame with columns of these names. "
                f"{routing_advice('covariates')}"
            )
        designs = [np.empty((len(table), 0))]
        for part in self.parts:
            design = np.tile(part.average, (len(table), 1))
            if part.name in table:
                known_design, is_unknown = part.design(table[part.name])
                if is_unknown.any() and unknown == "error":
                    raise ValueError(
                        f"{part.complaint(table[part.name], is_unknown)} Give another value, or choose "
                        "unknown_covariate='average', which takes such rows for average ones."
                    )
                design[~is_unknown] = known_design[~is_unknown]
            designs.append(design)
        return np.hstack(designs)

    def plain(self) -> list[dict[str, Any]]:
        """As plain values and arrays, for files."""
        return [{**vars(part)} for part in self.parts]

    @classmethod
    def of_plain(cls, plain: Sequence[Mapping[str, Any]]) -> Covariates:
        """From what :meth:`plain` has made."""
        return cls(tuple((CategoricalCovariate if "levels" in part else NumericCovariate)(**part) for part in plain))

    def _check_rank(self, design: np.ndarray, weights: np.ndarray) -> None:
        """Raise where a column of the design (N, C) is a linear combination of columns before it and a constant."""
        owners = [part.name for part in self.parts for _ in part.columns]
        for number, before in _dependent_columns(design, weights):
            others = list(dict.fromkeys(owners[k] for k in before if owners[k] != owners[number]))
            raise ValueError(
                f"The effect of covariate {owners[number]!r} cannot be told from those of "
                f"{', '.join(map(repr, others))}: in training, {self.columns[number]!r} is a linear combination of "
                f"{', '.join(repr(self.columns[k]) for k in before)}. Leave one of these covariates out, or combine "
                "them in one."
            )


def _dependent_columns(design: np.ndarray, weights: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Columns that are linear combinations of those before them and a constant, each with those it takes."""
    shares = weights / weights.sum()
    centred = design - shares @ design
    centred = centred / np.sqrt(shares @ centred**2)
    products = centred.T @ (shares[:, None] * centred)
    factor = np.zeros_like(products)  # of Cholesky's, for the columns that are kept
    kept: list[int] = []
    found = []
    for number in range(len(products)):
        n = len(kept)
        row = solve_triangular(factor[:n, :n], products[kept, number], lower=True) if n else np.empty(0)
        rest = 1 - row @ row
        if rest > _ROUNDING:
            factor[n, :n], factor[n, n] = row, np.sqrt(rest)
            kept.append(number)
        else:
            coefficients = solve_triangular(factor[:n, :n], row, lower=True, trans="T")
            found.append((number, np.array(kept)[np.abs(coefficients) > _NO_PART]))
    return found


def _kind(name: str, values: pd.Series) -> str:
    """What a covariate is, by its dtype."""
    check_real(f"Covariate {name!r}", values.dtype)
    is_number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    return "numeric" if is_number else "categorical"


def _check_complete(name: str, values: pd.Series) -> None:
    missing = values.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{_missing(name, missing)} Fill them in, leave these rows out, or make missing a level of its own."
        )


def _missing(name: str, missing: np.ndarray) -> str:
    return f"Covariate {name!r} has no value in {missing.sum()} rows (the first is row {np.argmax(missing)})."


def _numbers(name: str, values: pd.Series) -> np.ndarray:
    """Values as numbers (N,), NaN where they are missing."""
    check_real(f"Covariate {name!r}", values.dtype)
    try:
        numbers: np.ndarray = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Covariate {name!r} is numeric, but holds values that are no numbers ({error}). Where it is to be one of "
            "categories, give it as text or with the dtype 'category'."
        ) from error
    infinite = np.isinf(numbers)
    if infinite.any():
        raise ValueError(
            f"Covariate {name!r} is infinite in {infinite.sum()} rows (the first is row {np.argmax(infinite)})."
        )
    return numbers


def _coded(values: pd.Series) -> tuple[np.ndarray, list[Level]]:
    """Values as numbers (N,) of levels, -1 where they are missing; and the levels, which all differ."""
    try:
        codes, found = pd.factorize(values)
    except TypeError as error:  # of lists, say
        raise ValueError(f"Covariate {values.name!r} holds values that are no labels: {error}.") from error
    levels = [_plain(level) for level in found]
    distinct = {level: number for number, level in enumerate(dict.fromkeys(levels))}
    renumbered = np.array([distinct[level] for level in levels] + [-1])
    return renumbered[codes], list(distinct)


def _plain(level: Any) -> Level:
    """A level as a plain value. Values that are equal become the same, whatever holds them; others become text."""
    if isinstance(level, np.generic):
        level = level.item()
    if isinstance(level, float) and level.is_integer():
        return int(level)
    return level if isinstance(level, str | int | float) else str(level)


def _ordered(values: pd.Series, levels: list[Level]) -> list[int]:
    """Numbers of levels in the order of a category dtype, or sorted: numbers first, then text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        ranks = {_plain(level): rank for rank, level in enumerate(values.dtype.categories)}
        return sorted(range(len(levels)), key=lambda number: ranks[levels[number]])
    return sorted(range(len(levels)), key=lambda number: (isinstance(levels[number], str), levels[number]))
