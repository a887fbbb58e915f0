"""python main.py search --index=I "a woman in a red coat": the pictures of an index, ranked by a description."""

import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from lcr2s_jax.errors import ConfigError, SearchError

_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f]')  # a file name could speak to the terminal
_SHOWN = 4  # of the user's columns on the terminal


class Wanted(NamedTuple):
    """What the command line asks for.

    Attributes:
      words: one sentence, quoted or not.
      also: other sentences about the same person.
      like: picture files of that person.
      queries: file with a sentence a line instead; or None.
      top, where, group_by, false_alarms, exact: as of `lcr2s_jax.search.search.Search`.
      why: tell what every phrase did.
    """

    words: Sequence[str]
    also: Sequence[str]
    like: Sequence[str]
    queries: str | None
    top: int
    where: str
    group_by: str
    false_alarms: float
    exact: bool
    why: bool


def search(uri: str, wanted: Wanted, page: str | None, as_json: bool) -> None:
    """Search, write it into the audit log, and only then print it.

    Args:
      uri: of the index.
      wanted: what to look for.
      page: HTML file to write, or None.
      as_json: print JSON instead of tables.
    """
    from lcr2s_jax.search import audit
    from lcr2s_jax.search import html as sheet

    sentences = _sentences(wanted)  # a mistake in it should not wait for the index to open
    if page:
        _check_page(pathlib.Path(page))
    opened = open_search(uri)
    if wanted.queries:
        queries = [asking((text,), ()) for text in sentences]
    else:
        queries = [asking(sentences, embed_files(opened.searcher, wanted.like))]
    with audit.refusals(uri, audit.user(), {'text': list(sentences), 'where': wanted.where}):
        answers = opened(
            queries,
            top=wanted.top,
            false_alarms=wanted.false_alarms,
            where=wanted.where,
            group_by=wanted.group_by,
            exact=wanted.exact,
        )
    reasons = [opened.why(answer.query, answer.hits) if wanted.why else [] for answer in answers]
    audit.write(uri, [audit.line(audit.user(), answer, opened, wanted.where) for answer in answers])
    if page:
        sheet.write(pathlib.Path(page), answers, 'Search')
    if as_json:
        print(json.dumps(_json(uri, opened, wanted, answers, reasons), indent=2, default=str))
    else:
        _show(answers, reasons, page)


def open_search(uri: str):
    """An index, ready for queries: `lcr2s_jax.search.search.Search`. Needs neither workdir nor TensorFlow."""
    from lcr2s_jax.search import gallery
    from lcr2s_jax.search import storage as place
    from lcr2s_jax.search.search import Search
    from lcr2s_jax.weights import tokenizer as tokens
    from lcr2s_jax.weights.bundle import Searcher

    folder = place.model_folder(uri)
    if folder is None:
        raise ConfigError(
            f'--index: found no index at {uri}; make one: python main.py index --workdir=... --images=... --index={uri}'
        )
    searcher = Searcher(folder)
    return Search(gallery.Gallery(uri), searcher, tokens.Tokenizer(str(folder)))


def asking(sentences: Sequence[str], example_nE: Sequence):
    """A `lcr2s_jax.search.query.Query`."""
    from lcr2s_jax.search.query import Query

    return Query(tuple(sentences), tuple(example_nE))


def embed_files(searcher, files: Sequence[str]) -> list:
    """Vectors of example pictures, decoded as indexed ones are. Raises SearchError."""
    return [embed_bytes(searcher, _bytes(file), file) for file in files]


def embed_bytes(searcher, encoded: bytes, name: str):
    """The vector [E] of one example picture. Raises SearchError, with the name that the user knows it by."""
    from lcr2s_jax.search import folder

    pixels, fault = folder.decode(encoded, searcher.clip.image_size, searcher.facts['origin']['max_pixels'])
    if fault:
        raise SearchError(f'--like: {name} cannot be used: {fault}')
    return searcher.embed_image(pixels[None])[0]


