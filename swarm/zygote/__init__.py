"""Preload, fork, nothing else."""
