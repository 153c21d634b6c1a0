"""Pure decisions: values and an integer for time in, values out.  Nothing here does I/O."""
