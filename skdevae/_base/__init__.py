"""Base classes: what every estimator shares, how it is fitted and what a fitted one answers."""
