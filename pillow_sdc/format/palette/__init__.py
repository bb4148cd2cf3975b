"""The codec ``palette``, that of the article: vector quantisation with a palette, and error diffusion."""
