"""The codec ``context``: quantised latents, range-coded with probabilities that a small network predicts."""
