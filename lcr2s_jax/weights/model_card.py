"""The model card that lies beside an export: what it is, what it was made of, what it is for, how to load it."""

import hashlib
import json
import pathlib
from collections.abc import Sequence

import jax

from lcr2s_jax.training.parallel import fingerprint
from lcr2s_jax.training.run import Run
from lcr2s_jax.training.run_files import read_config, read_results

_BY_APPLICATION = 'academic use, by application to its authors, not to be passed on'
_DATA = {
    'demo': ('pedestrians and captions drawn by this project: no photograph, no face, no real person', 'Apache-2.0'),
    'cuhk_pedes': ('CUHK-PEDES, photographs of people', _BY_APPLICATION),
    'icfg_pedes': ('ICFG-PEDES, photographs of people', _BY_APPLICATION),
    'rstpreid': ('RSTPReid, photographs of people', _BY_APPLICATION),
    'orbench': ('ORBench, photographs of people', _BY_APPLICATION),
    'chatpedes': ('ChatPedes: dialogues on the photographs of CUHK-PEDES', _BY_APPLICATION),
    'folder': ('a table of images of the one who trained it', 'theirs to say; the rights of those who are shown hold'),
}
_LIBRARY = {'hf': 'transformers', 'open_clip': 'open_clip', 'stablehlo': 'jax'}
_LOAD = {
    'hf': """
from transformers import CLIPModel, CLIPProcessor
model, processor = CLIPModel.from_pretrained('.'), CLIPProcessor.from_pretrained('.')
rows = processor(text=sentences, images=pictures, padding=True, truncation=True, return_tensors='pt')
found = model(**rows, interpolate_pos_encoding=True)
cosine = found.text_embeds @ found.image_embeds.T
""",
    'open_clip': """
import open_clip
model, _, pixels = open_clip.create_model_and_transforms('local-dir:.')
v = model.eval().encode_image(torch.stack([pixels(picture) for picture in pictures]), normalize=True)
t = model.encode_text(open_clip.get_tokenizer('local-dir:.')(sentences), normalize=True)
cosine = t @ v.T
""",
    'stablehlo': """
import jax, numpy as np
from jax import export
image, text = (export.deserialize(open(name + '.stablehlo', 'rb').read()) for name in ('image', 'text'))
v = image.call(dict(np.load('image.npz')), pixels)  # uint8 [n, {height}, {width}, 3] -> f32 [n, {embed_dim}]
t = text.call(dict(np.load('text.npz')), tokens)    # int32 [n, {context_length}] -> f32 [n, {embed_dim}]
""",
}
_BESIDE = {
    'hf': 'The position table is square, as CLIPModel has it; `interpolate_pos_encoding=True` makes the learned one of '
    'it.\nWithout torchvision, transformers takes Pillow for the pixels and says so.',
    'open_clip': 'Its tokenizer mends quotes and entities before it reads a sentence; ours does not.',
    'stablehlo': 'Pixels are 0..255 and normalised inside; features are not normalised: divide them by their norm to'
    '\ncompare. Tokens are those of tokenizer.json between `<|startoftext|>` and `<|endoftext|>`, then 0. One program'
    '\nserves cpu, cuda and tpu, in batches of any size, with the full precision of float32. JAX reads such programs'
    '\nfor six months of its releases: make the export again rather than archive it.',
}


