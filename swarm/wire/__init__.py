"""What travels between processes, sans-I/O: bytes in, messages out, and back."""
