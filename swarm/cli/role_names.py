"""Whether a role exists, as the command line asks it."""

from swarm.config.role_names import require_role

__all__ = ["require_role"]
