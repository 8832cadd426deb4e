"""The models' mathematics in torch: knows nothing of scikit-learn or skorch."""
