"""How much each layer of a model tolerates: measured with noise on its weights, predicted for what is done to them."""
