"""Terminal output of the commands: plan, progress, tables."""
