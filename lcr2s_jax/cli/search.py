"""lcr2s search --index=I "a woman in a red coat": the pictures of an index, ranked by a description."""

import argparse
import hashlib
import json
import pathlib
import re
import sys

from lcr2s_jax import files
from lcr2s_jax.cli.parser import REPEATED, integer, number, place
from lcr2s_jax.errors import ConfigError, SearchError, printable
from lcr2s_jax.texts import near, read_text

ABOUT = 'Rank the pictures of an index by a description.'
WORDS = '"a sentence" ...'
_TABLES = ('.csv', '.tsv', '.json', '.jsonl', '.xlsx', '.ods')  # endings of files that are no sentences


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('words', nargs='*', metavar='"a sentence"',
        help='What is looked for; each quoted sentence is a query of its own.')  # fmt: skip
    add('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL of an object store.')
    add('--and', **REPEATED, dest='also', metavar='TEXT', help='Another sentence about that person; may be repeated.')
    add('--like', **REPEATED, type=place, metavar='FILE', help='Picture of that person; may be repeated.')
    add('--queries', type=place, metavar='FILE', help='Text file, one sentence a line, searched in one batch.')
    add('--top', type=integer(1), default=10, metavar='N', help='Hits of each query.')
    add('--where', default='', metavar='SQL', help='Condition over the columns, such as "camera = \'c1\'".')
    add('--group-by', default='', metavar='COLUMN', help='Column; show only the best picture of each value.')
    add('--why', action='store_true', help='Show how much each phrase moved the score of the hits.')
    add('--exact', action='store_true', help='Compare every vector, also in large indexes.')
    add('--false-alarms', type=number(0.01, 0.5), default=0.05, metavar='RATE',
        help='Share of searches for an absent person that may report a find.')  # fmt: skip
    add('--verify', action='store_true', help="Say 'no such person' if no hit reaches the score for that rate.")
    add('--html', type=place, metavar='FILE', help='File to write: one page with the pictures in it.')
    add('--audit', type=place, metavar='FILE', help='The audit log, instead of the one in the index.')
    add('--json', action='store_true', help='Print JSON instead of text.')


def run(args: argparse.Namespace) -> None:
    """Search, write it into the audit log, and only then print it."""
    asked = _queries(args)  # a mistake in it should not wait for the index to open
    if args.html:
        _check_page(pathlib.Path(args.html))
    from lcr2s_jax.search import audit, index, lance, tables
    from lcr2s_jax.search import html as report
    from lcr2s_jax.search.query import Query

    lance.without_pandas()
    opened = index.open_search(args.index)
    log = audit.log_of(args.audit)
    audit.check(args.index, log)
    examples = [_bytes(file) for file in args.like]
    vectors = [index.embed_picture(opened.model, *one) for one in zip(examples, args.like, strict=True)]
    hashes = tuple(hashlib.sha256(one).hexdigest() for one in examples)
    with audit.refusals(args.index, audit.user(), {'text': sum(asked, []), 'where': args.where}, log):
        queries = [Query(tuple(sentences), tuple(vectors), hashes) for sentences in asked]
        answers, whys = tables.lasting(lambda: _asked(args, opened, queries), opened.gallery.refresh)
    audit.write(args.index, [audit.line(audit.user(), answer, opened, args.where) for answer in answers], log)
    if args.html:
        title = f'Search in {pathlib.PurePath(args.index).name}'
        report.write(pathlib.Path(args.html), answers, title, whys, opened.model.trained_on)
    (_print_json if args.json else _show)(args, opened, answers, whys)


def _asked(args: argparse.Namespace, opened, queries: list) -> tuple[list, list]:
    """The answers, and why their hits are; both of one version."""
    how = {name: getattr(args, name) for name in ('top', 'false_alarms', 'where', 'group_by', 'exact', 'verify')}
    answers = opened(queries, **how)
    return answers, [opened.why(answer.query, answer.hits) if args.why else [] for answer in answers]


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
    if file.lower().endswith(_TABLES):
        raise SearchError(f'--queries: found the table {file}, expected text with a sentence a line; save it as such')
    lines = [_bare(line) for line in read_text(file, '--queries').split('\n') if line.strip()]
    if not lines:
        raise SearchError(f'--queries: found no sentence in {file}; expected one a line')
    return lines


def _bare(line: str) -> str:
    """A line without the quotation marks around all of it."""
    line = line.strip()
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' and '"' not in line[1:-1] else line


def _check_page(path: pathlib.Path) -> None:
    if path.is_dir():
        raise ConfigError(f'--html: found the folder {path}, expected the name of a file, such as {path / "out.html"}')
    if not path.parent.is_dir():
        raise ConfigError(f'--html: found no folder {path.parent}, where {path.name} shall be written; make it first')
    files.check_writable(path, '--html')


def _bytes(file: str) -> bytes:
    from lcr2s_jax import images

    try:
        return images.read(file)
    except images.PictureError as fault:
        hint = '; fetch it first' if '://' in file else near(file)
        raise SearchError(f'--like: {file} cannot be read ({fault}); expected a picture file{hint}') from None


def _print_json(args: argparse.Namespace, opened, answers, whys) -> None:
    from lcr2s_jax.search import answer_text

    content = {
        'index': args.index,
        'model': opened.model.hash,
        'trained_on': opened.model.trained_on,
        'version': opened.gallery.version,
        'false_alarms': args.false_alarms,
        'answers': [answer_text.to_json(*one, args.like) for one in zip(answers, whys, strict=True)],
    }
    print(json.dumps(content, indent=2, default=str))


def _show(args: argparse.Namespace, opened, answers, whys) -> None:
    import rich.console

    from lcr2s_jax.search import answer_text

    console = rich.console.Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    for answer, why in zip(answers, whys, strict=True):
        answer_text.show(console, answer, why)
    console.print(printable(answer_text.sentence(answer_text.trained_on(opened.model.trained_on))))
    if args.html:
        console.print(printable(f'written: {args.html}'))
