"""Samples to file and file to samples, by way of latents. Nothing here knows of Pillow."""
