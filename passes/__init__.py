"""The catalogue: one kind of rewrite a file, one family a folder.

A file is named as its pass (`eliminate/dead_nodes.py` holds `dead-nodes`) and its class's
docstring is the pass's page. The `PASSES` of a family's `__init__` is the only registration:
graphopt finds it through the entry point group `graphopt.passes`, where anybody's passes can
stand. A pass sees graphs, facts about them and its context, nothing else of the engine.
"""
