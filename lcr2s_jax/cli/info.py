"""lcr2s info --index=I: what is in an index."""

import argparse
import json

from lcr2s_jax.cli.parser import place
from lcr2s_jax.texts import counted

ABOUT = 'Tell what is in an index: model, pictures, columns.'


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--index', required=True, type=place, metavar='I', help='Folder of the index, or URL.')
    parser.add_argument('--json', action='store_true', help='Print JSON instead of text.')


def run(args: argparse.Namespace) -> None:
    from lcr2s_jax.search.describe import describe

    found = describe(args.index)
    print(json.dumps(found, indent=2, default=str) if args.json else _text(found))


def _text(found: dict) -> str:
    size = '' if found['bytes'] is None else f', {found["bytes"] / 1e6:,.1f} MB'
    lines = [f'{found["index"]}: {counted(found["pictures"], "picture")}{size}, version {found["version"]:,}']
    if found['unusable']:
        lines.append(f'{counted(found["unusable"], "file")} cannot be used')
    lines += [f'  {count:>9,}  {root}' for root, count in found['roots'].items()]
    lines += _text_of_model(found['model'])
    if found['approximate']:
        lines.append('searched by an approximate index; --exact compares every vector')
    if enriched := found['enriched']:
        lines.append(f'sentences are compared with {enriched["in_words"]}; no probabilities of these')
        if not enriched['up_to_date']:
            lines.append(
                '  but pictures came or went since: each is compared by itself until the next `lcr2s index --index=...`'
            )
    if found['columns']:
        lines.append('columns for --where and --group-by:')
        width = max(map(len, found['columns']))
        lines += [
            f'  {name:{width}}  {one["type"]:7} such as {", ".join(map(repr, one["examples"])) or "nothing yet"}'
            for name, one in found['columns'].items()
        ]
    else:
        lines.append('no columns; `index --metadata=table.csv` or --name-pattern adds some')
    return '\n'.join(lines)


def _text_of_model(model: dict | None) -> list[str]:
    from lcr2s_jax.search.answer_text import trained_on

    if model is None:
        return ['no model in it']
    height, width = model['image_size']
    lines = [
        f'model {model["hash"][:16]}: pictures of {height} x {width}, vectors of {model["numbers"]} numbers, '
        f'{"with" if model["calibrated"] else "without"} probabilities',
        '  from ' + ', '.join(f'{name} {value}' for name, value in model['origin'].items()),
    ]
    return [*lines, f'  {trained_on(model["trained_on"])}']
