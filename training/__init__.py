"""How the weights of the embedded model were made; see README.md."""
