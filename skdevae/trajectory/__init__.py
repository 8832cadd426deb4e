"""Trajectory models: estimators whose latent is an axis along which features behave."""
