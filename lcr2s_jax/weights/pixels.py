"""Pictures of another mean and deviation than OpenAI's: the difference is folded into the first layer, exactly (ours).

A patch x as the model wants it is a x' + b: x' is normalised as OpenAI's, a = std' / std, b = (mean' - mean) / std. So
W x = (W a) x' + W b. W b is the same for every patch and is added to its position. LAION's ViT-L/14 is such a model.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD
from lcr2s_jax.weights.reading import brief


class Pixels(NamedTuple):
    """Mean and deviation of each colour, of pixels in 0..1."""

    mean: tuple[float, float, float] = PIXEL_MEAN
    std: tuple[float, float, float] = PIXEL_STD


def read(values: Mapping[str, Any], mean: str, std: str, resnet: bool) -> tuple[Pixels, list[str]]:
    """What a file says under these two names, and what of it cannot be used, as `name = ..., expected ...`.

    A ResNet pads its picture, so that nothing can be folded: it has to have OpenAI's.
    """
    found, faults = Pixels(), []
    for field, name, ours, low in (('mean', mean, PIXEL_MEAN, -10), ('std', std, PIXEL_STD, 1e-3)):
        value = values.get(name) or ours
        numbers = isinstance(value, list | tuple) and all(type(one) in (int, float) for one in value)
        if not numbers or len(value) != 3 or not all(low <= one <= 10 for one in value):
            told = str(value)[:60] if numbers else brief(value)
            faults.append(f'{name} = {told}, expected one number a colour, such as {list(ours)}')
        elif resnet and not np.allclose(value, ours, atol=1e-3):
            faults.append(f'{name} = {str(value)[:60]} of a ResNet, expected {list(ours)}')
        else:
            found = found._replace(**{field: tuple(map(float, value))})
    return found, faults


def folded(params: dict, clip: CLIP, pixels: Pixels) -> dict:
    """The parameters with which `clip`, given pixels that are normalised as OpenAI's, has the model's own features."""
    if np.allclose(pixels, Pixels(), atol=1e-3):
        return params
    mean, std, our_mean, our_std = (np.asarray(x, np.float64) for x in (*pixels, PIXEL_MEAN, PIXEL_STD))
    vision = params['vision']
    kernel_PcD = np.asarray(vision['patch']['kernel'], np.float64).reshape(-1, 3, clip.vision_width)
    moved_D = np.einsum('PcD,c->D', kernel_PcD, (our_mean - mean) / std)
    kernel = (kernel_PcD * (our_std / std)[:, None]).reshape(-1, clip.vision_width).astype(np.float32)
    positions = np.array(vision['positions'], np.float32)
    positions[1:] += moved_D.astype(np.float32)  # the first is the class token's
    return params | {'vision': vision | {'patch': {'kernel': kernel}, 'positions': positions}}
