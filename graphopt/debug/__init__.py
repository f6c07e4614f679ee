"""What helps when something is wrong: which rewrite it was, which value went wrong first, and a record to repeat."""
