"""Pictures of a run: learning curves, ranked people, whom each view borrows from, where features of a few lie."""

import io
import json
import pathlib
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lcr2s_jax import files

RIGHT, WRONG, INK, PAPER = (34, 150, 70), (200, 60, 50), (30, 30, 30), (255, 255, 255)
CELL, GAP, WORDS = (72, 144), 8, 330  # pixels: a ranked image, the space around it, the width of the query
THUMB, SLOT, BETWEEN, LEFT, BAR = (56, 112), 66, 36, 92, 66  # an image, its place, between queries, margin, a bar
OWN, BORROWED, FAINT = (20, 90, 170), (225, 135, 30), (120, 120, 120)
COLOURS = (
    '#e6194b', '#f58231', '#c9a400', '#800000', '#4363d8', '#00a5a5', '#911eb4', '#000075', '#3cb44b', '#808000',
    '#f032e6', '#7f7f7f',
)  # fmt: skip


def pyplot():
    """matplotlib.pyplot, drawing into files."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(drawn, path: str | pathlib.Path) -> None:
    """Write a figure of matplotlib, or a picture of PIL, as PNG: whole, or what was there stays."""
    with files.aside(pathlib.Path(path)) as partial:
        if isinstance(drawn, Image.Image):
            drawn.save(partial, 'PNG', optimize=True)
        else:
            drawn.savefig(partial, format='png', dpi=110)


def learning_curves(metrics: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Training losses and validation metrics of every stage in a metrics.jsonl, as one PNG; none where it has none."""
    from matplotlib import ticker

    plt = pyplot()
    lines = map(json.loads, pathlib.Path(metrics).read_text().splitlines())
    rows = [row for row in lines if 'ended' not in row]
    stages = list(dict.fromkeys(row['stage'] for row in rows))
    if not stages:  # the log was lost, which is no reason to lose the results
        return
    figure, axes = plt.subplots(2, len(stages), figsize=(6 * len(stages), 6.5), squeeze=False, layout='constrained')
    for column, stage in enumerate(stages):
        own = [row for row in rows if row['stage'] == stage]
        skipped = ('stage', 'step', 'elapsed', 'pairs_per_s', 'grad_norm', 'learning_rate')
        names = dict.fromkeys(name for row in own for name in row if name not in skipped and 'i2t' not in name)
        for name in names:
            upper = '/' not in name
            points = [(row['step'], row[name]) for row in own if isinstance(row.get(name), int | float)]
            line = axes[0 if upper else 1, column]
            line.plot(*np.reshape(points, (-1, 2)).T, label=name, linewidth=2 if name == 'loss' else 1.2,
                      marker='' if upper else 'o', markersize=3)  # fmt: skip
        axes[0, column].set(title=stage, ylabel='loss and its terms', yscale='symlog')
        # powers of ten alone would leave most pictures with a single number on this axis
        axes[0, column].yaxis.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=2, subs=(1, 2, 5)))
        axes[0, column].yaxis.set_major_formatter('{x:g}')
        axes[1, column].set(xlabel='step', ylabel='percent on val')
        for row in (0, 1):
            axes[row, column].grid(alpha=0.3)
            if axes[row, column].lines:
                axes[row, column].legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    save(figure, path)
    plt.close(figure)


