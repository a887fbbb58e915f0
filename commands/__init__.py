"""What main.py can be asked to do: one file a command, and run.py, which joins config, data and models."""
