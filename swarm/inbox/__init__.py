"""Files and folders dropped in a folder become tasks: watched, settled, taken in exactly once."""
