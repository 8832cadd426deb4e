"""Likelihoods: observation models, from the value of a feature's curve to the probability of its entries."""

from .base import Likelihood
from .bernoulli import Bernoulli
from .counts import CountLikelihood
from .gaussian import Gaussian
from .linear import ColumnSummary, LinearLikelihood
from .negative_binomial import NegativeBinomial, ZeroInflatedNegativeBinomial
from .poisson import Poisson

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "ColumnSummary",
    "CountLikelihood",
    "Gaussian",
    "Likelihood",
    "LinearLikelihood",
    "NegativeBinomial",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
]

#: name -> likelihood; estimators offer all that are here when they are fitted
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflatedNegativeBinomial,
    "bernoulli": Bernoulli,
}
