"""Models: built, initialised, adapted, saved as checkpoints, and read for inference."""
