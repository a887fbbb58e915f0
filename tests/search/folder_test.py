"""A folder of pictures: what is taken, and what is passed over is counted and named by reason."""

import os

import pytest
from PIL import Image

from lcr2s_jax.search import folder


@pytest.fixture
def root(tmp_path):
    """A folder of one of everything."""
    root = tmp_path / 'photos'
    (root / 'sub' / 'index').mkdir(parents=True)
    (root / '.cache').mkdir()
    picture = Image.new('RGB', (8, 12), (200, 30, 40))
    for name in (
        'a.jpg',
        'b.PNG',
        'c.webp',
        'd.tiff',
        'e.gif',
        'sub/f.bmp',
        'sub/index/g.png',
        '.cache/h.png',
        '.i.jpg',
    ):
        picture.save(root / name, format='PNG')
    (root / 'no_suffix').write_bytes((root / 'a.jpg').read_bytes())
    for name in ('notes.txt', 'more.TXT', 'sub/last.txt', 'sub/x.txt', 'film.mp4', 'README'):
        (root / name).write_text('words')
    (root / 'link.jpg').symlink_to(root / 'a.jpg')
    (root / 'sub' / 'round').symlink_to(root)
    (root / 'cut.jpg').write_bytes((root / 'a.jpg').read_bytes()[:60])
    (root / 'empty.jpg').touch()
    os.mkfifo(root / 'pipe')
    return root


def test_pictures_are_found_by_suffix_and_without_one_by_content_and_the_rest_is_named_by_reason(root):
    found = folder.walk(root, [root / 'sub' / 'index'])
    paths = ['a.jpg', 'b.PNG', 'c.webp', 'cut.jpg', 'd.tiff', 'e.gif', 'empty.jpg', 'no_suffix', 'sub/f.bmp']
    assert [file.path for file in found.files] == paths and not found.faults
    assert list(found.passed_over.items())[0] == (
        'by their suffix .txt',
        {'count': 4, 'first': ['more.TXT', 'notes.txt', 'sub/last.txt']},
    )
    assert found.passed_over == {
        'by their suffix .txt': {'count': 4, 'first': ['more.TXT', 'notes.txt', 'sub/last.txt']},
        'hidden by a dot before their name': {'count': 2, 'first': ['.cache', '.i.jpg']},
        'links': {'count': 2, 'first': ['link.jpg', 'sub/round']},
        'by their suffix .mp4': {'count': 1, 'first': ['film.mp4']},
        'without a suffix, by their content': {'count': 1, 'first': ['README']},
        'pipes, sockets or devices': {'count': 1, 'first': ['pipe']},
    }
    told = folder.summary(found.passed_over, most=2)
    assert told.startswith("11 passed over: 4 by their suffix .txt ('more.TXT', 'notes.txt', 'sub/last.txt', ...); 2 ")
    assert told.endswith('; 4 more reasons (--json)') and folder.summary({}) == ''


def test_pictures_of_formats_that_are_not_read_are_passed_over_with_what_to_do(tmp_path):
    for name in ('a.avif', 'b.AVIF', 'c.jp2', 'd.NEF', 'e.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'f').write_bytes(b'\0\0\0 ftypavif\0\0\0\0avifmif1')
    told = folder.summary(folder.walk(tmp_path).passed_over)
    change = 'pictures that are not read: convert them to JPEG or PNG'
    for suffix, names in (('.avif', "'a.avif', 'b.AVIF'"), ('.jp2', "'c.jp2'"), ('.nef', "'d.NEF'")):
        assert f'by their suffix {suffix}, {change} ({names})' in told
    assert f"1 without a suffix, by their content (AVIF), {change} ('f')" in told and "suffix .txt ('e.txt')" in told


def test_every_picture_is_read_or_told_why_not(root):
    read = {one.file.path: one for one in folder.read(folder.walk(root).files, root, (6, 4))}
    assert {path for path, one in read.items() if one.fault} == {'cut.jpg', 'empty.jpg'}
    assert read['cut.jpg'].fault.startswith('damaged') and read['empty.jpg'].fault.startswith('empty')
    assert all(one.pixels.shape == (6, 4, 3) for one in read.values() if not one.fault)
    (root / 'a.jpg').unlink()
    (gone,) = folder.read([folder.File('a.jpg', 1, 1)], root, (6, 4))
    assert gone.fault == 'no such file' and gone.pixels is None


def test_a_sparse_file_among_pictures_costs_no_memory(root):
    with open(root / 'huge.jpg', 'wb') as file:
        file.truncate(300 << 30)
    read = {one.file.path: one for one in folder.read(folder.walk(root).files, root, (6, 4))}
    assert 'above the limit' in read['huge.jpg'].fault and read['a.jpg'].pixels is not None
