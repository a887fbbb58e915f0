"""ICFG-PEDES with CLIP ViT-B/16: the field's recipe (configs/base.py) and what this dataset's shape asks for."""

from configs import base


def get_config():
    """The locked config; set data.root to the folder that holds ICFG-PEDES.json and imgs/."""
    config = base.get_config()
    config.data.dataset = 'icfg_pedes'  # has no val: nothing is selected, the last step is taken
    config.model.resize = 'bilinear'  # of the position table, 14 x 14 to 24 x 8 [IRRA]
    # 64 rows [IRRA]. K = 4, ours: about 11 images an identity, so that supports are full and drawn anew each epoch
    config.batch.update(identities=16, views=4)
    # 60 epochs of 34,674 captions in batches of 64 [IRRA]
    config.train.update(steps=32_500, eval_every=1000, save_every=1000, log_every=50)
    return config
