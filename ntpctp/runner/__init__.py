"""Runs of an experiment: prepared, trained, measured, on this machine or on a cluster."""
