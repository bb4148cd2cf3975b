"""What files depend on for ever: the container, alpha, and the latent codecs. numpy and the standard library alone."""
