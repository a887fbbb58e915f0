"""lcr2s search --index=I "a woman in a red coat": the pictures of an index, ranked by a description."""

import argparse
import json
import pathlib
import re
import sys

from lcr2s_jax.cli.parser import integer, number, place
from lcr2s_jax.errors import ConfigError, SearchError

ABOUT = 'Rank the pictures of an index by a description.'
WORDS = '"a sentence" ...'
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f]')  # a file name could speak to the terminal
_SHOWN = 4  # of the user's columns on the terminal


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('words', nargs='*', metavar='"a sentence"',
        help='What is looked for; each quoted sentence is a query of its own.')  # fmt: skip
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add(
        '--and',
        action='append',
        default=[],
        dest='also',
        metavar='TEXT',
        help='Another sentence about that person; may be repeated.',
    )
    add(
        '--like',
        action='append',
        default=[],
        type=place,
        metavar='FILE',
        help='Picture of that person; may be repeated.',
    )
    add('--queries', type=place, metavar='FILE', help='Text with a sentence a line, searched in one batch.')
    add('--top', type=integer(1), default=10, metavar='N', help='Hits of each query.')
    add('--where', default='', metavar='SQL', help='Condition over the columns, such as "camera = \'c1\'".')
    add(
        '--group-by',
        default='',
        metavar='COLUMN',
        help='Column of which every value is shown once, by its best picture.',
    )
    add('--why', action='store_true', help='Show how much each phrase moved the score of the hits.')
    add('--exact', action='store_true', help='Compare every vector, however many there are.')
    add(
        '--false-alarms',
        type=number(0.01, 0.5),
        default=0.05,
        metavar='RATE',
        help='Of searches for somebody who is not there, the share that may find somebody.',
    )
    add('--html', type=place, metavar='FILE', help='File to write: one page with the pictures in it.')
    add('--json', action='store_true', help='Print JSON instead of text.')


def run(args: argparse.Namespace) -> None:
    """Search, write it into the audit log, and only then print it."""
    asked = _queries(args)  # a mistake in it should not wait for the index to open
    if args.html:
        _check_page(pathlib.Path(args.html))
    from lcr2s_jax.search import audit, index
    from lcr2s_jax.search import html as sheet
    from lcr2s_jax.search.query import Query

    opened = index.open_search(args.index)
    examples = tuple(index.embed_picture(opened.searcher, _bytes(file), file) for file in args.like)
    with audit.refusals(args.index, audit.user(), {'text': sum(asked, []), 'where': args.where}):
        answers = opened(
            [Query(tuple(sentences), examples) for sentences in asked],
            top=args.top,
            false_alarms=args.false_alarms,
            where=args.where,
            group_by=args.group_by,
            exact=args.exact,
        )
    reasons = [opened.why(answer.query, answer.hits) if args.why else [] for answer in answers]
    audit.write(args.index, [audit.line(audit.user(), answer, opened, args.where) for answer in answers])
    if args.html:
        sheet.write(pathlib.Path(args.html), answers, 'Search')
    if args.json:
        print(json.dumps(_json(args, opened, answers, reasons), indent=2, default=str))
    else:
        _show(answers, reasons, args.html)


def _queries(args: argparse.Namespace) -> list[list[str]]:
    """The sentences of each query. Quoted sentences are queries of their own; words without quotes are one sentence."""
    if args.queries:
        if args.words or args.also or args.like:
            raise SearchError('--queries: found a sentence, --and or --like beside it; expected the file alone')
        return [[line] for line in _lines(args.queries)]
    quoted = any(re.search(r'\s', word.strip()) for word in args.words)
    said = args.words if quoted else [' '.join(args.words)] * bool(args.words)
    if len(said) > 1 and (args.also or args.like):
        raise SearchError(
            f'search: found {len(said)} sentences beside --and or --like, which are about one person; expected one '
            'sentence, and the others as --and="..."'
        )
    if not said and not args.also and not args.like:
        raise SearchError('search: found nothing to look for; expected a sentence, --like=picture or --queries=file')
    return [[sentence] for sentence in said] if len(said) > 1 else [[*said, *args.also]]


def _lines(file: str) -> list[str]:
    try:
        lines = pathlib.Path(file).read_text(encoding='utf-8-sig').splitlines()  # editors put a mark before UTF-8
    except (OSError, UnicodeDecodeError) as error:
        raise SearchError(f'--queries: {file} cannot be read ({error}); expected text, a sentence a line') from None
    if not any(line.strip() for line in lines):
        raise SearchError(f'--queries: found no sentence in {file}; expected one a line')
    return [line.strip() for line in lines if line.strip()]


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


def _json(args: argparse.Namespace, opened, answers, reasons) -> dict:
    return {
        'index': args.index,
        'model': opened.searcher.hash,
        'version': opened.gallery.version,
        'false_alarms': args.false_alarms,
        'answers': [
            {
                'sentences': answer.query.sentences,
                'examples': args.like,
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
