"""The documents' command lines are typed, page by page, in a folder where their names stand for small things."""

import collections
import shutil

import pytest

from tests import folders, road
from tests.docs import lines_test as lines

# what cannot be typed here, and who tries it instead
ELSEWHERE = {
    's3://': 'a bucket: search/s3_test',
    'serve': 'does not end: search/web',
    '--engine=ray': 'a cluster: search/cluster_test',
    '--coordinator': 'several hosts: training/hosts_test',
    '--workdir=/shared': 'several hosts: training/hosts_test',
    '--beam': 'an engine that is not installed here: data/beam_test',
    '--weights=irra': 'a download: weights',
    '--weights=IRRA': 'a download: weights',
    '--weights=RDE': 'a download: weights',
    '--weights=checkpoint_best': 'a download: weights',
    '--table=people.csv': 'a table of those crops: cli/commands_test',
    '--out=DIR': 'the zip file of a benchmark: benchmarks_test',
    '--rows=benchmarks/demo.toml': 'rows of half an hour: commands/comparison_test',
    '--rows=rows.toml': 'the rows that the page shows: commands/compare_test',
    'runs/one runs/two': 'two runs: commands/compare_test',
    'gate.mp4': 'two recordings: video',
    'my_pedes': 'code that the page adds: extending_test',
    'sigmoid': 'code that the page adds: extending_test',
    "'again'": 'code that the page adds: extending_test',
}
STAND_FOR = {
    '/data/CUHK-PEDES': 'DATASETS', 'openai/clip-vit-base-patch16': 'W', 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K': 'W',
}  # fmt: skip
SMALL = road.SMALL | {
    'batch.identities': 2, 'batch.views': 2, 'parallel.devices': 1,
    'model.image_size': '(96, 48)', 'model.context_length': 32,
}  # fmt: skip
PAGES = [page for page in lines.PAGES if any(True for _ in lines.commands(page))]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the repository's own folders, datasets, a CLIP and a finished run, under the documents' names."""
    place = tmp_path_factory.mktemp('place')
    for name in ('benchmarks', 'configs', 'data'):
        (place / name).symlink_to(road.ROOT / name)
    for make in (folders.cuhk, folders.orbench, folders.chatpedes):
        make(place / 'DATASETS')
    folders.table(place / 'DIR')
    folders.table(place / 'mine')
    shutil.copytree(road.tiny_clip(), place / 'W')
    for file in (road.ROOT / 'data' / 'demo_clip').glob('tokenizer*'):
        shutil.copy(file, place / 'W')
    run = road.here(place / 'runs' / 'three', place / 'cache', stages="('baseline','teacher','student')")
    assert run.returncode == 0, run.stderr
    shutil.copytree(place / 'runs' / 'three', place / 'runs' / 'demo')
    shutil.copytree(place / 'runs' / 'three' / 'crops', place / 'crops')
    return place


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_its_commands_work_as_typed(page, place, monkeypatch):
    monkeypatch.chdir(place)
    tried = 0
    for program, words in lines.commands(page):
        text = ' '.join(words)
        if any(part in text for part in ELSEWHERE) or '...' in words:
            continue
        for name, here in STAND_FOR.items():
            words = [word.replace(name, here) for word in words]
        if any(word.startswith('--config=') for word in words):
            for name in (word.partition('=')[2] for word in words if word.startswith('--workdir=')):
                shutil.rmtree(name, ignore_errors=True)  # of the same line on another page
            small = SMALL | {'data.cache': place / 'cache', 'model.pretrained': place / 'W'}
            words = [*words, *(f'--config.{field}={value}' for field, value in small.items())]
        if words[0] == 'index' and any(word.startswith('--images=') for word in words):
            shutil.rmtree('I', ignore_errors=True)  # another road's, with another model
        run = road.run_in(program, words)
        assert run.returncode == 0 and 'Traceback' not in run.stderr, (words, run.stdout, run.stderr)
        tried += 1
    assert tried or page.name in {'cluster.md', 'evidence.md', 'extending.md', 'serve.md', 'video.md'}


def test_every_reason_to_leave_a_line_out_is_needed():
    texts = [' '.join(words) for page in PAGES for _, words in lines.commands(page)]
    needed = collections.Counter(part for part in ELSEWHERE for text in texts if part in text)
    assert set(needed) == set(ELSEWHERE)
