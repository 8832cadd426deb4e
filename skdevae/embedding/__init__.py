"""Embedding models: estimators that embed samples in a latent of several dimensions."""
