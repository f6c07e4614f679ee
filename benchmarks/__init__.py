"""Measurements that the project's claims come from. Nothing here is imported by the product.

    python -m benchmarks fetch     models by package, version and hash, or by maker and seed; other tools
    python -m benchmarks run       suites of measurements, to a file of results
    python -m benchmarks compare   two runs side by side
    python -m benchmarks report    one page, and the tables of README and docs
    python -m benchmarks.corpus    every recipe on real models: size, time, verdict, SQNR, metric
    python -m benchmarks.large     memory and time of each command on a model of many gigabytes
    python -m benchmarks.batches   what a second worker brings a batch, and what one that is killed loses
    python -m benchmarks.dominance FRONT RESULTS   whether a front covers every point of other tools

Times are CPU seconds of contenders that run in turn, each in a process of its own, and are quoted
as medians of the ratio of neighbouring runs, so that a machine that speeds up or slows down does
not favour anybody.
"""
