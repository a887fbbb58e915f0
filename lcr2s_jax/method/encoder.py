"""The dual encoder: the trained model as used outside training.

v = P_v image_tower(pixels), t = P_t text_tower(tokens); cos(v, t) ranks.
"""

import dataclasses

import jax

from lcr2s_jax.models.clip import CLIP


@dataclasses.dataclass(frozen=True)
class DualEncoder:
    """CLIP's two towers as pure functions of a stage's parameters, of which they read 'clip' alone."""

    clip: CLIP

    def embed_image(self, params, image_nhwc: jax.Array) -> jax.Array:
        """Encode pixels, uint8 [n, h, w, 3] -> float32 [n, E], not normalised."""
        return self.clip.apply({'params': params['clip']}, image_nhwc, method='encode_image')

    def embed_text(self, params, tokens_nL: jax.Array) -> jax.Array:
        """Encode token ids, int32 [n, L] -> float32 [n, E], not normalised."""
        return self.clip.apply({'params': params['clip']}, tokens_nL, method='encode_text')
