"""Is a dataset fit to train on?"""
