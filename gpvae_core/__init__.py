"""GPVAE and exact two-dimensional posteriors for variational autoencoders (nats throughout)."""

__version__ = "0.1.0"
