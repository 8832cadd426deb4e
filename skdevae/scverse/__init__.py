"""AnnData: estimators fitted to the tables of scanpy and scvi-tools, with results beside the cells and genes.

Functions take an AnnData, and write what a model says into it. Nothing is imported of anndata: whoever has an AnnData
has the library.
"""

from ._answers import fit, transform

__all__ = ["fit", "transform"]
