"""Loads an export by its own runtime and embeds with it: a program of its own, in which nothing of the writer's is.

  python -m lcr2s_jax.weights.runtimes hf|open_clip|stablehlo FOLDER ROWS

ROWS holds what our evaluation embeds: image.npy uint8 [G, h, w, 3], tokens.npy int32 [Q, L], and where they come from,
captions.json and files/0, files/1, ... It gets
  found_image.npy, found_text.npy   f32 [G, E], [Q, E]: features
  found.json                        runtime: what embedded; loaded: which libraries were; and where the export has them,
                                    pixel_levels: largest difference of its image processor from image.npy, 0..255,
                                    captions_differ: how many captions its tokenizer tells otherwise than tokens.npy,
                                    note: what else to know
"""

import json
import pathlib
import sys
from collections.abc import Callable

import numpy as np

BLOCK = 64  # rows at a time
_LIBRARIES = ('jax', 'flax', 'torch', 'transformers', 'open_clip')
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP


def main(kind: str, folder: str, rows: str) -> None:
    """Embed the rows with the export in `folder` and write what was found beside them."""
    rows = pathlib.Path(rows)
    image, tokens = (np.load(rows / f'{name}.npy', mmap_mode='r') for name in ('image', 'tokens'))
    found = RUNTIMES[kind](pathlib.Path(folder), rows, image, tokens)
    for name in ('image', 'text'):
        np.save(rows / f'found_{name}.npy', found.pop(name))
    found['loaded'] = [name for name in _LIBRARIES if name in sys.modules]
    (rows / 'found.json').write_text(json.dumps(found))


def _hugging_face(folder: pathlib.Path, rows: pathlib.Path, image: np.ndarray, tokens: np.ndarray) -> dict:
    import torch
    import transformers
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, processor = CLIPTokenizer.from_pretrained(folder), CLIPImageProcessor.from_pretrained(folder)

    def encode(pixels):
        return model.get_image_features(torch.from_numpy(pixels), interpolate_pos_encoding=True).pooler_output

    captions = json.loads((rows / 'captions.json').read_text())
    ids = tokenizer(captions, padding='max_length', truncation=True, max_length=tokens.shape[1])['input_ids']
    ids, levels = np.array(ids), 0.0
    for start in range(0, len(image), BLOCK):
        files = [Image.open(rows / 'files' / str(i)) for i in range(start, min(start + BLOCK, len(image)))]
        theirs = processor(images=files, return_tensors='np')['pixel_values']
        ours = _normalised(image[start : start + BLOCK])
        levels = max(levels, float(np.max(np.abs(theirs - ours) * 255 * np.reshape(_STD, (3, 1, 1)))))
    with torch.no_grad():
        return {
            'runtime': f'transformers {transformers.__version__}, torch {torch.__version__}',
            'image': _blocks(lambda x: encode(_normalised(x)).numpy(), image),
            'text': _blocks(lambda x: model.get_text_features(torch.from_numpy(x)).pooler_output.numpy(), ids),
            'pixel_levels': round(levels, 3),
            'captions_differ': _differing(ids, tokens),
        }


def _open_clip(folder: pathlib.Path, rows: pathlib.Path, image: np.ndarray, tokens: np.ndarray) -> dict:
    try:
        import open_clip
        import torch
    except Exception as error:  # it is not there, or its torchvision does not fit the torch that is
        return _own_reader(folder, image, tokens, f'{type(error).__name__}: {error}')
    model = open_clip.create_model(f'local-dir:{folder}', require_pretrained=True).eval()
    captions = json.loads((rows / 'captions.json').read_text())
    differing = _differing(open_clip.get_tokenizer(f'local-dir:{folder}')(captions).numpy(), tokens)
    note = f'{differing} captions have other tokens there: its tokenizer mends quotes and entities first'
    with torch.no_grad():
        return {
            'runtime': f'open_clip {open_clip.__version__}, torch {torch.__version__}',
            'image': _blocks(lambda x: model.encode_image(torch.from_numpy(_normalised(x))).numpy(), image),
            'text': _blocks(lambda x: model.encode_text(torch.from_numpy(x)).numpy(), tokens),
        } | ({'note': note} if differing else {})


def _own_reader(folder: pathlib.Path, image: np.ndarray, tokens: np.ndarray, why: str) -> dict:
    """open_clip's layout read by this project, as any checkpoint is."""
    import jax

    from lcr2s_jax.weights import pretrained

    source, size = pretrained.open_source(str(folder)), (image.shape[1:3], tokens.shape[1])
    clip, params, _ = pretrained.build(source, *size, dtype='float32', kernel='einsum')
    encode = jax.jit(clip.apply, static_argnames='method')
    return {
        'runtime': f"this project's reader of open_clip's files, as open_clip itself is not there ({why})",
        'image': _blocks(lambda x: encode({'params': params}, x, method='encode_image'), image),
        'text': _blocks(lambda x: encode({'params': params}, x, method='encode_text'), tokens),
    }


def _stablehlo(folder: pathlib.Path, rows: pathlib.Path, image: np.ndarray, tokens: np.ndarray) -> dict:
    import jax
    from jax import export

    def encoder(name: str) -> Callable:
        program = export.deserialize((folder / f'{name}.stablehlo').read_bytes())
        weights = jax.device_put(dict(np.load(folder / f'{name}.npz')))
        return lambda x: program.call(weights, x)

    return {
        'runtime': f'jax {jax.__version__} on {jax.default_backend()}',
        'image': _blocks(encoder('image'), image),
        'text': _blocks(encoder('text'), tokens),
    }


RUNTIMES = {'hf': _hugging_face, 'open_clip': _open_clip, 'stablehlo': _stablehlo}


def _blocks(encode: Callable, rows: np.ndarray) -> np.ndarray:
    blocks = (np.array(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
    return np.concatenate([np.asarray(encode(block), np.float32) for block in blocks])


def _normalised(image: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] -> f32 [n, 3, h, w] as torch's models take it."""
    pixels = (np.asarray(image, np.float64) / 255 - _MEAN) / _STD
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)


def _differing(ids: np.ndarray, tokens: np.ndarray) -> int:
    """Captions whose ids differ up to the end of text, the highest id; behind it one pads with it, the other with 0."""
    end = tokens.argmax(axis=1)
    inside = np.arange(tokens.shape[1]) <= end[:, None]
    return int(np.sum((ids.argmax(axis=1) != end) | np.any(inside & (ids != tokens), axis=1)))


if __name__ == '__main__':
    main(*sys.argv[1:])
