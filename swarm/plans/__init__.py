"""Files of tasks that depend on each other: read, checked, previewed."""
