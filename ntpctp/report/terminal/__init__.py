"""What the commands show in a terminal: the plan, progress, tables."""
