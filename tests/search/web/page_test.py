"""The page in a real Chromium: a whole journey, and how it looks in light and dark, on a phone and on a desktop."""

import html
import json
import pathlib
import re
import time

import pytest

from tests import browser, searching
from tests.searching import WORDS, photo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.PROGRAM is None, reason='found no chromium; on Debian: apt-get install chromium'),
]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return searching.index_of_two_cameras(tmp_path_factory.mktemp('page'))


def test_a_journey_through_the_page_in_a_real_browser(made, tmp_path):
    pytest.importorskip('websocket', reason='found no websocket-client; pip install -r requirements-dev.txt')
    (tmp_path / 'new.jpg').write_bytes(photo(9))
    (tmp_path / 'chromium').mkdir()
    log = pathlib.Path(made.uri) / 'audit.jsonl'
    with browser.served(made.uri, tmp_path / 'log') as url, browser.Browser(tmp_path / 'chromium') as b:
        b.go(url)
        b.type('#text textarea', 'a woman in a red coat ${6*7} {{6*7}} <b>x</b>')
        b.click('#go')
        answer = b.wait_for_text('among 12 pictures', '#answer', 60)
        assert '${6*7} {{6*7}} <b>x</b>' in answer, 'words stay words'
        images = b.evaluate('[...document.querySelectorAll("#answer li img")].map(e => [e.src.slice(0, 22), '
                            'e.naturalWidth > 0])')  # fmt: skip
        assert images == [['data:image/jpeg;base64', True]] * 12
        ranks = re.findall(r'^(\d+)\. <?([\d.]+) %', answer, re.MULTILINE)
        chances = [float(chance) for _, chance in ranks]
        assert [int(rank) for rank, _ in ranks] == list(range(1, 13)) and chances == sorted(chances, reverse=True)

        b.click('#judging button')
        b.click('#chosen label:nth-of-type(1) input')
        b.click('#right')
        b.wait_for_text('1 marked as right', '#told')
        (line,) = (pathlib.Path(made.uri) / 'feedback.jsonl').read_text().splitlines()
        assert json.loads(line)['rank'] == 1 and json.loads(line)['right'] is True

        b.click('#liking button')
        b.attach('#like input[type=file]', tmp_path / 'new.jpg')
        b.wait_for_text('new.jpg', '#like')
        for sentence in ('a man in blue', 'a man in green'):  # the picture stays in its box
            b.type('#text textarea', sentence)
            b.click('#go')
            b.wait_for_text(f'{sentence} + 1 example picture', '#answer', 60)

        b.click('#adding button')
        b.attach('#files input[type=file]', tmp_path / 'new.jpg')
        b.wait_for_text('new.jpg', '#files')
        b.click('#add')
        b.wait_for_text('1 added', '#added', 60)
        b.click('#go')
        b.wait_for_text('among 13 pictures', '#answer')

        b.click('#chosen label:nth-of-type(2) input')
        b.click('#mark')
        b.wait_for_text('Type 1 to confirm', '#warning')
        b.type('#typed textarea, #typed input', '7')
        b.click('#erase')
        b.wait_for_text('Nothing was erased', '#told')
        b.type('#typed textarea, #typed input', '1')
        b.click('#erase')
        b.wait_for_text('1 picture erased', '#told')
        b.click('#go')
        b.wait_for_text('among 12 pictures', '#answer')

        foreign = [one for one in b.requests if not one.startswith((url, 'data:', 'blob:'))]
        assert not foreign and not b.errors and b.requests
    assert html.escape(url) in (tmp_path / 'log').read_text()
    events = [json.loads(line).get('event', 'search') for line in log.read_text().splitlines()]
    assert events[-8:] == ['search'] * 3 + ['upload', 'search', 'erase refused', 'erase', 'search']


