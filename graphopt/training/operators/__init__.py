"""Torch functions of ONNX operators, a file for each family; `table` puts them together."""
