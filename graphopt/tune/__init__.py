"""Planners: they run pipelines from outside, measure what comes out, and emit a pipeline."""