# every text with the colour behind it: the first ancestor's that is not transparent
_CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    const hint = e.matches('input, textarea') && !e.value && e.placeholder;
    const r = e.getBoundingClientRect();
    if (!(own || hint) || !r.width || !r.height || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})
        || e.closest(':disabled')) continue;
    let back = e, colour;
    while (back && ((colour = rgb(getComputedStyle(back).backgroundColor))[3] ?? 1) < .9) back = back.parentElement;
    if (!back) colour = [255, 255, 255];
    const style = getComputedStyle(e, hint ? '::placeholder' : null);
    const [a, b] = [light(rgb(style.color)), light(colour)].sort((x, y) => y - x);
    found.push([Math.round((a + .05) / (b + .05) * 100) / 100, (own ? e.innerText : e.placeholder).slice(0, 40),
      e.tagName + '.' + String(e.className).slice(0, 40), style.color, String(colour)]);
  }
  return found;
})()"""
_SIZES = """[...document.querySelectorAll(
    'button, a, input:not([type=file]):not([type=checkbox]), label:has(> [type=checkbox])')]
  .map(e => [e, e.getBoundingClientRect()]).filter(([e, r]) => r.width && e.checkVisibility({visibilityProperty: true}))
  .filter(([e, r]) => Math.round(r.height) < 44 && !e.closest('.wrap-inner, [data-testid=file-upload]'))
  .map(([e, r]) => [e.outerHTML.slice(0, 120), r.height])"""
LOOKS = [('phone', (390, 844)), ('desktop', (1280, 800))]


@pytest.fixture(scope='module')
def url(made, tmp_path_factory):
    """Of the page."""
    with browser.served(made.uri, tmp_path_factory.mktemp('served') / 'log') as url:
        yield url


@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('name,size', LOOKS)
def test_the_page_is_readable_and_its_answer_in_view_at_once(url, tmp_path, name, size, dark):
    with browser.Browser(tmp_path, size=size) as b:
        b.colours(dark)
        b.go(url)
        b.type('#text textarea', WORDS)
        b.key('Enter')
        b.wait('!!document.querySelector("#answer li img")', 60)
        top = b.evaluate('document.querySelector("#answer li:nth-of-type(2) img").getBoundingClientRect().bottom')
        assert b.evaluate('scrollY') == 0 and top < size[1], 'the first pictures are seen without scrolling'
        assert b.evaluate('document.documentElement.scrollWidth') <= size[0], 'nothing is cut off at the side'
        head = b.text('#title')
        assert re.search(r'index\s· 12 pictures · model [0-9a-f]{8}, trained on synthetic pedestrians', head), head
        closed = b.evaluate(
            '[...document.querySelectorAll("[data-testid=accordion-content]")].map(e => e.offsetHeight)'
        )
        assert closed and not any(closed), 'filters and all else are folded'
        for box in ('#filters', '#options', '#judging', '#adding', '#liking', '#sql'):
            b.click(f'{box} button')
        time.sleep(0.5)
        assert b.evaluate('getComputedStyle(document.querySelector("#answer li img")).opacity') == '1', 'not faded'
        for state in ('open', 'large'):
            pale = [one for one in b.evaluate(_CONTRAST) if one[0] < 4.5]
            assert not pale, (state, pale)
            assert not b.evaluate(_SIZES), state
            if state == 'open':
                b.click('#answer li:nth-of-type(2) button')
                b.wait('!!document.querySelector("#large [role=dialog] img")')
                time.sleep(0.3)
        assert not b.errors


def test_an_answer_below_open_filters_is_scrolled_into_view(url, tmp_path):
    with browser.Browser(tmp_path, size=(390, 844)) as b:
        b.go(url)
        b.click('#filters button')
        b.click('#options button')
        b.evaluate('scrollTo(0, 0)')
        b.type('#text textarea', WORDS)
        b.evaluate('scrollTo(0, 0)')
        b.key('Enter')
        b.wait('!!document.querySelector("#answer li img")', 60)
        b.wait('document.querySelector("#answer li img").getBoundingClientRect().bottom < 844')


def test_an_error_goes_when_the_next_answer_comes(url, tmp_path):
    with browser.Browser(tmp_path) as b:
        b.go(url)
        b.click('#go')
        assert 'Found nothing to look for' in b.wait_for_text('nothing to look for', '#answer')
        b.type('#text textarea', WORDS)
        b.key('Enter')
        b.wait('!!document.querySelector("#answer li img")', 60)
        assert 'nothing to look for' not in b.text()


def test_the_keyboard_is_enough(url, tmp_path):
    with browser.Browser(tmp_path) as b:
        b.go(url)
        b.click('#text textarea')
        b.type('#text textarea', WORDS)
        b.key('Enter', shift=True)
        b.call('Input.insertText', text='a man in white')
        b.key('Enter')
        answer = b.wait_for_text('a man in white', '#answer', 60)
        assert f'{WORDS} + a man in white' in answer, 'Shift+Enter begins another sentence'
        places = []
        for _ in range(12):
            b.key('Tab')
            places.append(b.evaluate('document.activeElement.closest("[id]")?.id || document.activeElement.className'))
            ring = b.evaluate('getComputedStyle(document.activeElement).outlineStyle + " " + '
                              'getComputedStyle(document.activeElement).outlineWidth')  # fmt: skip
            assert ring == 'solid 3px', (places, ring)
            if b.evaluate('!!document.activeElement.closest("#answer button[data-rank]")'):
                break
        else:
            raise AssertionError(f'no hit is reached by Tab: {places}')
        assert places[0] == 'go' and 'filters' in places, places
        b.key('Enter')
        b.wait('document.querySelector("#large [role=dialog]")?.dataset.rank === "1"')
        b.wait('document.activeElement.matches("[data-close]")')
        b.key('ArrowRight')
        b.wait('document.querySelector("#large [role=dialog]")?.dataset.rank === "2"')
        for _ in range(5):
            b.key('Tab')
            assert b.evaluate('!!document.activeElement.closest("#large")'), 'keys stay in the large view'
        b.key('Escape')
        b.wait('!document.querySelector("#large [role=dialog]")')
        assert b.evaluate('document.activeElement.dataset.rank') == '2', 'and come back to the hit'
