"""Models that are run a part at a time: where they are cut, what lies between, and which part is wrong.

A model whose weights do not fit in memory is run as a chain of segments, each loaded, run on all feeds and ended
before the next. The outputs are those of the whole model. `runner` is what the rest of validation uses.
"""
