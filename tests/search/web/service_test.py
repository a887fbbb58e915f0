"""The service behind the page: what it finds, keeps, takes in and erases, and what it writes down of that."""

import concurrent.futures
import json
import pathlib
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax import images
from lcr2s_jax.cli.delete import forget
from lcr2s_jax.errors import SearchError
from lcr2s_jax.search import appearance, audit, retention
from lcr2s_jax.search import storage as place
from lcr2s_jax.search.gallery import Gallery
from lcr2s_jax.search.index import update
from lcr2s_jax.search.web import app, service, view
from tests import road, searching
from tests.searching import WORDS, photo

LIMITS = service.Limits(100_000, 10_000, 3, 20_000)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Twelve pictures, of cameras c0, c1, c2, and a `time` of its own for each."""
    made = searching.index(tmp_path_factory.mktemp('serve'))
    table = made.root.parent / 'm.csv'
    paths = sorted(path.relative_to(made.root).as_posix() for path in made.root.rglob('*.png'))
    lines = [f'{path},c{number % 3},2026-05-{number + 1:02}' for number, path in enumerate(paths)]
    table.write_text('\n'.join(['path,camera,time', *lines]))
    made.update(table=str(table))
    return made


def lines(one: service.Service, name=audit.NAME):
    path = pathlib.Path(one.search.gallery.uri) / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def paths(found):
    return [hit.path for hit in found.answer.hits]


def test_lines_are_sentences_about_one_person_and_the_log_says_who_asked(at):
    found = at.find('ann', service.SearchRequest(f'{WORDS}\n\n  a man in white \n', top=5))
    assert found.answer.query.sentences == (WORDS, 'a man in white') and len(found.answer.hits) == 5
    (line,) = lines(at)
    assert line['user'] == 'ann' and line['text'] == [WORDS, 'a man in white'] and line['time'].startswith('20')
    assert line['model'] == at.search.model.hash and line['top'][0].endswith(found.answer.hits[0].path)


def test_that_nobody_is_there_is_said_where_it_is_asked_for(at):
    asked = service.SearchRequest(WORDS, false_alarms=0.01)
    assert at.find('ann', asked).answer.found is None
    assert at.find('ann', asked._replace(verify=True)).answer.found is False


def test_columns_with_few_values_are_offered_and_narrow_the_search(at):
    assert at.filters.choices == {'camera': ['c0', 'c1', 'c2'], 'time': [f'2026-05-{day:02}' for day in range(1, 13)]}
    chosen = {'camera': ['c0', 'c1'], 'time': []}
    found = at.find('ann', service.SearchRequest(WORDS, where="time > '2026-05-06'", chosen=chosen, top=50))
    assert {hit.metadata['camera'] for hit in found.answer.hits} == {'c0', 'c1'} and found.answer.searched == 4
    assert lines(at)[-1]['where'] == "(time > '2026-05-06') and (`camera` in ('c0', 'c1'))"
    with pytest.raises(SearchError, match=r"found camera = .*expected one of \['c0', 'c1', 'c2'\]"):
        at.find('ann', service.SearchRequest(WORDS, chosen={'camera': ["c0') or ('' = '"]}))


def test_an_example_picture_finds_itself_and_every_phrase_can_be_explained(at, made):
    encoded = (made.root / 'a' / '004.png').read_bytes()
    assert paths(at.find('ann', service.SearchRequest('', [('x.png', encoded)], top=3)))[0] == 'a/004.png'
    found = at.find('ann', service.SearchRequest(WORDS, [('x.png', encoded)], why=True))
    assert [phrase for phrase, _ in found.why] == ['a woman', 'in a red coat', 'with a black backpack']
    assert 'in a red coat</td><td>' in view.answer(found, at.index) and lines(at)[-1]['examples'] == 1


@pytest.mark.parametrize(
    'asked,words',
    [
        (service.SearchRequest(' \n '), 'found nothing to look for'),
        (service.SearchRequest('a\n' * 9), 'found 9 sentences, expected at most 8'),
        (service.SearchRequest('a' * 2001), 'found 2,001 letters'),
        (service.SearchRequest('a', top=101), 'found 101 hits'),
        (service.SearchRequest('a', top=0), 'found 0 hits, expected 1 or more'),
        (service.SearchRequest('', [('x.png', b'')] * 5), 'found 5 example pictures'),
        (service.SearchRequest('', [('x.png', b'no')]), 'x.png: no picture'),
        (service.SearchRequest('', [('x.png', photo(size=(200, 60)))]), 'x.png: a picture of 0.012 million pixels'),
        (service.SearchRequest('a', where='camra = 1'), 'Expected SQL over the columns'),
    ],
)
def test_what_cannot_be_looked_for_is_explained_and_written_down_in_one_line(at, asked, words):
    at.limits = LIMITS
    with pytest.raises(SearchError) as error:
        at.find('ann', asked)
    assert words in str(error.value)
    (line,) = lines(at)
    assert (line['user'], line['event']) == ('ann', 'search refused') and words[:40] in line['why']


def test_a_log_that_cannot_be_written_shows_nothing_and_changes_nothing(at, monkeypatch):
    found = at.find('ann', service.SearchRequest(WORDS))
    before = at.search.gallery.version
    road.nothing_can_be_written(monkeypatch)
    for act in (
        lambda: at.find('ann', service.SearchRequest(WORDS)),
        lambda: at.add('ann', [('x.jpg', photo())]),
        lambda: at.erase('ann', at.mark(found, [1]), '1'),
    ):
        with pytest.raises(SearchError, match='audit log cannot be written|nothing can be written there'):
            act()
    assert at.search.gallery.version == before and not place.uploads(at.search.gallery.uri).exists()


def test_the_audit_log_can_be_kept_apart_from_the_index(at, made, tmp_path):
    apart = app.open_service(made.uri, str(tmp_path / 'log.jsonl'))
    apart.login('ann', False)
    assert json.loads((tmp_path / 'log.jsonl').read_text())['event'] == 'login refused' and not lines(apart)


def test_feedback_is_appended_with_what_was_asked_and_what_was_shown(at):
    found = at.find('ann', service.SearchRequest(WORDS))
    assert at.judge('ann', found, [1, 3], True) == 2 and at.judge('bob', found, [2], False) == 1
    kept = lines(at, audit.FEEDBACK)
    assert [(line['user'], line['rank'], line['right']) for line in kept] == [
        ('ann', 1, True),
        ('ann', 3, True),
        ('bob', 2, False),
    ]
    assert kept[1]['path'] == found.answer.hits[2].path and kept[1]['text'] == [WORDS] and kept[1]['model']
    for nothing in ((found, []), (found, [99]), (None, [1])):
        with pytest.raises(SearchError, match='no hit that is chosen'):
            at.judge('ann', *nothing, True)


def test_an_upload_is_kept_as_pixels_alone_and_found_at_once(at):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = 'Secret Camera', 6  # lies on its side
    encoded = photo(7, exif=exif, icc_profile=b'a profile') + b'a tail'
    assert at.add('ann', [('../../holiday.jpg', encoded)]) == (1, [])
    (kept,) = place.uploads(at.search.gallery.uri).iterdir()
    assert kept.suffix == '.png' and 'holiday' not in kept.name and kept.stat().st_mode & 0o777 == 0o600
    assert not any(words in kept.read_bytes() for words in (b'Secret', b'profile', b'tail', b'iCCP', b'eXIf'))
    with Image.open(kept) as image:
        assert image.size == (60, 30), 'upright'
    found = at.find('ann', service.SearchRequest('', [('same.png', kept.read_bytes())]))
    assert paths(found)[0] == kept.name and found.answer.searched == 13
    pixels = images.pixels(kept.read_bytes(), at.search.model.image_size)
    (row,) = (hit.row for hit in found.answer.hits if hit.path == kept.name)
    np.testing.assert_array_equal(searching.looks(at.search.gallery, [row])[0], appearance.statistics(pixels))
    upload = lines(at)[0]
    assert upload['event'] == 'upload' and upload['user'] == 'ann' and upload['paths'] == [str(kept)]


def test_an_upload_beyond_the_limits_is_refused_by_name_and_the_others_are_taken(at):
    at.limits = LIMITS
    files = [('big.jpg', b'x' * 100_001), ('wide.png', photo(size=(110, 100))), ('good.jpg', photo(1))]
    count, refused = at.add('ann', files)
    assert count == 1 and len(refused) == 2
    assert 'big.jpg: a file of 100,001 bytes' in refused[0] and 'wide.png: a picture of 0.011 million' in refused[1]
    (upload, not_taken) = lines(at)
    assert (upload['event'], not_taken['event'], not_taken['count']) == ('upload', 'upload refused', 2)
    files = [('cut.jpg', photo(2)[:-100]), ('a.pdf', b'%PDF-1.4 x'), ('good.jpg', photo(1))]
    count, refused = at.add('ann', files)
    assert count == 0 and 'cut.jpg: damaged' in refused[0] and 'a.pdf: ' in refused[1]
    assert 'good.jpg: is in the index already' in refused[2]
    assert len(list(place.uploads(at.search.gallery.uri).iterdir())) == 1


def test_pictures_and_pixels_of_one_upload_are_counted_together(at):
    at.limits = LIMITS
    with pytest.raises(SearchError, match='found 4 pictures at once, expected at most 3'):
        at.add('ann', [('x.jpg', photo(4))] * 4)
    with pytest.raises(SearchError, match='more than 20,000 pixels, c.png the picture that is too much'):
        at.add('ann', [(f'{name}.png', photo(size=(99, 99))) for name in 'abc'])
    assert [line['event'] for line in lines(at)] == ['upload refused'] * 2


def test_a_search_is_answered_while_a_picture_is_decoded(at):
    """The lock of searches is free for as long as a hostile picture takes."""
    began, go_on = threading.Event(), threading.Event()
    decode = at._decoders[1]

    def slow(*args):
        began.set()
        assert go_on.wait(60)
        return decode(*args)

    at._decoders = at._decoders[0], slow
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        adding = pool.submit(at.add, 'bob', [('x.jpg', photo(1))])
        assert began.wait(60)
        assert at.find('ann', service.SearchRequest(WORDS)).answer.searched == 12 and not adding.done()
        go_on.set()
        assert adding.result(60) == (1, [])


def test_erasing_takes_two_steps_and_leaves_no_byte_of_an_upload(at, made):
    at.add('ann', [('x.jpg', photo(5))])
    (kept,) = place.uploads(at.search.gallery.uri).iterdir()
    content = kept.read_bytes()
    found = at.find('ann', service.SearchRequest('', [('x.png', content)]))
    vector = at.search.gallery.vectors_at([found.answer.hits[0].row])[0].tobytes()
    folder = pathlib.Path(at.search.gallery.uri) / 'images.lance'
    there = [path for path in folder.rglob('*') if path.is_file() and vector in path.read_bytes()]
    assert there, 'else the last line proves nothing'
    marked = at.mark(found, [1, 2])
    for typed in ('', '1', 'yes', '22'):
        with pytest.raises(SearchError, match='nothing was erased: .* expected 2, the number'):
            at.erase('ann', marked, typed)
    assert [line['event'] for line in lines(at)[-4:]] == ['erase refused'] * 4
    assert at.search.gallery.count() == 13 and kept.exists()
    assert at.erase('ann', marked, ' 2 ') == 2
    after = at.find('ann', service.SearchRequest('', [('x.png', content)], top=50))
    assert after.answer.searched == 11 and not set(paths(after)) & {path for _, path in marked}
    assert not kept.exists() and len(list(made.root.rglob('*.png'))) == 12, 'files of others stay'
    assert not any(vector in path.read_bytes() for path in folder.rglob('*') if path.is_file())
    assert lines(at)[-2]['event'] == 'erase' and len(lines(at)[-2]['paths']) == 2
    with pytest.raises(SearchError, match='mark some first'):
        at.erase('ann', None, '2')


def test_pictures_of_an_object_store_are_shown_while_they_are_there_and_can_be_erased(at, made, tmp_path, monkeypatch):
    shutil.copytree(made.root, tmp_path / 'store')
    url = (tmp_path / 'store').as_uri()  # the road of s3://, to a disk
    update(Gallery(at.search.gallery.uri), at.search.model, url)
    found = at.find('ann', service.SearchRequest(WORDS, where="root like 'file:%'", top=3))
    assert [hit.root for hit in found.answer.hits] == [url] * 3
    assert view.answer(found, at.index).count('<img') == 3
    (tmp_path / 'store' / found.answer.hits[2].path).unlink()
    monkeypatch.setattr(view, '_KEPT', 1e-9)
    assert view.answer(found, at.index).count('<img') == 2
    assert at.erase('ann', at.mark(found, [1]), '1') == 1 and Gallery(at.search.gallery.uri).count() == 23


def test_what_was_erased_cannot_be_uploaded_again(at, made):
    at.add('ann', [('x.jpg', photo(6))])
    whole = service.SearchRequest('', [('x.jpg', photo(6))], top=50)
    found = at.find('ann', whole)
    crop = next(hit for hit in found.answer.hits if hit.root == str(made.root))
    at.erase('ann', at.mark(found, [1, crop.rank]), '2')
    again = [('x.jpg', photo(6)), ('crop.png', (made.root / crop.path).read_bytes())]
    count, refused = at.add('ann', again)
    assert count == 0 and all('was deleted from this index once' in said for said in refused) and len(refused) == 2


def test_a_deletion_on_the_command_line_takes_uploaded_files_too_and_is_written_down(at, capsys):
    at.add('ann', [('x.jpg', photo(8))])
    uri = at.search.gallery.uri
    forget(uri, "root like '%/uploads'", False)
    assert len(list(place.uploads(uri).iterdir())) == 1 and lines(at)[-1]['event'] == 'delete, asked only'
    forget(uri, "root like '%/uploads'", True)
    assert list(place.uploads(uri).iterdir()) == [] and Gallery(uri).count() == 12
    assert '1 row forgotten, the bytes erased, and the files of 1 upload;' in capsys.readouterr().out
    asked, done = lines(at)[-2:]
    assert (asked['event'], asked['where'], done['rows']) == ('delete', "root like '%/uploads'", 1) and asked['user']


def test_a_service_goes_on_when_another_process_has_erased_or_added(at):
    before = at.find('ann', service.SearchRequest(WORDS, top=50))
    retention.delete(Gallery(at.search.gallery.uri), "camera = 'c1'")
    after = at.find('ann', service.SearchRequest(WORDS, top=50))
    assert before.answer.searched == 12 and after.answer.searched == 8
    marked = at.mark(before, [1])
    erased = at.erase('bob', marked, '1')  # a hit of an older version may be gone already
    left = {(hit.root, hit.path) for hit in at.find('ann', service.SearchRequest(WORDS, top=50)).answer.hits}
    assert len(left) == 8 - erased and not left & set(marked)


def test_a_file_that_became_a_link_out_of_its_root_is_not_shown(at, tmp_path):
    at.add('ann', [('x.jpg', photo(5))])
    (kept,) = place.uploads(at.search.gallery.uri).iterdir()
    asked = service.SearchRequest(WORDS, where=f"path = '{kept.name}'")
    assert view.answer(at.find('ann', asked), at.index).count('<img') == 1
    kept.rename(tmp_path / 'out.png')
    kept.symlink_to(tmp_path / 'out.png')
    text = view.answer(at.find('ann', asked), at.index)
    assert '<img' not in text and 'the file is not there any more' in text


def test_many_at_once_are_served_one_after_the_other(at):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        finding = [pool.submit(at.find, f'u{number}', service.SearchRequest(WORDS, top=20)) for number in range(5)]
        adding = [pool.submit(at.add, 'ann', [('x.jpg', photo(number))]) for number in range(3)]
        assert [one.result()[0] for one in adding] == [1, 1, 1]
        assert {one.result().answer.searched for one in finding} <= {12, 13, 14, 15}
    assert at.find('ann', service.SearchRequest(WORDS)).answer.searched == 15 and len(lines(at)) == 9


def test_an_index_on_an_object_store_takes_no_upload(at, monkeypatch):
    assert place.uploads('s3://bucket/i') is None
    monkeypatch.setattr(place, 'uploads', lambda uri: None)
    with pytest.raises(SearchError, match='object store keeps no pictures'):
        at.add('ann', [('x.jpg', photo())])


def test_no_word_of_others_becomes_markup(at):
    found = at.find('ann', service.SearchRequest('<img src=x onerror=alert(1)> ${1+1} in a coat', why=True))
    hits = [found.answer.hits[0]._replace(path='<script>a</script>', metadata={'camera': '<b>c</b>'})]
    text = view.answer(found._replace(answer=found.answer._replace(hits=hits)), at.index)
    assert '<img src=x' not in text and '<script' not in text and '<b>c' not in text
    assert '&lt;img src=x' in text and '&lt;script&gt;a' in text and '&lt;b&gt;c' in text


def test_the_log_keeps_the_beginning_of_a_name_that_is_too_long(at):
    at.login('a' * 900_000, False)
    assert lines(at)[-1]['user'] == 'a' * service.MOST_NAME
