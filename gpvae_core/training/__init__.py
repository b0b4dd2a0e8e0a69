"""Training a model, and averages over a data set."""
