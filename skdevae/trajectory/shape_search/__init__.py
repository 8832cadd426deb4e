"""Shape search: the axis and the shared functions that a fit of BasisVAE starts from."""
