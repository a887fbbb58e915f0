"""What every source of people yields: a record for each image, or why it cannot be used."""

import dataclasses

TOLERATED = 0.01  # share of unusable images that stops a build: more means a damaged copy


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its captions, before it is tokenised and stored."""

    split: str
    person: str  # the identity as its source names it; identities are never shared by splits
    file_name: str  # unique within the source, with forward slashes
    jpeg: bytes
    captions: tuple[str, ...]  # one sentence or more about this very image


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An image that a source names and that cannot be used, and the reason, half a sentence."""

    file_name: str
    reason: str
