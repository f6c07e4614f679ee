"""Noise on weights, to learn what they tolerate."""

PASSES = {
    "weight-noise": "passes.perturb.weight_noise:WeightNoise",
}
"""By name, imported when a pipeline asks for it."""
