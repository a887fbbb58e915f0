"""What main.py can be asked to do, and what joins config, data and models for it."""
