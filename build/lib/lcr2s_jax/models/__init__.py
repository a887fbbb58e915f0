"""Linen modules: the CLIP towers, the attentional support-set fusion and the identity head."""