def contact_sheet(queries: list[dict], path: str | pathlib.Path, title: str) -> None:
    """Queries on the left, their best matches on the right, the right person framed in green.

    Args:
      queries: each {'text': str, 'jpegs': list of bytes, best first, 'right': list of bool}.
    """
    top = max(len(query['jpegs']) for query in queries)
    font, small = ImageFont.load_default(15), ImageFont.load_default(13)
    width = WORDS + top * (CELL[0] + GAP) + 3 * GAP
    sheet = Image.new('RGB', (width, 40 + len(queries) * (CELL[1] + 3 * GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * GAP, 12), title, fill=INK, font=font)
    for row, query in enumerate(queries):
        y = 40 + row * (CELL[1] + 3 * GAP)
        lines = textwrap.wrap(query['text'], 44)
        lines = lines[:8] + (['…'] if len(lines) > 8 else [])
        draw.multiline_text((2 * GAP, y + GAP), '\n'.join(lines), fill=INK, font=small, spacing=4)
        for rank, (jpeg, right) in enumerate(zip(query['jpegs'], query['right'], strict=True)):
            x = WORDS + 2 * GAP + rank * (CELL[0] + GAP)
            frame = [x - 3, y - 3, x + CELL[0] + 2, y + CELL[1] + 2]
            draw.rectangle(frame, outline=RIGHT if right else WRONG, width=4 if right else 1)
            sheet.paste(Image.open(io.BytesIO(jpeg)).convert('RGB').resize(CELL, Image.Resampling.BICUBIC), (x, y))
            if right:  # a sign beside the colour, for those who cannot tell red from green
                draw.rectangle([x, y + CELL[1] - 18, x + 16, y + CELL[1] - 1], fill=RIGHT)
                draw.line([(x + 3, y + 135), (x + 7, y + 139), (x + 13, y + 130)], fill=PAPER, width=2)
    save(sheet, path)


def ranked_queries(e, captions: list[str], jpegs, count: int, top: int, seed: int) -> list[dict]:
    """`count` queries drawn by seed, never chosen by result, each with its `top` images; for `contact_sheet`."""
    rows = np.random.default_rng(seed).choice(len(captions), size=min(count, len(captions)), replace=False)
    gallery_GE = e.image_GE / np.linalg.norm(e.image_GE, axis=1, keepdims=True)
    found = []
    for row in rows:
        best = np.argsort(-(gallery_GE @ e.text_QE[row]), kind='stable')[:top]
        right = e.image_pid_G[best] == e.text_pid_Q[row]
        found.append({'text': captions[row], 'jpegs': [jpegs[i] for i in best], 'right': right.tolist()})
    return found


def attention_sheet(people: list[dict], path: str | pathlib.Path, title: str) -> None:
    """A row a person; in it every view in turn is the query, framed, over the weights that it gives to all views.

    Args:
      people: each {'name', 'jpegs', 'notes', 'captions', 'weights': {modality: weights_HKK}}; notes are lines of small
        print of each view.
    """
    most = max(float(w_HKK.mean(axis=0).max()) for person in people for w_HKK in person['weights'].values())
    count = max(len(person['jpegs']) for person in people)
    lines = max(len(_wrap(caption, person)) for person in people for caption in person['captions'])
    notes = max(len(note) for person in people for note in person['notes'])
    strip = BAR + 42
    height = 34 + THUMB[1] + 8 + 13 * notes + 2 * strip + 15 * lines + 24
    sheet = Image.new('RGB', (LEFT + count * (count * SLOT + BETWEEN), 84 + len(people) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((16, 12), title, fill=INK, font=ImageFont.load_default(17))
    _legend(draw)
    for row, person in enumerate(people):
        y = 84 + row * height
        draw.line([(16, y - 4), (sheet.width - 16, y - 4)], fill=(205, 205, 205))
        draw.text((16, y + 4), person['name'], fill=INK, font=ImageFont.load_default(14))
        for query in range(len(person['jpegs'])):
            x = LEFT + query * (len(person['jpegs']) * SLOT + BETWEEN)
            below = _thumbnails(sheet, draw, person, query, x, y + 28) + 13 * notes
            for modality, w_HKK in person['weights'].items():
                if query == 0:
                    draw.text((16, below + BAR - 18), f'{modality}s', fill=INK, font=ImageFont.load_default(14))
                _bars(draw, w_HKK[:, query], query, x, below, most)
                below += strip
            text = '\n'.join(_wrap(person['captions'][query], person))
            draw.multiline_text((x, below), text, fill=INK, font=ImageFont.load_default(12), spacing=3)
    save(sheet, path)


def _legend(draw) -> None:
    x = 16
    for colour, words in ((OWN, 'what a view (framed) gives itself'), (BORROWED, 'what it gives to each other view')):
        draw.rectangle([x, 46, x + 12, 58], fill=colour)
        draw.text((x + 18, 44), words, fill=INK, font=ImageFont.load_default(13))
        x += 40 + int(draw.textlength(words, font=ImageFont.load_default(13)))
    words = 'mean over heads; small print: least and most of any head; line: if all views were looked at alike'
    draw.text((x, 44), words, fill=FAINT, font=ImageFont.load_default(13))


def _thumbnails(sheet, draw, person: dict, query: int, x: int, y: int) -> int:
    """Paste the views side by side, the query framed; returns where they end."""
    for place, (jpeg, notes) in enumerate(zip(person['jpegs'], person['notes'], strict=True)):
        left = x + place * SLOT
        picture = Image.open(io.BytesIO(jpeg)).convert('RGB').resize(THUMB, Image.Resampling.BICUBIC)
        if place == query:
            draw.rectangle([left - 4, y - 4, left + THUMB[0] + 3, y + THUMB[1] + 3], fill=OWN)
        sheet.paste(picture, (left, y))
        for line, note in enumerate(notes):
            draw.text((left, y + THUMB[1] + 6 + 13 * line), note, fill=FAINT, font=ImageFont.load_default(11))
    return y + THUMB[1] + 8


def _bars(draw, w_HK: np.ndarray, query: int, x: int, y: int, most: float) -> None:
    """Weights of one query as bars that stand on y + BAR, the highest of the sheet BAR high; numbers below."""
    w_K, base = w_HK.mean(axis=0), y + BAR
    for place, weight in enumerate(w_K):
        left, colour = x + place * SLOT, OWN if place == query else BORROWED
        draw.rectangle([left + 6, base - round((BAR - 6) * weight / most), left + THUMB[0] - 6, base], fill=colour)
        middle = left + THUMB[0] // 2
        draw.text((middle, base + 3), f'{weight:.2f}', fill=INK, font=ImageFont.load_default(12), anchor='ma')
        extremes = f'{w_HK[:, place].min():.2f}-{w_HK[:, place].max():.2f}'
        draw.text((middle, base + 19), extremes, fill=FAINT, font=ImageFont.load_default(11), anchor='ma')
    level = base - round((BAR - 6) / len(w_K) / most)
    for dash in range(x, x + len(w_K) * SLOT - 10, 8):
        draw.line([(dash, level), (dash + 4, level)], fill=INK)


def _wrap(caption: str, person: dict) -> list[str]:
    lines = textwrap.wrap(caption, max(18, len(person['jpegs']) * SLOT // 7))
    return lines[:6] + ['…'] * (len(lines) > 6)


def embedding(panels: list[dict], circles: dict[str, list[int]], path: str | pathlib.Path) -> None:
    """A panel of each kind of features, an identity in one colour, images as dots, texts as crosses; numbers below.

    Args:
      panels: each {'name', 'image_N2', 'text_N2', 'image_pid', 'text_pid', 'numbers'}, the last as in explain.json.
      circles: the identities, at most as many as COLOURS, by what they have in common.
    """
    plt = pyplot()
    colour = {pid: COLOURS[i] for i, pid in enumerate(pid for part in circles.values() for pid in part)}
    figure, axes = plt.subplots(1, len(panels), figsize=(4.7 * len(panels), 7.2), squeeze=False)
    for panel, axis in zip(panels, axes[0], strict=True):
        for pid in colour:
            image, text = panel['image_pid'] == pid, panel['text_pid'] == pid
            axis.scatter(*panel['text_N2'][text].T, color=colour[pid], marker='x', s=34, linewidths=1.3, alpha=0.85)
            axis.scatter(*panel['image_N2'][image].T, color=colour[pid], s=42, edgecolors='white', linewidths=0.6)
        axis.set(title=panel['name'], xticks=[], yticks=[])
        axis.set_aspect('equal', adjustable='datalim')
        axis.text(0, -0.03, _numbers(panel['numbers']), transform=axis.transAxes, va='top', family='monospace', size=9)
    handles = [
        plt.Line2D([], [], color='black', marker=m, linestyle='', label=w) for m, w in (('o', 'image'), ('x', 'text'))
    ]
    for name, part in circles.items():
        handles += [plt.Line2D([], [], linestyle='', label=f'{name}:')]
        handles += [plt.Line2D([], [], color=colour[pid], marker='s', linestyle='', label=f'{pid}') for pid in part]
    figure.legend(
        handles=handles, loc='lower center', ncols=len(handles), fontsize=9, handletextpad=0.1, columnspacing=0.7
    )
    figure.suptitle('Unit features of unseen people on the two principal axes of each panel (PCA)')
    figure.subplots_adjust(left=0.01, right=0.99, top=0.89, bottom=0.26, wspace=0.05)
    save(figure, path)
    plt.close(figure)


def _numbers(told: dict) -> str:
    rows = (
        ('between / within people, images', 'scatter_images'),
        ('between / within people, texts', 'scatter_texts'),
        ('cosine, text and its own image', 'cosine_matching'),
        ("cosine, text and others' images", 'cosine_others'),
    )
    lines = [f'{"":33}{"drawn":>6} {"all":>6}']
    lines += [f'{words:33}{told["drawn"][key]:6.2f} {told["all"][key]:6.2f}' for words, key in rows]
    return '\n'.join([*lines, f'{"variance on these two axes":33}{100 * told["variance_shown"]:5.0f}%'])
