"""The file format: the container, alpha and the latent codecs. It depends on numpy and the standard library alone."""
