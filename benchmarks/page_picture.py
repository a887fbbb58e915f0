"""The README's picture of the page: an index is served, a real Chromium asks for somebody, and what it shows is saved.

python -m benchmarks.page_picture --index=I --out=page.png [--phone] [--dark] "a sentence" ["another" ...]
"""

import argparse
import pathlib
import tempfile
import time

from tests import browser


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--index', required=True, help='folder of the index')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='picture to write, PNG')
    parser.add_argument('--phone', action='store_true', help='as wide as a phone')
    parser.add_argument('--dark', action='store_true', help='in dark mode')
    parser.add_argument('sentences', nargs='+', help='what is typed into the page')
    given = parser.parse_args()
    if browser.PROGRAM is None:
        parser.error('found no Chromium, expected chromium or google-chrome among the programs that can be called')
    with tempfile.TemporaryDirectory() as folder:
        (own := pathlib.Path(folder) / 'chromium').mkdir()
        log = pathlib.Path(folder) / 'log'
        with (
            browser.served(given.index, log) as url,
            browser.Browser(own, size=(390, 844) if given.phone else (1200, 860)) as page,
        ):
            page.colours(given.dark)
            page.go(url)
            page.type('#text textarea', '\n'.join(given.sentences))
            page.click('#go')
            page.wait('!!document.querySelector("#answer li img")', 60)
            page.evaluate('window.scrollTo(0, 0), document.activeElement.blur()')
            page.evaluate('Promise.all([...document.images].map(image => image.decode()))')
            time.sleep(1)  # gradio fades in what is new
            page.picture(given.out)


if __name__ == '__main__':
    main()
