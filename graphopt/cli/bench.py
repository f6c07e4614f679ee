"""`graphopt bench`: which model is smaller, faster, closer?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli import options
from graphopt.cli.running_options import Run, running
from graphopt.errors import UsageError

HOW = "How to measure"


@running
def command(
    ctx: typer.Context,
    models: Annotated[
        list[str], typer.Argument(metavar="A [B ...]", help="models; each is measured against the first")
    ],
    seconds: Annotated[
        str,
        typer.Option("--seconds", metavar="S", help="of pairs for each model; 10 unless given", rich_help_panel=HOW),
    ] = "10",
    processes: Annotated[
        str,
        typer.Option(
            "--processes", metavar="N", help="that the pairs are spread over; 3 unless given", rich_help_panel=HOW
        ),
    ] = "3",
    threads: Annotated[
        str,
        typer.Option("--threads", metavar="N", help="inside an operator; 1 unless given", rich_help_panel=HOW),
    ] = "1",
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="onnxruntime's execution provider: cpu unless given, cuda, tensorrt, openvino, ... where installed",
            rich_help_panel=HOW,
        ),
    ] = "cpu",
    no_optimize: Annotated[
        bool,
        typer.Option("--no-optimize", help="switch off onnxruntime's own graph optimizations", rich_help_panel=HOW),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile", help="the time of each kind of operator, by onnxruntime's profiler", rich_help_panel=HOW
        ),
    ] = False,
    no_compare: Annotated[
        bool, typer.Option("--no-compare", help="leave the outputs alone", rich_help_panel=options.JUDGE)
    ] = False,
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    plot: Annotated[
        str | None,
        typer.Option(
            "--plot", metavar="FILE", help="write size against latency as an SVG file", rich_help_panel=options.SHOW
        ),
    ] = None,
    *,
    run: Run,
) -> None:
    """Measure models side by side: size, load, memory, latency in interleaved pairs, outputs."""
    from graphopt.instruments.progress import Progress
    from graphopt.measure.contest import Setting
    from graphopt.report.benched import print_benchmark
    from graphopt.report.benched_plot import check_bench_plot, save_bench_plot
    from graphopt.report.benchmark import to_json
    from graphopt.session.benching import bench, provider_of

    plan = run.plan(labels)
    setting = Setting(
        options.positive("--threads", threads),
        provider_of(provider),
        options.seconds("--seconds", seconds),
        options.positive("--processes", processes),
        not no_optimize,
    )
    if setting.seconds / setting.processes > run.limits["worker_seconds"] / 2:
        raise UsageError("--seconds is more than the clock of --timeout allows; give a longer --timeout")
    if plot is not None:
        check_bench_plot(Path(plot), models)
    progress = Progress()
    try:
        found = bench(
            models,
            feeds=plan,
            labels=labels,
            metric=metric,
            setting=setting,
            compare=not no_compare,
            profiled=profile,
            say=progress.say if run.progress else lambda text: None,
            **run.limits,
        )
    finally:
        progress.stop()
    if plot is not None:
        save_bench_plot(Path(plot), found)
    run.output.show(lambda: to_json(found), lambda console: print_benchmark(found, console, run.verbose))
    raise typer.Exit(found.exit_code)
