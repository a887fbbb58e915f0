"""How well are people found and followed?  python -m benchmarks.video --video=F --truth=gt.txt [--detector=D]

The truth is in MOTChallenge's format: frame (from 1), person, left, top, width, height, considered (0: not), and in
nine columns class (1: a pedestrian). Frames, detector, tracker and least sightings are those of `lcr2s index --video`.
Public footage: vtest.avi of Debian's opencv-doc is PETS09-S2L1 of MOT15, whose gt.txt motchallenge.net has.
"""

import argparse
import collections
import pathlib
import sys
import time

import numpy as np

from benchmarks import common, tracking
from benchmarks.tracking import Frame
from lcr2s_jax.errors import DataError
from lcr2s_jax.video import crops, detectors
from lcr2s_jax.video import frames as video


def main() -> None:
    """Print the figures and write docs/evidence/video.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--video', required=True, type=pathlib.Path, help='video file')
    parser.add_argument('--truth', required=True, type=pathlib.Path, help='ground truth as of MOTChallenge, gt.txt')
    parser.add_argument('--detector', default='hog', help='as of `lcr2s index`')
    parser.add_argument('--every', type=float, default=0.2, help='seconds between two frames')
    parser.add_argument('--min-seen', type=int, default=crops.MIN_SEEN, help='least number of frames of a track')
    parser.add_argument('--out', type=pathlib.Path, default=common.OUT, help='folder of video.json')
    args = parser.parse_args()
    try:
        row = measure(args.video, read_truth(args.truth), args.detector, args.every, args.min_seen)
    except DataError as error:
        sys.exit(str(error))
    print('\n'.join(f'{name:22} {value:.3f}' if isinstance(value, float) else f'{name:22} {value}'
                    for name, value in row.items()))  # fmt: skip
    print(f'written: {common.save("video", [row], args.out)}')


def read_truth(path: pathlib.Path) -> dict[int, list[tuple]]:
    """Frame from 0 -> (person, left, top, right, bottom) of those that are considered. Raises DataError."""
    truth, number = collections.defaultdict(list), 0
    try:
        for number, line in enumerate(path.read_text().splitlines(), 1):  # noqa: B007 - told below
            if not line.strip():
                continue
            one = [float(field) for field in line.split(',')]
            frame, person, left, top, width, height, considered = one[:7]
            if considered and (len(one) != 9 or one[7] == 1):
                truth[int(frame) - 1].append((int(person), left, top, left + width, top + height))
    except (OSError, ValueError) as error:
        where = f', line {number}' if isinstance(error, ValueError) else ''
        raise DataError(
            f'--truth: {path}{where}: {error}; expected lines of frame,person,left,top,width,height,considered'
        ) from None
    return truth


def measure(path: pathlib.Path, truth: dict, name: str, every: float, min_seen: int) -> dict:
    """All figures of one video."""
    detector, reading = detectors.open_detector(name), video.Frames(path, every)
    looked, found, began = [], [], time.perf_counter()
    for one in crops.follow(reading, lambda seconds, image: detectors.detect(detector, image)):
        looked.append(truth.get(reading.read - 1, []))
        found.append((one.box_n5[:, :4], one.number_n))
    clock = time.perf_counter() - began
    count = collections.Counter(number for _, numbers in found for number in numbers if number)
    kept = {number for number, times in count.items() if times >= min_seen}

    def against(whether):
        for people, (box_n4, numbers) in zip(looked, found, strict=True):
            places = [place for place, number in enumerate(numbers) if whether(number)]
            box_p4 = np.array([person[1:] for person in people]).reshape(-1, 4)
            yield Frame([person[0] for person in people], box_p4, [numbers[p] for p in places], box_n4[places])

    every_box, followed = list(against(lambda number: True)), list(against(kept.__contains__))
    return {
        'video': path.name, 'detector': name, 'every': every, 'min_seen': min_seen, 'frames': len(looked),
        'read': reading.read, 'expected': reading.expected, 'frames/s': len(looked) / clock,
        **{f'detection {what}': value for what, value in tracking.detection(every_box).items()},
        **{f'tracked {what}': value for what, value in tracking.detection(followed).items()},
        **tracking.hota(followed), **tracking.identity(followed), **tracking.tracks(followed),
        'left out': len(count) - len(kept),
    }  # fmt: skip


if __name__ == '__main__':
    main()