def _check_page(path: pathlib.Path) -> None:
    if path.is_dir():
        raise ConfigError(f'--html: found the folder {path}, expected the name of a file, such as {path / "out.html"}')
    if not path.parent.is_dir():
        raise ConfigError(f'--html: found no folder {path.parent}, where {path.name} shall be written; make it first')


def _bytes(file: str) -> bytes:
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise SearchError(f'--like: {file} cannot be read ({error.strerror}); expected a picture file') from None


def _sentences(wanted: Wanted) -> list[str]:
    said = [' '.join(wanted.words)] * bool(wanted.words) + list(wanted.also)
    if not wanted.queries:
        if not said and not wanted.like:
            raise SearchError(
                'search: found nothing to look for; expected a sentence, --like=picture or --queries=file'
            )
        return said
    if said or wanted.like:
        raise SearchError('--queries: found a sentence, --and or --like beside it; expected the file alone')
    try:
        lines = pathlib.Path(wanted.queries).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SearchError(
            f'--queries: {wanted.queries} cannot be read ({error}); expected text, a sentence a line'
        ) from None
    if not any(line.strip() for line in lines):
        raise SearchError(f'--queries: found no sentence in {wanted.queries}; expected one a line')
    return [line.strip() for line in lines if line.strip()]


def _json(uri: str, opened, wanted: Wanted, answers, reasons) -> dict:
    return {
        'index': uri,
        'model': opened.searcher.hash,
        'version': opened.gallery.version,
        'false_alarms': wanted.false_alarms,
        'answers': [
            {
                'sentences': answer.query.sentences,
                'examples': wanted.like,
                'searched': answer.searched,
                'exact': answer.exact,
                'found': answer.found,
                'threshold': answer.threshold,
                'notes': answer.notes,
                'hits': [
                    {name: value for name, value in hit._asdict().items() if name != 'row'} for hit in answer.hits
                ],
                'why': [{'phrase': phrase, 'moved': moved} for phrase, moved in why],
            }
            for answer, why in zip(answers, reasons, strict=True)
        ],
    }


def _show(answers, reasons, page: str | None) -> None:
    import rich.console
    import rich.text

    from lcr2s_jax.search import html as sheet

    console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for answer, why in zip(answers, reasons, strict=True):
        for note in answer.notes:
            print(f'search: {note}', file=sys.stderr)
        console.print(rich.text.Text(_clean(sheet.asked(answer)), 'bold'))
        console.print(rich.text.Text(sheet.verdict(answer)))
        console.print(_table(answer))
        for phrase, moved in why if answer.hits else ():
            best = f'{moved[0]:+.3f} the best hit, {sum(moved) / len(moved):+.3f} all {len(moved)} of them on average'
            console.print(rich.text.Text(f"  '{_clean(phrase)}' moved {best}"))
        console.print()
    if page:
        console.print(rich.text.Text(f'written: {page}'))


def _table(answer):
    import rich.table
    import rich.text

    named = [name for name in (answer.hits[0].metadata if answer.hits else ()) if
             any(hit.metadata[name] is not None for hit in answer.hits)][:_SHOWN]  # fmt: skip
    table = rich.table.Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style='bold')
    for name in ('', 'probability', 'score', 'path', *named):
        table.add_column(name, justify='left' if name in ('path', *named) else 'right', overflow='fold')
    for hit in answer.hits:
        chance = '' if hit.probability is None else f'{hit.probability:.1%}'
        cells = [str(hit.rank), chance, f'{hit.score:.3f}', hit.path, *(hit.metadata[name] for name in named)]
        style = 'dim' if hit.passes is False else ''
        table.add_row(*(rich.text.Text('' if cell is None else _clean(str(cell))) for cell in cells), style=style)
    return table


def _clean(text: str) -> str:
    return _CONTROL.sub('?', text)
