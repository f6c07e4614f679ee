"""What helps when something is wrong: which value went wrong first, and what it costs."""
