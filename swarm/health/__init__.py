"""Samples of whole process trees; reports, never kills."""
