"""Shape search: finds the axis, and the functions shared by features, that a fit of BasisVAE starts from.

``grid`` and ``shapes`` hold what has a closed form, ``axis`` places the samples, ``search`` finds the clusters, and
``start`` puts the result into a model.
"""
