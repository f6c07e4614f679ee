"""Finding out what a run did wrong: which rewrite, and a record of the run that can be repeated."""
