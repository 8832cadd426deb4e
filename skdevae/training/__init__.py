"""How models are trained: data by rows, the skorch net, its batches, seeds and callbacks."""
