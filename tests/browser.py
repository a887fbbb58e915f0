"""The page as it is served, and a real Chromium by its DevTools protocol: real clicks and keys, what it asked for."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from tests.road import ROOT, free_port

PROGRAM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
# QUIC and all that Chromium does on its own account would be requests of nobody's
_QUIET = (
    'headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update '
    'disable-sync disable-dev-shm-usage hide-scrollbars remote-debugging-port=0'
).split()


@contextlib.contextmanager
def served(uri: str, log: pathlib.Path):
    """The page of an index, by the command; its address. Ended by SIGTERM."""
    port = free_port()
    call = [sys.executable, 'main.py', 'serve', f'--index={uri}', f'--port={port}']
    with log.open('w') as out:
        env = os.environ | {'TMPDIR': str(log.parent)}
        process = subprocess.Popen(call, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)

    def answers():
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
            return True

    try:
        _until(answers, 300, 'the page')
        yield f'http://127.0.0.1:{port}/'
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    assert status == 143, log.read_text()
    assert not list(log.parent.glob('lcr2s-page-*')), 'uploads are left behind'


class Browser:
    """One page.

    Args:
      folder: empty; Chromium's own.
      size: of what it shows in pixels, width and height.

    Attributes:
      requests: every URL that the page asked for.
      errors: what it wrote into its console as an error, and exceptions.
    """

    def __init__(self, folder: pathlib.Path, size=(1200, 900)):
        import websocket

        self.requests, self.errors, self._numbers = [], [], itertools.count(1)
        self._process = subprocess.Popen(
            [PROGRAM, *(f'--{flag}' for flag in _QUIET), f'--user-data-dir={folder}', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        told = folder / 'DevToolsActivePort'
        _until(lambda: told.is_file() and told.read_text().strip(), 30, 'Chromium to start')
        port = told.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f'http://127.0.0.1:{port}/json'))
        url = next(page['webSocketDebuggerUrl'] for page in pages if page['type'] == 'page')
        self._socket = websocket.create_connection(url, timeout=60, suppress_origin=True)
        for domain in ('Page', 'Network', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')
        shape = dict(zip(('width', 'height'), size, strict=True))
        self.call('Emulation.setDeviceMetricsOverride', **shape, deviceScaleFactor=1, mobile=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def call(self, method: str, **params) -> dict:
        """One command of the protocol; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({'id': number, 'method': method, 'params': params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get('id') == number:
                assert 'error' not in message, (method, message)
                return message['result']
            self._note(message.get('method'), message.get('params', {}))

    def _note(self, event: str, params: dict) -> None:
        if event == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])
        elif event == 'Runtime.exceptionThrown':
            self.errors.append(str(params['exceptionDetails'].get('exception', params['exceptionDetails'])))
        elif event == 'Log.entryAdded' and params['entry']['level'] == 'error':
            self.errors.append(f'{params["entry"]["text"]} {params["entry"].get("url", "")}')

    def evaluate(self, script: str):
        """The value of a JavaScript expression."""
        found = self.call('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in found, (script, found)
        return found['result'].get('value')

    def go(self, url: str) -> None:
        """Open the page and wait for its last box: before, what is pressed may be moved or not yet be listening."""
        self.call('Page.navigate', url=url)
        self.wait('!!document.querySelector("#adding button") && !document.body.innerText.includes("Loading")', 60)

    def wait(self, script: str, seconds: float = 20):
        """The value of an expression as soon as it is true."""
        return _until(lambda: self.evaluate(script), seconds, f'{script}; the page says {self.text()[-1500:]!r}')

    def text(self, selector: str = 'body') -> str:
        """What can be read there; '' where nothing is."""
        return self.evaluate(f'document.querySelector({json.dumps(selector)})?.innerText ?? ""')

    def wait_for_text(self, words: str, selector: str = 'body', seconds: float = 20) -> str:
        """All that can be read there as soon as it has some words."""
        self.wait(f'document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(words)})', seconds)
        return self.text(selector)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, as soon as it stands still and nothing lies over it."""
        middle = (
            f'(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null; '
            'e.scrollIntoView({block: "center", behavior: "instant"}); const r = e.getBoundingClientRect(); '
            'const x = r.x + r.width / 2, y = r.y + r.height / 2; '
            'return r.width && e.contains(document.elementFromPoint(x, y)) ? [x, y] : null; })()'
        )
        seen: list = [None]

        def still():
            seen.append(self.evaluate(middle))
            return seen[-1] if seen[-1] == seen[-2] else None

        x, y = _until(still, 20, f'{selector} to be pressed')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put a text into a box that may have another."""
        self.click(selector)
        self.evaluate(f'document.querySelector({json.dumps(selector)}).select()')
        self.call('Input.insertText', text=text)

    def key(self, name: str, shift: bool = False) -> None:
        """Press a key, such as Enter, Tab or Escape."""
        codes = {'Enter': 13, 'Tab': 9, 'Escape': 27, 'ArrowLeft': 37, 'ArrowRight': 39}
        facts = dict(key=name, code=name, windowsVirtualKeyCode=codes[name], modifiers=8 * shift)
        text = {'text': '\r'} if name == 'Enter' else {}
        self.call('Input.dispatchKeyEvent', type='keyDown', **facts, **text)
        self.call('Input.dispatchKeyEvent', type='keyUp', **facts)

    def colours(self, dark: bool) -> None:
        """What the user's system prefers."""
        value = 'dark' if dark else 'light'
        self.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': value}])

    def attach(self, selector: str, *files: pathlib.Path) -> None:
        """Choose files for an input."""
        self.wait(f'!!document.querySelector({json.dumps(selector)})')
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', files=[str(file) for file in files], nodeId=node)

    def picture(self, path: pathlib.Path) -> None:
        """Save what the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot', format='png')['data']))


def _until(ready, seconds: float, what: str):
    deadline = time.time() + seconds
    while not (value := ready()):
        assert time.time() < deadline, f'waited {seconds} s for {what}'
        time.sleep(0.1)
    return value
