"""Miniature folders in the published layouts, and tables, with drawn pictures; tests plant mistakes in them."""

import csv
import json
import pathlib

from PIL import Image, ImageDraw

from data import sources
from data.annotations import Annotations
from data.doctor import examine as doctor
from data.doctor.checks import Finding

WORDS = str(pathlib.Path(__file__).parents[1] / 'lcr2s_jax' / 'weights' / 'demo_clip')  # a tokenizer
MAX_PIXELS = 1_000_000
USUAL = dict(image='', caption='', id='', split='')
DEAL = dict(table='people.csv', seed=0, val=0.1, test=0.2, fields=USUAL)
CUHK_FOLDERS = ('CUHK01', 'CUHK03', 'Market', 'cam_a', 'cam_b', 'test_query', 'train_query')
_SUFFIX = {'CUHK01': 'png', 'CUHK03': 'png', 'cam_a': 'bmp', 'cam_b': 'bmp'}  # CUHK-PEDES has all three kinds
_WORDS = ('red', 'blue', 'green', 'black', 'white', 'grey', 'yellow', 'brown')
_THINGS = ('coat', 'shirt', 'backpack', 'skirt', 'hat', 'pair of jeans', 'scarf')


def draw(path: pathlib.Path, number: int, size: tuple[int, int] = (12, 30)) -> None:
    """A picture that no other number has, in the format of the file's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new('RGB', size, (90 + number % 7 * 20, 120, 150))
    pen = ImageDraw.Draw(picture)
    for bit in range(16):
        x, y = bit % 4 * 3, bit // 4 * 7
        pen.rectangle((x, y, x + 2, y + 6), fill=(255, 240, 200) if number >> bit & 1 else (20, 30, 60))
    picture.save(path)


def sentence(number: int) -> str:
    """A caption that no other number has."""
    first, second, third = number % 8, number // 8 % 8, number // 64 % 7
    return f'A person in a {_WORDS[first]} {_THINGS[third]} and {_WORDS[second]} shoes, number {number}.'


class Folder:
    """A dataset's folder: change `rows`, then `save`; the pictures are files below `images`.

    Args:
      root: made if it is not there.
      file: name of the annotation file.
      image_key: the field of a row that holds an image's path.
      images: name of the folder of images, '' for root itself.
    """

    def __init__(self, root: pathlib.Path, file: str, image_key: str, images: str = 'imgs'):
        self.root, self.file, self.image_key = root, root / file, image_key
        self.images = root / images
        self.rows: list[dict] = []

    def add(self, split: str, person: int, name: str, captions: int | list[str], **more) -> dict:
        """One more image, drawn, with captions of its own."""
        number = len(self.rows)
        if isinstance(captions, int):
            captions = [sentence(16 * number + i) for i in range(captions)]
        row = {'split': split, 'captions': captions, self.image_key: name, **more, 'id': person}
        self.rows.append(row)
        draw(self.images / name, number)
        return row

    def save(self) -> 'Folder':
        """Write the annotation file."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.rows))
        return self

    def of(self, split: str) -> list[dict]:
        """The rows of one split, in the file's order."""
        return [row for row in self.rows if row['split'] == split]

    def path(self, row: dict) -> pathlib.Path:
        """The picture of a row."""
        return self.images / row[self.image_key]

    def damage(self, row: dict) -> None:
        """Cut the end off a picture's file; the header stays."""
        content = self.path(row).read_bytes()
        self.path(row).write_bytes(content[: len(content) * 9 // 10])

    def copy(self, source: dict, target: dict) -> None:
        """Give one row the picture of another."""
        self.path(target).write_bytes(self.path(source).read_bytes())


def _tokens(captions: list[str]) -> list[list[str]]:
    return [caption.lower().rstrip('.').split() for caption in captions]


def cuhk(root: pathlib.Path) -> Folder:
    """CUHK-PEDES: seven image folders, three file formats, ids from 1, one test image with ten captions."""
    folder = Folder(root / 'CUHK-PEDES', 'reid_raw.json', 'file_path')
    people = [('train', n) for n in (4, 3, 3, 2, 2, 3, 1, 3, 2, 5)] + [('val', n) for n in (2, 3)]
    people += [('test', n) for n in (2, 4, 1)]
    for person, (split, images) in enumerate(people, 1):
        for image in range(images):
            place = CUHK_FOLDERS[len(folder.rows) % len(CUHK_FOLDERS)]
            name = f'{place}/p{person}_{image}.{_SUFFIX.get(place, "jpg")}'
            captions = 10 if split == 'test' and not folder.of('test') else 2
            row = folder.add(split, person, name, captions, processed_tokens=[])
            row['processed_tokens'] = _tokens(row['captions'])
    return folder.save()


def icfg(root: pathlib.Path, file: str = 'ICFG-PEDES.json') -> Folder:
    """ICFG-PEDES: ids from 0 in each split's range, one caption, no val; imgs/train and imgs/test are not the split."""
    folder = Folder(root / 'ICFG-PEDES', file, 'file_path')
    for person, (split, images) in enumerate([('train', 6)] * 5 + [('test', 4)] * 3):
        for image in range(images):
            place = ('train', 'test')[len(folder.rows) % 2]
            row = folder.add(split, person, f'{place}/{person:04}/{person:04}_{image:03}.jpg', 1, processed_tokens=[])
            row['processed_tokens'] = _tokens(row['captions'])
    return folder.save()


def rstp(root: pathlib.Path) -> Folder:
    """RSTPReid: ids from 0, five images each, two captions; Chinese characters, and a caption that two ids share."""
    folder = Folder(root / 'RSTPReid', 'data_captions.json', 'img_path')
    for person, split in enumerate(['train'] * 6 + ['val'] * 2 + ['test'] * 2):
        for image in range(5):
            folder.add(split, person, f'{person:04}_c{image + 1}_0001.jpg', 2)
    folder.rows[1]['captions'][0] = 'A woman with a bag, 一个女人，in a grey coat.'
    folder.rows[0]['captions'][1] = 'The man wears a black coat and  blue jeans.'
    folder.rows[5]['captions'][1] = 'the man wears a black coat and blue jeans. '
    return folder.save()


def orbench(root: pathlib.Path) -> Folder:
    """ORBench: visible pictures (and other kinds, which are not read), a person a folder, ids of each file from its own
    start; texts of test belong to persons: here one picture of the gallery has none of its own."""
    folder = Folder(root / 'ORBench', 'train_annos.json', 'file_path', '')
    for number, name in enumerate(('0003', '0007', '0001', '0010', '0005', '0012', '0002', '0004'), 1):
        split = 'train' if number < 6 else 'test'
        for image in range(4):
            folder.add(split, number if split == 'train' else number - 5, f'vis/{name}/{image}.jpg', 1)
    draw(folder.root / 'nir' / '0003' / 'n.jpg', 900)
    return save_orbench(folder)


def save_orbench(folder: Folder) -> Folder:
    """Write both annotation files."""
    train = [{**row, 'caption': row['captions'][0]} for row in folder.of('train')]
    train = [{key: row[key] for key in ('id', 'file_path', 'caption')} for row in train]
    folder.file.write_text(json.dumps(train))
    gallery = [[row['id'], row['file_path']] for row in folder.of('test')]
    texts = [[row['id'], text] for row in folder.of('test')[:-1] for text in row['captions']]
    both = [[row['id'], row['captions'][0], 'nir/0012/n.jpg'] for row in folder.of('test')[:2]]
    content = {'RGB_GALLERY': gallery, 'NIR': [[1, 'nir/0012/n.jpg']], 'TEXT': texts, 'TEXT+NIR': both}
    (folder.root / 'test_gallery_and_queries.json').write_text(json.dumps(content))
    return folder


def chatpedes(root: pathlib.Path, images: str = 'imgs') -> Folder:
    """ChatPedes: CUHK-PEDES's pictures, train and test apart, a dialogue each in rounds, one picture with two."""
    folder = Folder(root / 'ChatPedes', 'train_reid.json', 'file_path', images)
    for person in range(1, 9):
        for image in range(3):
            folder.add('train' if person < 6 else 'test', person, f'cam_a/p{person}_{image}.jpg', 1)

    def rounds(text: str) -> list:
        first = [{'from': 'gpt', 'value': 'What is the person wearing?'}, {'from': 'user', 'value': text}]
        return [first, [{'from': 'gpt', 'value': 'Is there a bag?'}, {'from': 'user', 'value': 'No.'}]]

    for row in folder.rows:
        row['chats'] = rounds(row['captions'][0])
    folder.rows[0]['chats'] = [rounds('A man.'), rounds('A man in red.')[:1]]
    folder.root.mkdir(exist_ok=True)
    for split in ('train', 'test'):
        rows = [{key: row[key] for key in ('id', 'file_path', 'chats')} for row in folder.of(split)]
        (folder.root / f'{split}_reid.json').write_text(json.dumps(rows))
    return folder


def published_json(root: pathlib.Path, name: str) -> Folder:
    """A JSON list: 'ufine' (UFine6926, two captions of 80 words), 'interactive' (Interactive-PEDES), or 'models'
    (captions by models, three a picture, no split)."""
    folder = Folder(root, f'{name}.json', 'file_path', '')
    for person in range(12):
        for image in range(3):
            folder.add(('test', 'val', 'train')[min(person // 2, 2)], person, f'images/{person}_{image}.jpg', 2)
    for row in folder.rows:
        texts = row['captions']
        if name == 'ufine':
            row['captions'] = [' '.join([text] * 7) for text in texts]
        elif name == 'interactive':
            del row['captions']
            row |= {'fine-grained_caption': texts[0], 'vague_caption': texts[1], 'coarse-grained_caption': 'A person.'}
        else:
            del row['split']
            row['captions'] = [*texts, f'{texts[0]} Again.']
    return folder.save()


def table(root: pathlib.Path, file: str = 'people.csv', splits: bool = False, people: int = 12) -> Folder:
    """Somebody's own table: a row a caption, two captions an image, three images a person."""
    folder = Folder(root, file, 'image', '')
    for person in range(people):
        split = ('test', 'val', 'train')[min(person // 2, 2)]
        for image in range(3):
            folder.add(split, person, f'photos/{person:02}/{image}.png', 2)
    return write_table(folder, splits)


def write_table(folder: Folder, splits: bool) -> Folder:
    """Write a table's rows, image by image; with a column split or without."""
    columns = ['image', 'caption', 'id'] + ['split'] * splits
    flat = [
        {'image': row['image'], 'caption': caption, 'id': row['id'], 'split': row['split']}
        for row in folder.rows
        for caption in row['captions']
    ]
    chosen = [{column: row[column] for column in columns} for row in flat]
    with folder.file.open('w', encoding='utf-8', newline='') as out:
        if folder.file.suffix == '.jsonl':
            out.writelines(json.dumps(row, ensure_ascii=False) + '\n' for row in chosen)
        else:
            writer = csv.DictWriter(out, columns)
            writer.writeheader()
            writer.writerows(chosen)
    return folder


def read(dataset: str, root: pathlib.Path, images: str = '', **changes) -> Annotations:
    """The annotations below `root`; `changes` of config.data.folder."""
    return sources.read_annotations(dataset, str(root), images, DEAL | changes)


def read_table(root: pathlib.Path, **changes) -> Annotations:
    """The table below `root`."""
    return read('folder', root, **changes)


def open_source(
    dataset: str, root: pathlib.Path, max_pixels: int = MAX_PIXELS, images: str = '', **changes
) -> sources.Source:
    """The source that a build reads."""
    return sources.open_source(dataset, str(root), images, max_pixels, DEAL | changes, {})


def examine(
    root, dataset, batch=(4, 2), tokenizer=WORDS, context_length=77, in_memory=False, cache='', images='', **changes
) -> doctor.Examination:
    """What the doctor says; `batch` is (identities, views[, captions]), `changes` are of config.data.folder."""
    batch = {'captions': 1} | dict(zip(('identities', 'views', 'captions'), batch, strict=False))
    deal = DEAL | changes
    more = dict(batch=batch, tokenizer=tokenizer, context_length=context_length, room=(cache, in_memory))
    return doctor.examine(dataset, str(root), images, MAX_PIXELS, deal, **more)


def levels(found: doctor.Examination) -> dict[str, str]:
    """Code -> level of the findings."""
    return {finding.code: finding.level for finding in found.findings}


def the(found: doctor.Examination, code: str) -> Finding:
    """The finding of that code."""
    return next(finding for finding in found.findings if finding.code == code)
