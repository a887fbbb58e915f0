"""The training step of torch's CLIPModel, for benchmarks.step: the same sizes, loss, optimiser and device as ours."""

import os

import numpy as np

from lcr2s_jax.arrays import Batch
from lcr2s_jax.models import clip as ours


def stepper(clip, batch: Batch, optim: dict, compiled: bool, checkpoints: bool = False):
    """(n=1) -> None: n whole steps, the last waited for; with SDPA, fused Adam, autocast where ours is bfloat16.

    With `checkpoints` a block's insides are computed again in the backward pass, as our remat does it.
    """
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # XLA's default on a GPU as well
    with torch.device(device):
        model = network(clip)
    if checkpoints:
        model.gradient_checkpointing_enable({'use_reentrant': False})
    adam = torch.optim.Adam(
        model.parameters(), optim['learning_rate'], (optim['b1'], optim['b2']), optim['eps'], fused=True
    )
    pixels = torch.from_numpy(batch.image_BKhwc.reshape(-1, *clip.image_size, 3)).to(device)
    ids = torch.from_numpy(batch.tokens_BKL.reshape(-1, clip.context_length)).long().to(device)
    labels = torch.arange(len(ids), device=device)
    mean, std = (torch.tensor(np.float32(x), device=device) * 255 for x in (ours.PIXEL_MEAN, ours.PIXEL_STD))

    def loss():
        with torch.autocast(device, torch.bfloat16, enabled=clip.dtype == 'bfloat16'):
            values = ((pixels - mean) / std).permute(0, 3, 1, 2)
            out = model(input_ids=ids, pixel_values=values, interpolate_pos_encoding=True)
            logits = 50.0 * out.image_embeds @ out.text_embeds.T
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits.float(), labels) + cross_entropy(logits.T.float(), labels)) / 2

    loss = torch.compile(loss, dynamic=False) if compiled else loss

    def call(n: int = 1):
        for _ in range(n):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), optim['clip_norm'])
            adam.step()
        if device == 'cuda':
            torch.cuda.synchronize()

    return call


def network(clip):
    """transformers' CLIPModel of the same sizes, random weights, scaled-dot-product attention."""
    import transformers

    height, _ = clip.image_size
    text = dict(
        hidden_size=clip.text_width, intermediate_size=4 * clip.text_width, num_hidden_layers=clip.text_layers,
        num_attention_heads=clip.text_heads, max_position_embeddings=clip.context_length, vocab_size=clip.vocab_size,
        eos_token_id=clip.vocab_size - 1,
    )  # fmt: skip
    vision = dict(
        hidden_size=clip.vision_width, intermediate_size=4 * clip.vision_width, num_hidden_layers=clip.vision_layers,
        num_attention_heads=clip.vision_heads, image_size=height, patch_size=clip.patch_size,
    )  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=clip.embed_dim)
    return transformers.CLIPModel._from_config(config, attn_implementation='sdpa').train()
