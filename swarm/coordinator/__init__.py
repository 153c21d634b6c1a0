"""Announces, arbitrates, assigns, watches leases and takes in tasks."""
