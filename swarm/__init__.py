"""agentctl swarm: a supervisor for fleets of coding agents on a dev box."""

__version__ = "0.1.0"
