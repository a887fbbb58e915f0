"""Pictures of a run: learning curves, and a sheet of ranked people."""

import io
import json
import pathlib
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RIGHT, WRONG, INK, PAPER = (34, 150, 70), (200, 60, 50), (30, 30, 30), (255, 255, 255)
CELL, GAP, WORDS = (72, 144), 8, 330  # pixels: a ranked image, the space around it, the width of the query


def learning_curves(metrics: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Training losses and validation metrics of every stage in a metrics.jsonl, as one PNG."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    lines = map(json.loads, pathlib.Path(metrics).read_text().splitlines())
    rows = [row for row in lines if 'ended' not in row]
    stages = list(dict.fromkeys(row['stage'] for row in rows))
    figure, axes = plt.subplots(2, len(stages), figsize=(6 * len(stages), 6.5), squeeze=False, layout='constrained')
    for column, stage in enumerate(stages):
        own = [row for row in rows if row['stage'] == stage]
        skipped = ('stage', 'step', 'elapsed', 'pairs_per_s', 'grad_norm', 'learning_rate')
        names = dict.fromkeys(name for row in own for name in row if name not in skipped and 'i2t' not in name)
        for name in names:
            upper = '/' not in name
            points = [(row['step'], row[name]) for row in own if name in row]
            line = axes[0 if upper else 1, column]
            line.plot(*zip(*points, strict=True), label=name, linewidth=2 if name == 'loss' else 1.2,
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
    figure.savefig(path, dpi=110)
    plt.close(figure)


def contact_sheet(queries: list[dict], path: str | pathlib.Path, title: str) -> None:
    """Queries on the left, their best matches on the right, the right person framed in green.

    Args:
      queries: each {'text': str, 'jpegs': list of bytes, best first, 'right': list of bool}.
      path: of the PNG.
      title: one line above.
    """
    top = max(len(query['jpegs']) for query in queries)
    font, small = _font(15), _font(13)
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
    sheet.save(path, optimize=True)


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


def _font(size: int):
    return ImageFont.load_default(size)
