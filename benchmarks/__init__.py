"""Measurements that the project's claims come from. Nothing here is imported by the product.

    python -m benchmarks.scale     load, remove dead nodes, save: against peers, by graph size
    python -m benchmarks.memory    anonymous memory of a clean run on a model with external data
    python -m benchmarks.corpus    every recipe on real models: size, time, verdict, SQNR, metric
    python -m benchmarks.startup   how long `graphopt --help` takes
    python -m benchmarks.batches   what a second worker brings a batch, and what one that is killed loses
    python -m benchmarks.dominance FRONT RESULTS   whether a front covers every point of other tools

Times are CPU seconds of contenders that run in turn, each in a process of its own, and are quoted
as medians of the ratio of neighbouring runs, so that a machine that speeds up or slows down does
not favour anybody.
"""
