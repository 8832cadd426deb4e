"""Type aliases: what the parameters of estimators and their methods take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from skorch.callbacks import Callback

#: a table of samples by features: an array, a data frame of any library, a sparse array of counts, or one on disk
TableLike: TypeAlias = Any
RandomState: TypeAlias = int | np.random.RandomState | None
#: names in the registry of likelihoods, to which more can be added
LikelihoodName: TypeAlias = str
LayerSizes: TypeAlias = Sequence[int]
Activation: TypeAlias = Literal["tanh", "relu", "softplus", "elu", "gelu"]
InferenceName: TypeAlias = Literal["exact", "amortized"]
Assignment: TypeAlias = Literal["collapsed", "noncollapsed", "fixed"]
Integrator: TypeAlias = Literal["grid", "gauss-legendre"]
#: a rule for the sizes of samples, which holds for any table
SizeRule: TypeAlias = Literal["sum"] | Callable[[Any], ArrayLike] | None
#: such a rule, or the sizes themselves
SizeFactors: TypeAlias = SizeRule | ArrayLike
#: variables that condition, one row for each sample: an array, a Series, a data frame, or a mapping of names to values
CovariatesLike: TypeAlias = Any
#: callbacks of skorch, or pairs of a name and a callback
Callbacks: TypeAlias = Sequence[Callback | tuple[str, Callback]] | None
#: names or positions of columns of X, a mask, a mapping of them to "categorical" or "numeric", or a function of X
ColumnChoice: TypeAlias = Any
UnknownCovariate: TypeAlias = Literal["error", "average"]
