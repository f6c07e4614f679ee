"""Statistics of activations: feeds are streamed through the model, and what is seen is summed up."""
