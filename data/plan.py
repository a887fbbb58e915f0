"""Which images and captions form each batch: a pure function of (seed, step), on every host.

Identity-balanced (P identities x K views) for K > 1, one-to-one for K = 1. NumPy only.
"""

import numpy as np

from lcr2s_jax.errors import DataError
from lcr2s_jax.texts import counted

_STEPS = 4096  # drawn at a time


class Plan:
    """The batches of an endless run over one split.

    Every epoch, of `steps_per_epoch`, shuffles each identity's images and cuts them into chunks of K distinct images.
    Of n images, n mod K sit out the epoch; an identity with n < K has one chunk, filled up by repeats, which the
    model's support mask drops by their view id. For K > 1 no identity occurs twice in a batch. The incomplete last
    batch is dropped. With `captions` > 1 an image takes so many slots in a row, each with another of its captions while
    there are others; K / captions images make a chunk. [ours]
    """

    def __init__(
        self,
        image_pid: np.ndarray,
        caption_image: np.ndarray,
        *,
        identities: int,
        views: int,
        captions: int,
        seed: int,
        left_out: tuple[int, ...] = (),
    ):
        """Count what an epoch holds.

        Args:
          image_pid, caption_image: identity of every image, image of every caption; int [images], [captions].
          identities, views: B, chunks in a batch, and K, slots of each.
          captions: slots of an image, a divisor of K.
          left_out: (i, n) for no image of fold i of n: of identities whose number leaves the remainder i.

        Raises DataError: the split cannot fill one batch, or an image has no caption.
        """
        if identities < 1 or views < 1 or captions < 1 or views % captions:
            raise DataError(
                f'config.batch: found identities={identities}, views={views}, captions={captions}; expected 1 or more '
                'of each, and captions to divide views.'
            )
        self._B, self._K, self._slots, self._seed = identities, views // captions, captions, seed
        self._cached: tuple = (None, ())
        self._pid = np.asarray(image_pid)
        self._count_P = np.bincount(self._pid)
        self._first_P = np.cumsum(self._count_P) - self._count_P
        # int32 where there is one an image: at millions of images the plan is most of what is held
        self._captions = np.argsort(caption_image, kind='stable').astype(np.int32)
        self._captions_of = np.bincount(caption_image, minlength=len(self._pid)).astype(np.int32)
        self._first_caption = np.cumsum(self._captions_of, dtype=np.int32) - self._captions_of
        chunks_P = np.maximum(self._count_P // self._K, self._count_P > 0)
        if left_out:
            chunks_P[left_out[0] :: left_out[1]] = 0
        self._random = views == 1  # one-to-one: anybody may meet himself
        self.steps_per_epoch = _steps(chunks_P, identities, self._random)
        self._chunks_P = chunks_P if self._random else np.minimum(chunks_P, self.steps_per_epoch)
        self._check()

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images [B, K] of one global batch, which are its view ids, captions [B, K] and identities [B], int32."""
        epoch, step = divmod(step, self.steps_per_epoch)
        if self._cached[0] != epoch:
            self._cached = epoch, self._shuffle(epoch)
        return tuple(array[step] for array in self._cached[1])

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self._seed, epoch))
        shuffled = np.lexsort((rng.random(len(self._pid)), self._pid)).astype(np.int32)  # by identity, each at random
        pid, number = self._layout(rng)
        places = [np.empty((*pid.shape, self._K * self._slots), np.int32) for _ in ('images', 'captions')]
        for start in range(0, len(pid), _STEPS):  # some at a time: what is in between would be several times the plan
            some = slice(start, start + _STEPS)
            for place, found in zip(places, self._drawn(rng, shuffled, pid[some], number[some]), strict=True):
                place[some] = found
        return *places, pid

    def _drawn(self, rng: np.random.Generator, shuffled: np.ndarray, pid: np.ndarray, number: np.ndarray) -> tuple:
        """Images and captions [steps, B, K] of chunks [steps, B]; draws one number an image from `rng`, in order."""
        slot = number[..., None] * self._K + np.arange(self._K)
        count = self._count_P[pid][..., None]
        image = shuffled[self._first_P[pid][..., None] + slot % count]
        draw = rng.random(image.shape)
        if self._K > 1:  # a repeat goes on from the caption that its first occurrence drew
            draw = np.take_along_axis(draw, np.where(count < self._K, slot % count, slot % self._K), axis=-1)
        turn = (slot // count).astype(np.int32)
        if self._slots > 1:
            image, draw, turn = (np.repeat(x, self._slots, axis=-1) for x in (image, draw, turn))
            turn = turn * self._slots + np.arange(image.shape[-1], dtype=np.int32) % self._slots
        captions = self._captions_of[image]
        nth = ((draw * captions).astype(np.int32) + turn) % captions
        return image, self._captions[self._first_caption[image] + nth]

    def _layout(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Identity, and which of its chunks, at every place of the epoch: int32 [steps, B] each."""
        S, B = self.steps_per_epoch, self._B
        people = rng.permutation(len(self._chunks_P))
        pid = np.repeat(people.astype(np.int32), self._chunks_P[people])
        first = (np.cumsum(self._chunks_P[people]) - self._chunks_P[people]).astype(np.int32)
        number = np.arange(len(pid), dtype=np.int32) - np.repeat(first, self._chunks_P[people])
        if self._random:
            place = rng.permutation(len(pid))[: S * B].reshape(S, B)
        else:
            # Dealt like cards to S batches: nobody has more than S chunks, so no batch gets two.
            place = np.arange(S * B).reshape(B, S).T[rng.permutation(S)]
        return pid[place], number[place]

    def _check(self) -> None:
        people, images = int((self._count_P > 0).sum()), len(self._pid)
        if self.steps_per_epoch == 0:
            have = f'{images} images' if self._random else f'{people} identities'
            raise DataError(
                f'config.batch: found identities={self._B} with views={self._K}, but the split has '
                f'{have} only. Set config.batch.identities to that or less.'
            )
        if not self._captions_of.all():
            bare = np.flatnonzero(self._captions_of == 0)
            raise DataError(
                f'found {counted(len(bare), "image")} without a caption, the first of them image {bare[0]} of '
                'the split; expected one caption or more for each. Remove them from the '
                'annotations.'
            )


def _steps(chunks_P: np.ndarray, identities: int, random: bool) -> int:
    """The most batches that can be filled, each with distinct identities unless they are `random`."""
    most = int(chunks_P.sum()) // identities
    if random:
        return most
    enough, too_many = 0, most + 1
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if np.minimum(chunks_P, middle).sum() >= middle * identities:
            enough = middle
        else:
            too_many = middle
    return enough
