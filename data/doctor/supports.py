"""What a config makes of the data: the supports that K views leave each row, whole batches, captions that are cut."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data.annotations import Entry
from data.doctor.checks import AS_TOLD, Finding, first
from data.plan import Plan
from lcr2s_jax.errors import DataError
from lcr2s_jax.texts import counted
from lcr2s_jax.weights.tokenizer import Tokenizer

VIEWS = (2, 3, 4, 5, 8)  # the K that are compared
_COMPLETE = 0.9  # share of rows with full supports from which on a K is fine; ours
_AT_ONCE = 4096  # captions


def shares(images_P: np.ndarray, views: int, captions: int = 1) -> dict[str, float]:
    """What an epoch of `data.plan.Plan` looks like for K views.

    Args:
      images_P: images of each identity, int [P], 1 or more.
      captions: rows in a row that an image takes, a divisor of K.

    Returns:
      views; complete, share of the rows whose supports, K / captions - 1 other images, are all there; repeats, share
      of the rows that are masked repeats; idle, share of the images that sit out the epoch.
    """
    images = views // captions
    whole = images_P >= images
    slots = np.maximum(images_P // images, 1).sum() * images
    return dict(
        views=views,
        complete=float((images_P // images)[whole].sum() * images / slots),
        repeats=float((images - images_P[~whole]).sum() / slots),
        idle=float((images_P % images)[whole].sum() / images_P.sum()),
    )


def by_views(entries: Sequence[Entry], views: int, captions: int) -> list[dict[str, float]]:
    """`shares` for the usual K and the config's, of the training split's usable entries; those K that can be."""
    _, images_P = np.unique([entry.person for entry in entries], return_counts=True)
    captions = max(captions, 1)
    possible = {k for k in (*VIEWS, views) if k % captions == 0 and k > captions} or {2 * captions}
    return [shares(images_P, k, captions) for k in sorted(possible)]


def batches(entries: Sequence[Entry], identities: int, views: int, captions: int) -> Iterator[Finding]:
    """Can batches be filled, and with what?"""
    _, pid = np.unique([entry.person for entry in entries], return_inverse=True)
    caption_image = np.repeat(np.arange(len(entries)), [len(entry.captions) for entry in entries])
    try:
        plan = Plan(pid, caption_image, identities=identities, views=views, captions=captions, seed=0)
    except DataError as error:
        yield Finding('error', 'batch', str(error), 'Training stops before its first step.', AS_TOLD)
        return
    steps = f'an epoch is {counted(plan.steps_per_epoch, "step")} of {identities * views} rows'
    if views == captions:
        more = f' and config.batch.captions = {captions}, a single image' if captions > 1 else ''
        yield Finding(
            'note', 'views', f'config.batch.views = {views}{more}: no row has a support; {steps}',
            'The teacher enriches nothing and is a baseline.',
            f'config.batch.views = {2 * captions} or more for teacher and student.',
        )  # fmt: skip
        return
    yield _advice(by_views(entries, views, captions), views, captions, steps)


def _advice(table: Sequence[Mapping[str, float]], views: int, captions: int, steps: str) -> Finding:
    """Is the config's K one that the data supports?"""
    now = next(row for row in table if row['views'] == views)
    fine = [row['views'] for row in table if row['complete'] >= _COMPLETE]
    found = (
        f'config.batch.views = {views}: {now["complete"]:.0%} of the rows have full supports, '
        f'{now["repeats"]:.0%} are masked repeats, {now["idle"]:.0%} of the images sit out an epoch; {steps}'
    )
    if views in fine:
        return Finding('good', 'views', found)
    if fine:
        do = f'config.batch.views = {max(fine)}, with which {_COMPLETE:.0%} of the rows or more have them all.'
    else:
        alone = f'config.batch.views = {captions}'
        do = f'More images of each identity; the baseline alone, with {alone}, needs no supports.'
    return Finding(
        'warning' if now['complete'] < 0.5 else 'note', 'views', found,
        'The other rows are enriched by fewer views; a repeat shows its image with another caption, supporting nobody.',
        do,
    )  # fmt: skip


def long_captions(entries: Sequence[Entry], tokenizer: str, context_length: int) -> Iterator[Finding]:
    try:
        words = Tokenizer(tokenizer)
    except DataError as error:
        yield Finding(
            'note', 'tokens', f'captions were not counted in tokens: {error}', 'Those that are too long are cut.',
            'Run the doctor again once the weights are there; training needs them too.',
        )  # fmt: skip
        return
    captions = [(caption, entry) for entry in entries for caption in entry.captions]
    lengths = [
        length
        for start in range(0, len(captions), _AT_ONCE)
        for length in words.lengths([caption for caption, _ in captions[start : start + _AT_ONCE]]).tolist()
    ]
    cut = [(length, entry) for length, (_, entry) in zip(lengths, captions, strict=True) if length > context_length]
    longest = f'the longest of {counted(len(captions), "caption")} has {max(lengths, default=0)} tokens'
    if not cut:
        yield Finding('good', 'tokens', f'{longest}, the model reads {context_length}')
        return
    yield Finding(
        'note', 'tokens', f'found {counted(len(cut), "caption")} of more than {context_length} tokens; {longest}',
        'They are cut: the model does not see their ends.',
        'Nothing, if they are few; else shorter sentences, or a larger config.model.context_length: the position table '
        'of the texts is resized then, and training fits it.',
        first(f'{entry.file_name}: {length} tokens' for length, entry in cut),
    )  # fmt: skip
