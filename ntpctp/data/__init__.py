"""Examples, tasks, and the token ids that they become."""
