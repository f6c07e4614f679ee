"""One run: reads, runs the pipeline, validates, writes. The command line and the API call it."""
