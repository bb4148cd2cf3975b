"""Models in the layout of diffusers: found, checked, loaded and run."""
