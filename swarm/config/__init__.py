"""Text to typed settings, or problems with line numbers.  The only I/O is reading."""
