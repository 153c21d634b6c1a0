"""``python -m bench``: the numbers of the project, each beside a baseline of the same run.

Machines are noisy, so what counts are medians and ratios.  Nothing here is a test: a target that
is not met is shown, not raised.
"""
