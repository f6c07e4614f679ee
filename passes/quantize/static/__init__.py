"""Activations on integer grids that calibration chooses: which values, which grids, and how they are written."""
