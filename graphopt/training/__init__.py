"""Training of ONNX models against their originals, with PyTorch (extra `distill`)."""
