"""Inference: how the posterior of the latent and the likelihood of rows are found for a trained model."""
