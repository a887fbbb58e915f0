"""Videos into an index: people are followed, each track is a row, nothing is done twice."""

import concurrent.futures
import io
import json
import pathlib
import shutil
import time

import numpy as np
import pytest
from PIL import Image

import main
from data.demo import synthetic as demo
from lcr2s_jax import files
from lcr2s_jax.cli import index as command
from lcr2s_jax.errors import ConfigError, DataError, SearchError
from lcr2s_jax.search import columns, folder, retention
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.query import Query
from lcr2s_jax.video import detectors
from lcr2s_jax.video import frames as video
from lcr2s_jax.video import tracker as tracks
from lcr2s_jax.video.update import COLUMNS, VideoOptions
from lcr2s_jax.weights import bundle as searcher
from lcr2s_jax.weights import pretrained
from tests import folders, searching

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
    """An index of videos, made by the command."""

    def __init__(self, place, make=True):
        self.uri = str(place / 'index' if make else place)
        if make:
            searching.make_model(place / 'index')
        self.root = pathlib.Path(self.uri) / 'tracks'

    def update(self, *files, every=0.2, detector=DETECTOR, pooling='mean', again=False, workdir=None):
        wanted = VideoOptions(tuple(map(str, files)), every, detector)
        command.index(self.uri, None, workdir, None, False, again, True, wanted, pooling)

    def rows(self):
        return sorted(Gallery(self.uri).rows("status = 'ok'", ['path', 'vector', *COLUMNS]).to_pylist(), key=str)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


@pytest.fixture
def told(made, capsys):
    """update(...) -> what the command says of the videos."""

    def update(*files, **more):
        capsys.readouterr()
        made.update(*files, **more)
        return json.loads(capsys.readouterr().out)['videos']

    return update


def test_frames_come_at_their_seconds_in_red_green_blue(walking):
    found = list(video.frames(walking, 0.5))
    np.testing.assert_allclose([seconds for seconds, _ in found], [0, 0.5, 1.0, 1.5], atol=1e-3)
    assert found[0][1].shape == (HEIGHT, WIDTH, 3) and np.abs(found[0][1][2, 2].astype(int) - FLOOR).max() < 20
    assert len(list(video.frames(walking, 0.001))) == 2 * RATE, 'not more often than there are frames'


def test_every_track_is_a_row_with_its_best_crop_and_the_mean_of_all_its_crops(made, told, walking):
    (first,) = told(walking)
    assert (first['frames'], first['tracks'], first['crops'], first['embedded']) == (10, 2, 20, 20)
    left, right = made.rows()
    assert (left['video'], left['crops'], left['pooling']) == ('walk.mp4', 10, 'mean')
    assert left['track'] != right['track']
    assert (left['begins'], left['ends'], right['begins']) == (0.0, 1.8, 0.0)
    model = searcher.Searcher(made.root.parent / 'model')
    for row, at in ((left, lambda t: 4 + 20 * t), (right, lambda t: 180 - 20 * t)):
        corner = [int(side) for side in row['box'].split(',')]
        np.testing.assert_allclose(corner, [at(row['time']), 8, at(row['time']) + 48, 104], atol=3)
        crops = sorted((made.root / row['path']).parent.iterdir())
        size = Image.open(made.root / row['path']).size
        assert len(crops) == 10 and 50 <= size[0] <= 56 and 100 <= size[1] <= 112, 'with a margin'
        pixels = np.stack([folder.decode(crop.read_bytes(), (16, 8), 10**6)[0] for crop in crops])
        mean_E = model.embed_image(pixels).mean(axis=0)
        np.testing.assert_allclose(row['vector'], mean_E / np.linalg.norm(mean_E), atol=1e-5)


def test_the_same_bytes_again_are_neither_looked_at_nor_embedded(made, told, walking, tmp_path, monkeypatch):
    told(walking)
    before, version = made.rows(), Gallery(made.uri).version
    monkeypatch.setattr(video, 'frames', None)
    monkeypatch.setattr(searcher.Searcher, 'embed_image', None)
    (again,) = told(walking)
    assert (again['embedded'], again['cut'], again['tracks']) == (0, False, 2)
    assert made.rows() == before and Gallery(made.uri).version == version, 'not even a commit'
    shutil.copy(walking, tmp_path / 'moved.mp4')
    assert told(tmp_path / 'moved.mp4')[0]['embedded'] == 0
    assert {row['video'] for row in made.rows()} == {'moved.mp4'} and len(made.rows()) == 2


