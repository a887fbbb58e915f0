"""Videos into an index: people are followed, each track is a row, nothing is done twice."""

import concurrent.futures
import errno
import functools
import io
import json
import pathlib
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from data.demo import synthetic as demo
from lcr2s_jax import api, locks
from lcr2s_jax import model as models
from lcr2s_jax.errors import ConfigError, DataError, SearchError
from lcr2s_jax.progress import Shown
from lcr2s_jax.search import appearance, columns, folder, retention
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.index import bring_up_to_date
from lcr2s_jax.search.model import open_model
from lcr2s_jax.search.query import Query
from lcr2s_jax.search.rows import LOOK
from lcr2s_jax.video import crops as cutting
from lcr2s_jax.video import detectors
from lcr2s_jax.video import frames as video
from lcr2s_jax.video import tracker as tracks
from lcr2s_jax.video import update as videos
from lcr2s_jax.video.pooling import Mean
from lcr2s_jax.video.update import COLUMNS, VideoOptions
from tests import searching
from tests.road import fails, typed

cv2 = pytest.importorskip('cv2', reason='an extra: requirements-video.txt')

RATE, HEIGHT, WIDTH = 10, 112, 240  # frames a second; pixels
FLOOR = (255, 0, 255)  # nothing drawn has this colour
DETECTOR = 'tests.video.videos_test:anybody'


def anybody(image_hwc):
    """A detector: whatever is not floor, people being apart by a column of floor."""
    far = np.abs(image_hwc.astype(int) - FLOOR).sum(axis=2) > 150
    seen = np.pad(far.sum(axis=0) > 20, 1)
    edges = np.flatnonzero(seen[1:] != seen[:-1]).reshape(-1, 2)
    rows = [np.flatnonzero(far[:, left:right].sum(axis=1) > 5) for left, right in edges]
    return [[left, row[0], right, row[-1] + 1, len(row) / 100] for (left, right), row in zip(edges, rows, strict=True)]


def people(count):
    """The views of some test people, as pixels, and their captions."""
    by_person = {}
    for record in demo.records(0, {'test': count}, cameras=False, workers=1):
        pixels = np.asarray(Image.open(io.BytesIO(record.jpeg)).convert('RGB').resize((48, 96)))
        by_person.setdefault(record.person, []).append((pixels, record.captions))
    return list(by_person.values())


def film(path, frames):
    """Write frames, each a list of (left, top, pixels) on the floor."""
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), RATE, (WIDTH, HEIGHT))
    assert out.isOpened()
    for pasted in frames:
        image = np.full((HEIGHT, WIDTH, 3), FLOOR, np.uint8)
        for left, top, pixels in pasted:
            image[top : top + 96, left : left + 48] = pixels
        out.write(image[..., ::-1])
    out.release()
    return path


def walk(who, number, left, speed):
    return left + speed * number, 8, who[number % len(who)][0]


@pytest.fixture(scope='module')
def walking(tmp_path_factory):
    """Two seconds: one person from the left, another from the right; they do not meet."""
    one, other = people(2)
    frames = [[walk(one, n, 4, 2), walk(other, n, 180, -2)] for n in range(2 * RATE)]
    return film(tmp_path_factory.mktemp('film') / 'walk.mp4', frames)


class Made:
    """An index of videos."""

    def __init__(self, place, make=True, model=True):
        self.uri = str(place / 'index' if make else place)
        if make and model:
            searching.make_model(place / 'index')
        self.root = pathlib.Path(self.uri) / 'tracks'

    def update(self, *files, every=0.2, detector=DETECTOR, again=False):
        model = open_model(self.uri)
        options = VideoOptions(tuple(map(str, files)), every, detector)
        update = functools.partial(
            videos.update, model=model, options=options, pool=Mean(model), readmit=again, progress=Shown()
        )
        return bring_up_to_date(self.uri, model, videos=update)['videos']

    def rows(self):
        return sorted(Gallery(self.uri).rows("status = 'ok'", ['path', 'vector', LOOK, *COLUMNS]).to_pylist(), key=str)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


@pytest.fixture
def told(made):
    """update(...) -> what was done with the videos."""
    return made.update


