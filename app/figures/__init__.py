"""Figures 1 and 2 of the paper and the picture of any single image, for print, for the web, and as numbers."""
