"""Where those outside of the fleet hand work in and take it out: verbs, HTTP, MCP."""
