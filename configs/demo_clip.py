"""Pre-trains the demo's CLIP from scratch, one image to one caption; run by `python -m benchmarks.demo_clip`."""

from configs import demo


def get_config():
    """The locked config of the pre-training."""
    config = demo.get_config()
    config.stages = ('baseline',)
    config.model.update(pretrained='', architecture='demo')
    config.tokenizer = ''  # benchmarks/demo_clip.py trains one first
    # other people than the demo's, in clear photographs: CLIP's web pictures do not come from surveillance cameras
    config.data.demo.update(seed=1000, people=dict(train=20_000, val=100, test=100), cameras=False)
    config.batch.update(identities=128, views=1)  # one-to-one: random batches
    config.augment.erase = config.masking.prob = 0.0  # 12 epochs of 100,000 images hardly overfit
    config.baseline.update(align='infonce', identity_weight=0.0, scale=30.0)
    config.optim.update(
        learning_rate=1e-3, rules=(('logit_scale', 0.0, 0.0), ('bias|ln_', 1.0, 0.0), ('.*', 1.0, 0.05))
    )
    # The committed weights: 7,500 steps on the schedule of 16,000, then resumed on that of 9,500, which cools down
    # within 2,000 steps. From scratch, this command follows the latter throughout.
    config.train.update(steps=9_500, eval_every=1000, save_every=500, log_every=20)
    return config
