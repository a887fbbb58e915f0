"""About a minute on two cores: a tiny random model on a few synthetic pedestrians, for those who change the code.

Add to any other dataset's command: --config=configs/smoke.py --config.data.dataset=cuhk_pedes --config.data.root=...
"""

from configs import base


def get_config():
    """The locked config; its scores mean nothing."""
    config = base.get_config()
    config.model.update(
        pretrained='', architecture='tiny', image_size=(48, 24), context_length=32, vocab_size=1001, dtype='float32'
    )
    config.tokenizer = 'synthetic-pedestrians'
    config.data.demo.people = dict(train=24, val=8, test=8)
    config.batch.update(identities=4, views=3)
    config.augment.pad = 2
    for stage in (config.baseline, config.teacher, config.student, config.crossed, config.ensemble):
        stage.identity_weight = 0.0
    config.teacher.heads = 2
    config.optim.learning_rate = 1e-3
    config.train.update(steps=20, eval_every=10, save_every=10, log_every=5)
    config.evaluate.batch_size = 32
    return config