def test_what_is_no_video_is_told_and_never_fatal(made, told, walking, tmp_path, capsys):
    (tmp_path / 'text.mp4').write_text('<html>')
    content = walking.read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(content[: len(content) // 2])
    film(tmp_path / 'none.mp4', [])
    film(tmp_path / 'empty.mp4', [[]] * 5)
    bad = [tmp_path / name for name in ('text.mp4', 'no such.mp4', 'cut.mp4', 'none.mp4')]
    found = told(*bad, tmp_path / 'empty.mp4', walking)
    assert all(one['fault'] for one in found[:4]) and found[1]['fault'] == 'No such file or directory'
    assert found[4] | {'video': ''} == found[4] | {'video': '', 'fault': '', 'frames': 3, 'tracks': 0}
    assert found[5]['tracks'] == 2 and len(made.rows()) == 2
    assert not list(made.root.glob('*.partial'))
    wanted = VideoOptions((str(walking), str(bad[0])), 0.2, DETECTOR)
    assert command.index(made.uri, None, None, None, False, False, False, wanted) == 1
    assert command.index(made.uri, None, None, None, False, False, False, wanted._replace(files=[str(walking)])) == 0
    assert 'text.mp4: cannot be used: no video that OpenCV can open' in capsys.readouterr().out


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


@pytest.mark.parametrize('when,lost', [('put', 10), ('join', 20)])
def test_a_call_that_dies_between_commits_is_finished_by_the_next_one(made, told, walking, monkeypatch, when, lost):
    from lcr2s_jax.video import update as videos

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
    assert whole['tracks'] == 1 and len(list(made.root.rglob('*.jpg'))) == 10 and made.rows() == []
    assert 'pixels, above' in whole['unusable']['00001'], 'for this model a whole frame is too large'
    assert 'pixels, above' in told(walking, detector='frame')[0]['unusable']['00001']


def test_a_deleted_track_is_gone_with_its_crops_and_stays_out_until_it_is_readmitted(made, told, walking):
    from lcr2s_jax.cli.delete import delete

    told(walking)
    track = made.rows()[0]['track']
    delete(made.uri, f"track = '{track}'", sure=True)
    assert len(list(made.root.rglob('*.jpg'))) == 10
    (again,) = told(walking)
    assert (again['kept_out'], again['tracks'], again['embedded']) == (1, 1, 0)
    assert '--readmit' in told(walking, every=0.5)[0]['fault'], 'other settings would bring the person back'
    shutil.rmtree(made.root)  # all crops are lost: it is cut again
    assert told(walking)[0]['kept_out'] == 1 and len(list(made.root.rglob('*.jpg'))) == 10
    assert told(walking, again=True)[0]['tracks'] == 2 and len(made.rows()) == 2
    assert len(list(made.root.rglob('*.jpg'))) == 20 and told(walking)[0]['kept_out'] == 0


def test_a_moved_index_knows_its_tracks_and_erases_their_crops(made, told, walking, tmp_path, capsys):
    told(walking)
    made.root.parent.rename(tmp_path / 'moved')
    there = Made(tmp_path / 'moved', make=False)
    for root in ('./tracks', f'{tmp_path}/index/tracks'):  # the other is what earlier versions wrote
        Gallery(there.uri).table.update(where='true', values={'root': root})
        (answer,) = searching.Index(there.uri, tmp_path).open()([Query((searching.WORDS,))], top=9, false_alarms=0.05)
        assert answer.searched == 20 and answer.hits[0].root == str(there.root)
        capsys.readouterr()
        there.update(walking)
        (again,) = json.loads(capsys.readouterr().out)['videos']
        assert (again['embedded'], again['cut'], len(there.rows())) == (0, False, 2)
    assert retention.delete(Gallery(there.uri), f"track = '{there.rows()[0]['track']}'") == (1, 0, 1)
    assert len(list(there.root.rglob('*.jpg'))) == 10


def test_of_two_calls_with_the_same_video_the_second_waits_and_finds_it_done(made, told, walking, capsys):
    name = video.fingerprint(walking)[:16]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with files.alone(made.root / f'.{name}.lock', lambda: None):
            waits = pool.submit(made.update, walking)
            time.sleep(0.5)
            assert not waits.done() and not (made.root / name).exists()
        waits.result()
    out, err = capsys.readouterr()
    assert f'{walking}: another process is looking at it for this index; waiting' in err
    assert json.loads(out)['videos'][0]['tracks'] == 2 and told(walking)[0]['embedded'] == 0


def test_pictures_and_videos_share_an_index_and_a_track_counts_as_its_crops(tmp_path, walking, capsys):
    made = searching.index(tmp_path, count=3)
    wanted = VideoOptions((str(walking),), 0.2, DETECTOR)
    command.index(made.uri, str(tmp_path), None, None, False, False, True, wanted)
    made.update()
    command.index(made.uri, str(tmp_path), None, None, True, False, True)
    told = json.loads(capsys.readouterr().out.split('\n}\n')[-2] + '}')
    assert (told['files'], told['pictures']) == (3, 8), 'not the crops, though they lie below the folder'
    opened, query = made.open(), Query((searching.WORDS,))
    (answer,) = opened([query], top=9, false_alarms=0.05, group_by='track')
    assert answer.searched == 6 + 20 and len(answer.hits) == 8
    (answer,) = opened([query], top=9, false_alarms=0.05, where="video = 'walk.mp4' and begins < 1")
    assert answer.searched == 20 and len(answer.hits) == 2


def test_a_sentence_finds_the_track_of_the_person_it_describes(tmp_path):
    """By some sentences, with the CLIP that the demo starts from: six people in three videos."""
    settings = dict(architecture='ViT-B/16', image_size=(96, 48), context_length=32, vocab_size=1001, resize='bicubic')
    clip, params = pretrained.load(
        pretrained=folders.WORDS, **settings, dtype='float32', kernel='einsum', remat=False, scan=False, chunks=1
    )
    preprocessing = {'recipe': folder.RECIPE, 'image_size': [96, 48]}
    origin = {'workdir': 'w', 'step': 0, 'dataset': 'demo', 'max_pixels': 10**6}
    searcher.save(
        tmp_path / 'index' / 'model', clip, params, preprocessing=preprocessing, tokenizer=searching.words().files,
        origin=origin, calibration=None,
    )  # fmt: skip
    who = people(24)[::4]  # look-alikes come in groups
    files = []
    for number in range(3):
        one, other = who[2 * number : 2 * number + 2]
        frames = [[walk(one, n, 4, 2), walk(other, n, 180, -2)] for n in range(2 * RATE)]
        files.append(str(film(tmp_path / f'{number}.mp4', frames)))
    command.index(
        str(tmp_path / 'index'), None, None, None, False, False, True, VideoOptions(tuple(files), 0.1, DETECTOR)
    )
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
    assert len(found) == 1 and found[0, 4] > 1
    assert tracks.overlap(found[:, :4], np.array([[90.0, 80, 230, 420]])).item() > 0.7


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'cv2', None)
    with pytest.raises(DataError, match='requirements-video.txt'):
        video.opencv()


def test_what_cannot_work_is_said_before_a_model_is_opened(made, walking, tmp_path):
    for wrong, words in ((dict(pooling='max'), 'mean, teacher'), (dict(pooling='teacher'), '--workdir')):
        with pytest.raises(ConfigError, match=words):
            made.update(walking, **wrong)
    with pytest.raises(ConfigError, match='local folder'):
        command.index('s3://b/i', None, None, None, False, False, True, VideoOptions(('a',), 1.0, 'frame'))
    columns.join(Gallery(made.uri, 8), '/r', {'track': 'int64'}, {})
    with pytest.raises(SearchError, match="{'track': 'int64'} came with --metadata"):
        made.update(walking)


@pytest.mark.parametrize('words', [[], ['--video=a', '--prune'], ['--video=a', '--metadata=m.csv']])
def test_index_needs_pictures_or_videos(words, capsys):
    assert main.main(['main.py', 'index', '--index=I', *words]) == 2
    assert '--images' in capsys.readouterr().err
