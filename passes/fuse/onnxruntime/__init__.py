"""Operators of onnxruntime take the place of several nodes of ONNX: for `--target onnxruntime`."""
