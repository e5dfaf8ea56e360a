"""Virtual GPUs."""
