"""Neural-network modules: the models' mathematics in torch, without scikit-learn and skorch."""
