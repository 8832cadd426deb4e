"""Models: a decoder, a likelihood and an assignment composed, and what a batch goes through to its loss terms."""

from .amortized import AmortizedModel
from .base import GenerativeModel
from .build import build_model
from .exact import ExactModel
from .mixture import MixtureModel

__all__ = ["AmortizedModel", "ExactModel", "GenerativeModel", "MixtureModel", "build_model"]
