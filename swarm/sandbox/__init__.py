"""What a session may touch, and what holds its processes together (rules, "The sandbox")."""
