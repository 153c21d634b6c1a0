"""The embedded agentchat server and the asyncio client: shells around ``swarm.wire.agentchat``."""
