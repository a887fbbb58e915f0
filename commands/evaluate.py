"""python main.py evaluate: any weights, or the stages of a run, by one evaluator on val and test of a dataset."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from commands.inputs import Encoder, Inputs, open_inputs
from commands.workdir import config_of, data_of
from lcr2s_jax import api
from lcr2s_jax.errors import ConfigError
from lcr2s_jax.evaluation import evaluate as evaluation
from lcr2s_jax.evaluation.table import gallery_table, table
from lcr2s_jax.files import expanded
from lcr2s_jax.method.encoder import DualEncoder
from lcr2s_jax.model import TOWERS
from lcr2s_jax.training import run as runs
from lcr2s_jax.training.run import Run
from lcr2s_jax.training.run_files import read_facts
from lcr2s_jax.weights import layouts


def evaluate_weights(
    config: ConfigDict, weights: str, dtype: str, as_json: bool, enriched: Mapping | None = None, near: str = ''
) -> None:
    """Embed val and test of the config's dataset with `weights`, without training, and print what that finds.

    Args:
      config: says dataset, image size, context length and tokenizer.
      dtype: compute type; float32 is what comparisons are made in.
      enriched: further arguments of `evaluate.gallery_side`; None leaves that out.
      near: what `lcr2s_jax.load` takes; that model finds the neighbours there. '' for the model itself.
    """
    if (pathlib.Path(weights) / 'image.stablehlo').is_file():
        raise ConfigError(f'--weights: found StableHLO programs in {weights}, expected weights; export as hf instead')

    def opened(config: ConfigDict) -> Encoder:
        model = _load(config, weights, dtype)
        params = {tower: model.params(tower) for tower in TOWERS}
        return Encoder(model.clip, params | {'logit_scale': np.float32(0)}, model.tokenizer)

    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        inputs = open_inputs(config, ('val', 'test'), encoder=opened)
        encoder = DualEncoder(inputs.encoder.clip)
        params, others = {'clip': inputs.encoder.params}, _seen_by(inputs, near, dtype)
        results = {'weights': _scores(inputs, encoder, params, None, 0, enriched, others)}
    _tell(inputs, results, dtype, as_json)


def evaluate_run(
    workdir: pathlib.Path, stage: str, dtype: str, as_json: bool, enriched: Mapping | None = None, near: str = ''
) -> None:
    """Embed val and test of a run's dataset with its stages; arguments as of `evaluate_weights`, `stage` '' for all."""
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        config = config_of(workdir)
        names = [stage] if stage else runs.stages_of(workdir, read_facts(workdir))
        opened = [Run.open(workdir, name, dtype) for name in names or ['']]
        inputs, results = data_of(workdir, config, opened, ('val', 'test')), {}
        others = _seen_by(inputs, near, dtype)
        for one in opened:
            scores = _scores(inputs, one.encoder, one.params, one.fusion, one.views, enriched, others)
            results[one.stage] = {'step': one.step, **scores}
    _tell(inputs, results, dtype, as_json)


def _load(config: ConfigDict, weights: str, dtype: str):
    if layouts.is_run(expanded(weights)):
        return api.load(weights, dtype=dtype)
    fields = ('image_size', 'context_length', 'activation', 'heads', 'resize')
    given = {name: config.model[name] for name in fields}
    return api.load(weights, tokenizer=config.tokenizer, dtype=dtype, **given)


def _seen_by(inputs: Inputs, near: str, dtype: str) -> dict[str, np.ndarray]:
    """Split -> image vectors of the model that finds neighbours, for all stages; nothing without one."""
    if not near:
        return {}
    model = api.load(near, dtype=dtype)
    return {split: model.encode_image(list(inputs.splits[split].jpegs)) for split in inputs.evaluated}


def _scores(
    inputs: Inputs, encoder: DualEncoder, params, fusion, views: int, enriched: Mapping | None, near: Mapping
) -> dict:
    embedder, scores = evaluation.Embedder(encoder, inputs.parallel), {}
    for split in inputs.evaluated:
        embeddings = inputs.embed(embedder, params, split)
        scores[split] = evaluation.retrieval_metrics(embeddings)
        if fusion:
            rich = evaluation.with_supports(fusion, params, embeddings, views)
            scores.setdefault('with_supports_oracle', {})[split] = evaluation.retrieval_metrics(rich)
        if enriched:
            apart = evaluation.gallery_side(embeddings, **enriched, near_GE=near.get(split))
            scores.setdefault('gallery_side', {})[split] = apart
    return scores


def _tell(inputs: Inputs, results: dict, dtype: str, as_json: bool) -> None:
    results = results | {'oracle': inputs.oracle(), 'random': inputs.random()}
    if as_json:
        print(json.dumps(results | {'dtype': dtype}, indent=2))
        return
    for split in inputs.evaluated:
        print('\n' + table(results, split))
        if apart := gallery_table(results, split):
            print('\n' + apart)
    print(f'\ncomputed in {dtype}')