def test_frames_come_at_their_seconds_in_red_green_blue(walking):
    found = list(video.Frames(walking, 0.5))
    np.testing.assert_allclose([seconds for seconds, _ in found], [0, 0.5, 1.0, 1.5], atol=1e-3)
    assert found[0][1].shape == (HEIGHT, WIDTH, 3) and np.abs(found[0][1][2, 2].astype(int) - FLOOR).max() < 20
    assert len(list(video.Frames(walking, 0.001))) == 2 * RATE, 'not more often than there are frames'


def test_every_track_is_a_row_with_its_best_crop_and_the_mean_of_all_its_crops(made, told, walking):
    (first,) = told(walking)
    assert (first['frames'], first['tracks'], first['crops'], first['embedded']) == (10, 2, 20, 20)
    left, right = made.rows()
    assert (left['video'], left['crops'], left['pooling']) == ('walk.mp4', 10, 'mean')
    assert left['track'] != right['track']
    assert (left['begins'], left['ends'], right['begins']) == (0.0, 1.8, 0.0)
    model = models.open_model(made.root.parent / 'model')
    for row, at in ((left, lambda t: 4 + 20 * t), (right, lambda t: 180 - 20 * t)):
        corner = [int(side) for side in row['box'].split(',')]
        np.testing.assert_allclose(corner, [at(row['time']), 8, at(row['time']) + 48, 104], atol=3)
        crops = sorted((made.root / row['path']).parent.iterdir())
        size = Image.open(made.root / row['path']).size
        assert len(crops) == 10 and 50 <= size[0] <= 56 and 100 <= size[1] <= 112, 'with a margin'
        pixels = np.stack([folder.decode(crop.read_bytes(), (16, 8))[0] for crop in crops])
        mean_E = model.embed_image(pixels).mean(axis=0)
        np.testing.assert_allclose(row['vector'], mean_E / np.linalg.norm(mean_E), atol=1e-5)
        looks = [appearance.statistics(one) for one in pixels]
        np.testing.assert_allclose(row[LOOK], np.mean(looks, axis=0), rtol=1e-5, atol=1e-6)


def test_the_same_bytes_again_are_neither_looked_at_nor_embedded(made, told, walking, tmp_path, monkeypatch):
    told(walking)
    before, version = made.rows(), Gallery(made.uri).version
    monkeypatch.setattr(video, 'Frames', None)
    monkeypatch.setattr(models.Model, 'embed_image', None)
    (again,) = told(walking)
    assert (again['embedded'], again['cut'], again['tracks']) == (0, False, 2)
    assert made.rows() == before and Gallery(made.uri).version == version, 'not even a commit'
    shutil.copy(walking, tmp_path / 'moved.mp4')
    assert told(tmp_path / 'moved.mp4')[0]['embedded'] == 0
    assert {row['video'] for row in made.rows()} == {'moved.mp4'} and len(made.rows()) == 2


