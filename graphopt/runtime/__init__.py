"""onnxruntime, kept in a child process with a clock and a memory limit.

`client` is the side that the rest of graphopt uses; `worker` is the child. Nothing is imported
here, because the child imports this package too and its start-up time is everybody's.
"""
