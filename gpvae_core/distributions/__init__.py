"""Distributions over z: no images, no networks."""
