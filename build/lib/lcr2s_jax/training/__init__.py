"""Training: one loop, devices, checkpoints, logs."""
