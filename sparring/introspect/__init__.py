"""Look inside a model, or hold it still, without changing it."""