def card(run: Run, kind: str, folder: pathlib.Path, checked: Sequence[str] | None) -> str:
    """Markdown with the header that the Hugging Face hub reads; figures are those of results.json, if it is there.

    `checked` is what `lcr2s_jax.weights.export.check` compared; None where nothing was checked.
    """
    config, clip = read_config(run.workdir), run.clip
    made_of = config.pop('made_of', {})
    height, width = clip.image_size
    sizes = dict(height=height, width=width, embed_dim=clip.embed_dim, context_length=clip.context_length)
    what, terms = _DATA.get(config['data']['dataset'], _DATA['folder'])
    dtype = config['model']['dtype']
    start = config['model']['pretrained'] or f'random weights ({config["model"]["architecture"]})'
    own = start in ('synthetic-pedestrians', 'lcr2s_jax/weights/demo_clip')
    start_terms = 'Apache-2.0' if own else 'that of whoever published them'
    load = _LOAD[kind].strip()
    if kind == 'stablehlo':
        load = load.format(**sizes)
    sections = [
        f"""---
license: other
license_name: see-licences-below
library_name: {_LIBRARY[kind]}
tags: [text-to-image-retrieval, person-re-identification, clip, lcr2s]
---

# Text-to-image person re-identification: an LCR²S student

A dual encoder (CLIP's two towers) that ranks pictures of people by one sentence. Trained by the two stages of *Learning
Comprehensive Representations with Richer Self* (ACM MM 2023), as re-implemented in JAX. This is the {run.stage} of step
{run.step:,}, the best on val where there is one. Pictures are resized to {height} pixels by {width}, height by
width, bilinearly, without a crop; sentences are cut at {clip.context_length} tokens; a feature has {clip.embed_dim}
numbers.""",
        f'## Load it\n\nIn this folder:\n\n```python\n{load}\n```\n\n{_BESIDE[kind]}',
        '## Checked\n\n'
        + ('\n'.join(f'- {line}' for line in checked) if checked else '**Unchecked**: no runtime has loaded it.'),
        f'## Figures\n\n{_figures(run, dtype)}',
        f'## Data\n\n{what[0].upper() + what[1:]}. Starting weights: `{start}`.{_domain(run)}',
        """## Intended use

Research on cross-modal retrieval, and search in collections whose subjects have consented or which the law lets you
search for the purpose at hand.

**Out of scope.** Surveillance of people who have not consented; identification for policing, employment, migration or
access decisions; any use in which a ranked list is taken for an identification. OpenAI's CLIP model card puts
surveillance out of scope regardless of performance; weights that start from OpenAI's CLIP inherit that.

**Known failures.** One view does not show what another does; people dressed alike are confused, and one who changes
clothes is lost; rare garments, occlusion and low resolution hurt; descriptions of skin, gender and age carry the biases
of the starting weights and of the annotators.""",
        f"""## Licences

| part | licence |
|---|---|
| the code that made this | Apache-2.0 |
| starting weights `{start}` | {start_terms} |
| training data | {terms} |

Who passes the weights on answers for all three.""",
        f'## Files\n\n{_hashes(run, folder, made_of)}',
        f'## Config\n\n```json\n{_fields(config)}\n```',
    ]
    return '\n\n'.join(sections) + '\n'


def _domain(run: Run) -> str:
    if run.facts['trained_on'].get('kind') != 'synthetic pedestrians':
        return ''
    return '\n\n**It knows synthetic pedestrians only**: its ranking of photographs is close to chance.'


def _figures(run: Run, dtype: str) -> str:
    """The stage's rows of results.json, in percent."""
    path = run.workdir / 'results.json'
    found = read_results(run.workdir, [run.stage]) if path.is_file() else {}
    names = ('R1', 'R5', 'R10', 'mAP', 'mINP')
    rows = [
        f'| {split}, {direction} | ' + ' | '.join(f'{found[run.stage][split][way][name]:.1f}' for name in names) + ' |'
        for split in ('test', 'val')
        for way, direction in (('t2i', 'sentences find pictures'), ('i2t', 'pictures find sentences'))
        if split in found.get(run.stage, {})
    ]
    if not rows:
        return 'The run was not evaluated (no results.json).'
    head = '| percent | R@1 | R@5 | R@10 | mAP | mINP |\n|---|---|---|---|---|---|\n'
    return head + '\n'.join(rows) + f'\n\nOne run, evaluated in {dtype}; every item of the person counts as relevant.'


def _hashes(run: Run, folder: pathlib.Path, made_of: dict) -> str:
    """SHA-256 of every file, and of what the stage was made of."""
    rows = []
    for path in sorted(folder.iterdir()):
        with path.open('rb') as file:
            rows.append(f'| `{path.name}` | `{hashlib.file_digest(file, "sha256").hexdigest()}` |')
    made_of = made_of | {run.stage: fingerprint(run.params['clip']), 'tokenizer': run.tokenizer.fingerprint}
    rows += [f'| ({name}) | `{digest}` |' for name, digest in made_of.items()]
    note = f'In brackets: what it was made of, hashed as in the run. Written with jax {jax.__version__}.'
    return '| file | SHA-256 |\n|---|---|\n' + '\n'.join(rows) + f'\n\n{note}'


def _fields(config: dict) -> str:
    """One line for each group; where data and devices were is nobody else's business."""
    del config['parallel'], config['data']['root'], config['data']['cache']
    return '{\n' + ',\n'.join(f'  {json.dumps(name)}: {json.dumps(value)}' for name, value in config.items()) + '\n}'
