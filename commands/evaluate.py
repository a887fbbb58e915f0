"""python main.py evaluate --config=... --weights=...: anybody's CLIP, or a peer's checkpoint, in the same evaluator."""

import contextlib
import json
import sys

from ml_collections import ConfigDict


def evaluate(config: ConfigDict, weights: str, as_json: bool) -> None:
    """Embed val and test of the config's dataset with `weights`, without training, and print what they find.

    Args:
      config: says dataset, image size, context length and tokenizer.
      weights: what config.model.pretrained takes, checkpoints of the IRRA family among them.
      as_json: print the results as JSON instead of tables.
    """
    import jax

    from commands.inputs import Inputs
    from lcr2s_jax.evaluation import evaluate
    from lcr2s_jax.method import stages
    from lcr2s_jax.training import report

    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        inputs = Inputs(config, weights)
        stage = stages.baseline_stage(inputs.clip, inputs.clip_params, 1, **config.baseline)
        embedder, params = evaluate.Embedder(stage, inputs.parallel), stage.init(jax.random.key(0))
        found = {split: evaluate.both_ways(inputs.embed(embedder, params, split)) for split in inputs.evaluated}
    results = {'weights': found, 'oracle': inputs.oracle(), 'chance': inputs.chance()}
    if as_json:
        print(json.dumps(results, indent=2))
        return
    for split in inputs.evaluated:
        print('\n' + report.table(results, split))
