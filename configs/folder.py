"""Your own data without code: a table of (image, caption, id[, split]) in CSV or JSONL, see docs/data.md."""

from configs import base


def get_config():
    """The locked config; set data.root to the folder of the table, and data.folder.table if it is not people.csv."""
    config = base.get_config()
    config.data.dataset = 'folder'
    config.batch.update(identities=16, views=2)  # K = 2: most small collections have a few images of each person
    # ours: enough to see val rise or stall on a few thousand images; raise it with more data
    config.train.update(steps=2000, eval_every=200, save_every=200, log_every=20)
    return config
