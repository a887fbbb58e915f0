"""Some minutes on two cores: drawn people, the small CLIP that comes with the project, the real recipe."""

from configs import base


def get_config():
    """The locked demo config."""
    config = base.get_config()
    config.model.update(
        pretrained='synthetic-pedestrians',
        image_size=(96, 48),
        context_length=32,
        vocab_size=1001,
        dtype='float32',
    )
    config.augment.pad = 4
    config.optim.update(learning_rate=2e-4)
    config.train.update(steps=600, eval_every=100, save_every=100, log_every=20)
    return config
