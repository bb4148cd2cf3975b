"""The codec ``context``: quantised latents under a range coder whose frequencies a small network predicts."""
