"""Training defaults: how long and how fast an estimator trains where its parameters leave that open.

Each family of estimators has one frozen object: the class attribute ``_training_defaults``.
"""

from ..training.settings import TrainingDefaults

__all__ = ["TrainingDefaults"]
