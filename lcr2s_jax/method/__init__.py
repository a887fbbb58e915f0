"""The method of the paper: fusion, losses and training stages."""
