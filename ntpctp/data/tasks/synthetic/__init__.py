"""Generated tasks: every example is a function of the seed and its index."""
