"""Real data for real models: what each model of the corpus is fed, and how its outputs are scored.

A corpus is a folder with `models/*.onnx` and `data/`; `catalogue.CASES` says which data belong to
which model. Data are split in halves: the first is for calibration and for choices such as a
normalization, the second measures.
"""
