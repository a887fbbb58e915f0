"""RSTPReid with CLIP ViT-B/16: the field's recipe (configs/base.py) and what this dataset's shape asks for."""

from configs import base


def get_config():
    """The locked config; set data.root to the folder that holds data_captions.json and imgs/."""
    config = base.get_config()
    config.data.dataset = 'rstpreid'
    config.model.resize = 'bilinear'  # of the position table, 14 x 14 to 24 x 8 [IRRA]
    # 64 rows [IRRA]. K = 4, ours: five images an identity, so four meet in a batch and another one sits out each epoch
    config.batch.update(identities=16, views=4)
    # 60 epochs of 37,010 captions in batches of 64 [IRRA]; evaluated about once an epoch
    config.train.update(steps=34_700, eval_every=500, save_every=500, log_every=50)
    return config
