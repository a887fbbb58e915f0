"""LCR2S in JAX: text-to-image person re-identification with a richer teacher and a light student."""
