"""What is said of an image and of a data set: exact gaps, scores of difficulty, tables of both."""
