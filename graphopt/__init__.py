"""graphopt: a post-export optimizer for ONNX models."""
