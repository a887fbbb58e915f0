"""The identity classifier shared by images and texts: one prototype for each person."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class IdentityHead(nn.Module):
    """One linear classifier for both modalities.  [field: IRRA]"""

    num_people: int  # C, the identities of the training split

    @nn.compact
    def __call__(self, x_NE: jax.Array) -> jax.Array:
        """Logits [N, C], float32."""
        chex.assert_rank(x_NE, 2)
        # std .001: nearly uniform predictions at step 0, so that its gradient does not disturb the towers at once
        dense = nn.Dense(
            self.num_people,
            kernel_init=nn.initializers.normal(0.001),
            precision=jax.lax.Precision.HIGHEST,  # as all of the losses
            name='classifier',
        )
        return dense(x_NE.astype(jnp.float32))
