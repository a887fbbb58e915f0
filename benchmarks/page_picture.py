"""The README's picture of the page: an index is served, a real Chromium asks for somebody, and what it shows is saved.

python -m benchmarks.page --index=I --out=docs/images/page.png "a sentence" ["another of the same person" ...]
"""

import argparse
import pathlib
import tempfile
import time

from tests import browser


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--index', required=True)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('sentences', nargs='+')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (own := pathlib.Path(folder) / 'chromium').mkdir()
        log = pathlib.Path(folder) / 'log'
        with browser.served(given.index, log) as url, browser.Browser(own, size=(1200, 1180)) as page:
            page.go(url)
            page.type('#text textarea', '\n'.join(given.sentences))
            page.click('#why input')
            page.click('#go')
            page.wait_for_text('without it', '#answer', 60)
            page.evaluate('window.scrollTo(0, 0), document.activeElement.blur()')
            page.evaluate('Promise.all([...document.images].map(image => image.decode()))')
            time.sleep(1)  # gradio fades in what is new
            page.picture(given.out)


if __name__ == '__main__':
    main()