def test_what_is_no_video_is_told_and_never_fatal(made, told, walking, tmp_path):
    (tmp_path / 'text.mp4').write_text('<html>')
    content = walking.read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(content[: len(content) // 2])
    film(tmp_path / 'none.mp4', [])
    film(tmp_path / 'empty.mp4', [[]] * 5)
    bad = [tmp_path / name for name in ('text.mp4', 'no such.mp4', 'cut.mp4', 'none.mp4')]
    found = told(*bad, tmp_path / 'empty.mp4', walking)
    assert all(one['fault'] for one in found[:4]) and found[1]['fault'].startswith(
        'No such file or directory; did you mean '
    )
    assert found[4] | {'video': ''} == found[4] | {'video': '', 'fault': '', 'frames': 3, 'tracks': 0}
    assert found[5]['tracks'] == 2 and len(made.rows()) == 2
    assert not list(made.root.glob('*.partial'))
    words = 'index', f'--index={made.uri}', f'--video={walking}', f'--detector={DETECTOR}'
    assert typed(*words).returncode == 0
    run = typed(*words, f'--video={bad[0]}')
    assert run.returncode == 1 and 'text.mp4: cannot be used: no video that OpenCV can open' in run.stdout


def test_a_call_that_dies_while_it_looks_does_not_look_at_the_same_frames_again(made, told, walking, monkeypatch):
    looked, detect = [], detectors.detect

    def dies(detector, image):
        if len(looked) == 4:
            raise KeyboardInterrupt
        looked.append(image)
        return detect(detector, image)

    monkeypatch.setattr(detectors, 'detect', dies)
    with pytest.raises(KeyboardInterrupt):
        told(walking)
    (log,) = made.root.glob('*.partial/detections.jsonl')
    with log.open('a') as torn:
        torn.write('[0.8, [[1, 2')
    monkeypatch.setattr(detectors, 'detect', lambda *given: looked.append(0) or detect(*given))
    assert told(walking)[0]['crops'] == 20 and len(looked) == 10
    whole = made.rows()
    shutil.rmtree(made.root)
    assert told(walking)[0]['cut'] and made.rows() == whole, 'as if it had never died'
    assert not list(made.root.glob('*.partial')) and not list(made.root.rglob('*.jsonl'))


def test_a_disk_that_fills_while_a_video_is_cut_is_told_with_its_folder(made, told, walking, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(cutting, '_write', full)
    with pytest.raises(OSError, match='No space left') as error:
        told(walking)
    assert pathlib.Path(error.value.filename).parent == made.root


@pytest.mark.parametrize('when,lost', [('put', 10), ('join', 20)])
def test_a_call_that_dies_between_commits_is_finished_by_the_next_one(made, told, walking, monkeypatch, when, lost):
    monkeypatch.setattr(videos, '_COMMIT', 5)  # a track a commit
    place = Gallery if when == 'put' else columns
    whole, calls = getattr(place, when), []

    def dies(*given, **more):
        calls.append(given)
        if len(calls) == 2:  # the first call of join adds the columns
            raise KeyboardInterrupt
        return whole(*given, **more)

    monkeypatch.setattr(place, when, dies)
    with pytest.raises(KeyboardInterrupt):
        told(walking)
    assert Gallery(made.uri).count() == 1
    monkeypatch.setattr(place, when, whole)
    (again,) = told(walking)
    assert not again['cut'] and again['embedded'] == lost
    assert [row['pooling'] for row in made.rows()] == ['mean'] * 2 and told(walking)[0]['embedded'] == 0


def test_other_settings_replace_the_tracks_of_a_video(made, told, walking):
    told(walking)
    assert told(walking, every=0.5)[0]['crops'] == 8 and [row['crops'] for row in made.rows()] == [4, 4]
    (whole,) = told(walking, detector='frame')
    assert whole['tracks'] == 1 and len(list(made.root.rglob('*.jpg'))) == 10 and not whole['unusable']
    assert [row['crops'] for row in made.rows()] == [10]


def test_a_track_whose_crops_cannot_be_read_has_no_vector_and_says_why(made, told, walking, monkeypatch):
    monkeypatch.setattr(folder, 'decode', lambda encoded, size: (None, 'damaged'))
    (found,) = told(walking)
    assert found['unusable'] == {'00001': 'damaged', '00002': 'damaged'} and made.rows() == []
    assert told(walking)[0]['unusable'] == found['unusable'], 'it is told again'


def test_a_deleted_track_is_gone_with_its_crops_and_stays_out_until_it_is_readmitted(made, told, walking):
    told(walking)
    track = made.rows()[0]['track']
    assert typed('delete', f'--index={made.uri}', f"--where=track = '{track}'", '--yes').returncode == 0
    assert len(list(made.root.rglob('*.jpg'))) == 10
    (again,) = told(walking)
    assert (again['kept_out'], again['tracks'], again['embedded']) == (1, 1, 0)
    assert '--readmit' in told(walking, every=0.5)[0]['fault'], 'other settings would bring the person back'
    (file,) = made.root.rglob(cutting.FILE)
    facts = json.loads(file.read_text())
    earlier = {'settings': {'format': 1, 'every': 0.2, 'detector': DETECTOR}, 'tracks': facts['tracks']}
    file.write_text(json.dumps(earlier))
    assert 'this version of the tracker' in told(walking)[0]['fault'], 'as would another tracker'
    shutil.rmtree(made.root)  # all crops are lost: it is cut again
    assert told(walking)[0]['kept_out'] == 1 and len(list(made.root.rglob('*.jpg'))) == 10
    assert told(walking, again=True)[0]['tracks'] == 2 and len(made.rows()) == 2
    assert len(list(made.root.rglob('*.jpg'))) == 20 and told(walking)[0]['kept_out'] == 0


def test_a_moved_index_knows_its_tracks_and_erases_their_crops(made, told, walking, tmp_path):
    told(walking)
    made.root.parent.rename(tmp_path / 'moved')
    there = Made(tmp_path / 'moved', make=False)
    (answer,) = searching.Index(there.uri, tmp_path).open()([Query((searching.WORDS,))], top=9, false_alarms=0.05)
    assert answer.searched == 20 and answer.hits[0].root == str(there.root)
    (again,) = there.update(walking)
    assert (again['embedded'], again['cut'], len(there.rows())) == (0, False, 2)
    assert retention.delete(Gallery(there.uri), f"track = '{there.rows()[0]['track']}'") == (1, 0, 1, 0)
    assert len(list(there.root.rglob('*.jpg'))) == 10


def test_what_a_file_lacks_is_said_and_what_was_seen_too_seldom_is_counted(made, walking, tmp_path):
    joined = tmp_path / 'joined.ts'
    out = cv2.VideoWriter(str(tmp_path / 'part.ts'), cv2.VideoWriter_fourcc(*'mp4v'), RATE, (WIDTH, HEIGHT))
    capture = cv2.VideoCapture(str(walking))
    for _ in range(2 * RATE):
        out.write(capture.read()[1])
    out.release()
    joined.write_bytes((tmp_path / 'part.ts').read_bytes() * 2)
    words = 'index', f'--index={made.uri}', f'--video={joined}', f'--detector={DETECTOR}'
    run = typed(*words)
    assert run.returncode == 0 and f'{joined}: 20 frames looked at (40 read of 20 expected), 4 tracks' in run.stdout
    assert 'its clock goes back once, first at 2.0 s' in run.stdout and 'left out' not in run.stdout
    assert [(row['begins'], row['ends']) for row in made.rows()].count((0.0, 1.8)) == 2, 'tracks end at the joint'
    run = typed(*words, '--every=1', '--min-seen=3')
    assert '0 tracks' in run.stdout and '4 tracks seen in too few frames left out (--min-seen=1 keeps' in run.stdout
    told = json.loads(typed(*words, '--every=1', '--min-seen=1', '--json').stdout)['videos'][0]
    assert (told['tracks'], told['left_out'], told['read'], told['expected']) == (4, 0, 40, 20) and told['notes']


def test_of_two_calls_with_the_same_video_the_second_waits_and_finds_it_done(made, told, walking, capsys):
    name = video.fingerprint(walking)[:16]
    said, err, begun = f'{walking}: another process is looking at it for this index; waiting', '', time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with locks.alone(made.root / f'.{name}.lock', lambda: None):
            waits = pool.submit(made.update, walking)
            while said not in err and time.monotonic() < begun + 60:
                time.sleep(0.1)
                err += capsys.readouterr().err
            assert said in err and not waits.done() and not (made.root / name).exists()
        (found,) = waits.result()
    assert found['tracks'] == 2 and told(walking)[0]['embedded'] == 0


def test_pictures_and_videos_share_an_index_and_a_track_counts_as_its_crops(tmp_path, walking):
    made = searching.index(tmp_path, count=3)
    whole = made._replace(root=tmp_path)
    words = f'--index={made.uri}', f'--images={tmp_path}', f'--video={walking}', f'--detector={DETECTOR}'
    assert typed('index', *words).returncode == 0
    made.update()
    told = whole.update(prune=True)
    assert (told['files'], told['pictures']) == (3, 8), 'not the crops, though they lie below the folder'
    opened, query = made.open(), Query((searching.WORDS,))
    (answer,) = opened([query], top=9, false_alarms=0.05, group_by='track')
    assert answer.searched == 6 + 20 and len(answer.hits) == 5 and sum(len(hit.copies) for hit in answer.hits) == 3
    (answer,) = opened([query], top=9, false_alarms=0.05, where="video = 'walk.mp4' and begins < 1")
    assert answer.searched == 20 and len(answer.hits) == 2


def test_a_sentence_finds_the_track_of_the_person_it_describes(tmp_path):
    """By some sentences, with the CLIP that the demo starts from: six people in three videos."""
    api.load('synthetic-pedestrians').save(tmp_path / 'index' / 'model')
    who = people(24)[::4]  # look-alikes come in groups
    files = []
    for number in range(3):
        one, other = who[2 * number : 2 * number + 2]
        frames = [[walk(one, n, 4, 2), walk(other, n, 180, -2)] for n in range(2 * RATE)]
        files.append(str(film(tmp_path / f'{number}.mp4', frames)))
    Made(tmp_path, model=False).update(*files, every=0.1)
    opened = searching.Index(str(tmp_path / 'index'), tmp_path).open()
    queries = [Query(tuple(captions[0] for _, captions in views)) for views in who]
    for number, answer in enumerate(opened(queries, top=6, false_alarms=0.05, group_by='track')):
        best = answer.hits[0].metadata
        left = int(best['box'].split(',')[0]) < WIDTH / 2 - 24
        assert len(answer.hits) == 6 and (best['video'], left) == (f'{number // 2}.mp4', number % 2 == 0)


def test_hog_runs_on_any_frame_and_finds_nothing_where_nothing_is():
    detector = detectors.open_detector('hog')
    for shape in ((240, 320), (40, 30), (1200, 300)):
        assert detectors.detect(detector, np.full((*shape, 3), 128, np.uint8)).shape == (0, 5)
    noise = np.random.default_rng(0).integers(0, 255, (200, 160, 3)).astype(np.uint8)
    assert detectors.detect(detector, noise).shape[1] == 5


def test_hog_finds_a_drawn_person():
    image = np.full((480, 320, 3), 150, np.uint8)
    image[60:420, 70:250] = cv2.resize(people(17)[16][0][0], (180, 360))
    found = detectors.detect(detectors.open_detector('hog'), image)
    assert len(found) == 1 and found[0, 4] > 0.5
    assert tracks.overlap(found[:, :4], np.array([[90.0, 85, 218, 415]])).item() > 0.7


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'cv2', None)
    with pytest.raises(DataError, match='requirements-video.txt'):
        video.opencv()


def test_what_cannot_work_is_said_before_a_model_is_opened(made, walking, tmp_path):
    index, video_ = f'--index={made.uri}', f'--video={walking}'
    fails(typed('index', index, video_, '--pooling=max'), 2, "found 'max', expected mean or teacher")
    fails(typed('index', index, video_, '--pooling=teacher'), 2, '--workdir')
    fails(typed('index', index, '--video=rtsp://camera/1'), 1, 'found the stream', 'ffmpeg -i')
    fails(typed('index', index, f'--video={walking.parent}'), 1, 'found the folder', f'--video={walking}')
    (walking.parent / 'pictures').mkdir()
    (walking.parent / 'pictures' / 'a.jpg').write_bytes(b'x')
    fails(typed('index', index, f'--video={walking.parent}/pictures'), 1, 'no video in it; pictures are --images=')
    fails(typed('index', index, f'--video={walking.parent}/pictures/a.jpg'), 1, 'found the picture')
    with pytest.raises(ConfigError, match='local folder'):
        videos.check(VideoOptions(('a',), 1.0, 'frame'), 's3://b/i')
    columns.join(Gallery(made.uri, 8), '/r', {'track': 'int64'}, {})
    with pytest.raises(SearchError, match="{'track': 'int64'} came with --metadata"):
        made.update(walking)


@pytest.mark.parametrize('words', [[], ['--video=a', '--prune'], ['--video=a', '--metadata=m.csv']])
def test_index_needs_pictures_or_videos(words):
    fails(typed('index', '--index=I', *words), 2, '--images')
