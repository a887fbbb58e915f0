"""OpenAI's CLIP in plain torch, as literal as can be, and the files that others would save it in."""

import json

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from lcr2s_jax.models.clip import CLIP, PIXEL_MEAN, PIXEL_STD


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, length, activation):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.mlp = nn.Sequential()
        self.mlp.add_module('c_fc', nn.Linear(width, 4 * width))
        self.mlp.add_module('gelu', activation())
        self.mlp.add_module('c_proj', nn.Linear(4 * width, width))
        self.attn_mask = torch.full((length, length), float('-inf')).triu(1) if length else None

    def forward(self, x):  # [L, N, D]
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, layers, heads, activation, length=0):
        super().__init__()
        self.resblocks = nn.Sequential(*[Block(width, heads, length, activation) for _ in range(layers)])

    def forward(self, x):  # [N, L, D]
        return self.resblocks(x.permute(1, 0, 2)).permute(1, 0, 2)


class VisionTransformer(nn.Module):
    def __init__(self, clip: CLIP, activation):
        super().__init__()
        width, places = clip.vision_width, clip.grid[0] * clip.grid[1]
        self.conv1 = nn.Conv2d(3, width, clip.patch_size, clip.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(places + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, clip.vision_layers, clip.vision_heads, activation)
        self.proj = nn.Parameter(torch.zeros(width, clip.embed_dim))

    def forward(self, x):
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Bottleneck(nn.Module):
    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.avgpool = nn.AvgPool2d(stride)
        self.downsample = nn.Sequential()
        if stride > 1 or inside != 4 * width:
            self.downsample.add_module('-1', nn.AvgPool2d(stride))
            self.downsample.add_module('0', nn.Conv2d(inside, 4 * width, 1, bias=False))
            self.downsample.add_module('1', nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(self.avgpool(y))) + self.downsample(x))


class AttentionPool(nn.Module):
    def __init__(self, places, width, heads, out):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(places + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)

    def forward(self, x):
        x = x.flatten(2).permute(0, 2, 1)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        q, k, v = (  # [N, heads, places, width of a head]
            layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        return self.c_proj((weights @ v).transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    def __init__(self, clip: CLIP):
        super().__init__()
        width, places = clip.vision_width, clip.grid[0] * clip.grid[1]
        self.conv1, self.bn1 = nn.Conv2d(3, width // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv2, self.bn2 = nn.Conv2d(width // 2, width // 2, 3, 1, 1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv3, self.bn3 = nn.Conv2d(width // 2, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        inside = width
        for stage, count in enumerate(clip.vision_layers):
            out = width * 2**stage
            first = Bottleneck(inside, out, 2 if stage else 1)
            rest = [Bottleneck(4 * out, out, 1) for _ in range(count - 1)]
            self.add_module(f'layer{stage + 1}', nn.Sequential(first, *rest))
            inside = 4 * out
        self.attnpool = AttentionPool(places, 32 * width, clip.vision_heads, clip.embed_dim)

    def forward(self, x):
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = torch.relu(norm(conv(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.avgpool(x)))))
        return self.attnpool(x)


class TorchCLIP(nn.Module):
    """Both towers of the sizes of `clip`, every tensor random and none small."""

    def __init__(self, clip: CLIP, seed: int = 0):
        super().__init__()
        activation = {'quick_gelu': QuickGELU, 'gelu': nn.GELU}[clip.activation]
        vit = isinstance(clip.vision_layers, int)
        self.visual = VisionTransformer(clip, activation) if vit else ModifiedResNet(clip)
        self.transformer = Transformer(
            clip.text_width, clip.text_layers, clip.text_heads, activation, clip.context_length
        )
        self.token_embedding = nn.Embedding(clip.vocab_size, clip.text_width)
        self.positional_embedding = nn.Parameter(torch.zeros(clip.context_length, clip.text_width))
        self.ln_final = nn.LayerNorm(clip.text_width)
        self.text_projection = nn.Parameter(torch.zeros(clip.text_width, clip.embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(0.0))
        for name in ('input_resolution', 'context_length', 'vocab_size'):  # OpenAI's archives hold these
            self.register_buffer(name, torch.tensor(max(clip.image_size)))
        torch.manual_seed(seed)
        for name, tensor in self.state_dict().items():
            if tensor.dtype == torch.float32:
                scale = name.endswith(('running_var', 'weight')) and tensor.ndim == 1
                tensor.normal_(float(scale), 0.3 if tensor.ndim < 2 else 0.15)
                tensor.abs_() if name.endswith('running_var') else None
            if tensor.ndim == 4 or 'attnpool' in name and tensor.ndim == 2:  # neither vanishing nor saturated
                tensor.mul_(1.2 / (0.15 * tensor[0].numel() ** 0.5))
        self.eval()

    def forward(self, pixels, tokens):
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding)
        x = x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)]
        return self.visual(pixels), self.ln_final(x) @ self.text_projection


def inputs(image, tokens):
    """Our batch as torch wants it."""
    pixels = (image.astype(np.float64) / 255 - PIXEL_MEAN) / PIXEL_STD
    return torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32), torch.tensor(tokens).long()


def torch_features(model, image, tokens):
    with torch.no_grad():
        return [x.numpy() for x in model(*inputs(image, tokens))]


def arrays(model) -> dict[str, np.ndarray]:
    """Its weights as a file in open_clip's layout has them: less what is none."""
    constants = ('input_resolution', 'context_length', 'vocab_size')
    return {name: x.numpy() for name, x in model.state_dict().items() if name not in constants}


def save_archive(path, model, batch, half=False):
    """As OpenAI publishes it: traced, its constants within, often in half precision."""
    traced = torch.jit.trace(model, inputs(*batch))
    (traced.half() if half else traced).save(path)
    return path


def save_folder(path, model, clip, weights='open_clip_model.safetensors', prefix='', **changes):
    """As open_clip pushes it to the hub."""
    resnet = isinstance(clip.vision_layers, tuple)
    size = clip.image_size[0] if clip.image_size[0] == clip.image_size[1] else list(clip.image_size)
    vision = dict(
        image_size=size, width=clip.vision_width, layers=clip.vision_layers,
        patch_size=None if resnet else clip.patch_size,
        head_width=clip.vision_width * (32 if resnet else 1) // clip.vision_heads,
    )  # fmt: skip
    text = dict(context_length=12, vocab_size=60, width=clip.text_width, layers=clip.text_layers, heads=clip.text_heads)
    config = dict(embed_dim=clip.embed_dim, vision_cfg=vision, text_cfg=text)
    if clip.activation == 'quick_gelu':
        config['quick_gelu'] = True
    for part, values in changes.items():
        config[part] = config.get(part, {}) | values if isinstance(values, dict) else values
    path.mkdir(exist_ok=True)
    (path / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config, preprocess_cfg={})))
    tensors = {
        (name if name.startswith(('visual', 'logit')) else prefix + name): x for name, x in arrays(model).items()
    }
    if weights.endswith('.bin'):
        torch.save({name: torch.tensor(x) for name, x in tensors.items()}, path / weights)
    else:
        save_file(tensors, path / weights)
    return path


def save_checkpoint(path, model, prefix='base_model.', bare=False, heads=()):
    """As IRRA saves it: no temperature, other heads beside."""
    state = {prefix + name: torch.tensor(x) for name, x in arrays(model).items() if name != 'logit_scale'}
    state |= {name: torch.ones(3) for name in heads}
    torch.save(state if bare else {'model': state, 'epoch': 60, 'optimizer': {'lr': 1e-5}}, path)
    return path
