"""The codec ``palette``: latents of a few vectors each, dithered (the article's way)."""
