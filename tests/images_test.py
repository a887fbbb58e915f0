"""The one decoder of pictures: the pixels are those of training, upright, of every format."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lcr2s_jax import images

SIZES = [(48, 20), (9, 7), (20, 30), (24, 16), (37, 5)]
WAYS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def picture(height=24, width=16, seed=0):
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 3, 3)).astype(np.uint8)).resize((width, height), Image.BICUBIC)
    noisy = np.asarray(smooth).astype(int) + rng.integers(-25, 25, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image, kind, **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png16(colour, channels, side=20):
    values = np.random.default_rng(1).integers(0, 65536, (side, side * channels)).astype('>u2')
    rows = b''.join(b'\0' + row.tobytes() for row in values)
    header = struct.pack('>IIBBBBB', side, side, 16, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def what_training_reads():
    whole = picture()
    alpha = whole.copy()
    alpha.putalpha(picture(seed=3).convert('L'))
    few = whole.quantize(60)
    apng = dict(save_all=True, append_images=[picture(seed=5)])
    yield 'baseline', encoded(whole, 'JPEG')
    yield 'unsampled', encoded(whole, 'JPEG', subsampling=0, quality=40)
    yield 'progressive', encoded(whole, 'JPEG', progressive=True)
    yield 'restarts', encoded(whole, 'JPEG', restart_marker_rows=1)
    yield 'grey jpeg', encoded(whole.convert('L'), 'JPEG')
    yield 'cmyk', encoded(whole.convert('CMYK'), 'JPEG')
    yield 'mpo', encoded(whole, 'MPO', save_all=True, append_images=[picture(seed=5)])
    yield 'png', encoded(whole, 'PNG')
    yield 'apng', encoded(whole, 'PNG', **apng)
    yield 'rgba', encoded(alpha, 'PNG')
    yield 'grey with alpha', encoded(alpha.convert('LA'), 'PNG')
    yield 'grey png', encoded(whole.convert('L'), 'PNG')
    yield 'one bit', encoded(whole.convert('1'), 'PNG')
    yield 'palette', encoded(few, 'PNG')
    yield 'palette of two bits', encoded(whole.quantize(4), 'PNG', bits=2)
    yield 'transparent palette', encoded(few, 'PNG', transparency=bytes(range(60)))
    yield 'transparent colour', encoded(whole, 'PNG', transparency=(1, 2, 3))
    yield from ((f'16 bits, {colour}', png16(colour, n)) for colour, n in ((0, 1), (2, 3), (4, 2), (6, 4)))
    yield 'bmp', encoded(whole, 'BMP')
    yield 'bmp of 32 bits', encoded(alpha, 'BMP')
    yield 'grey bmp', encoded(whole.convert('L'), 'BMP')
    yield 'palette bmp', encoded(few, 'BMP')
    yield 'one bit bmp', encoded(whole.convert('1'), 'BMP')
    for orientation in range(1, 9):
        yield f'jpeg turned by {orientation}', encoded(whole, 'JPEG', exif=exif(orientation))
        yield f'png turned by {orientation}', encoded(whole, 'PNG', exif=exif(orientation))


@pytest.mark.parametrize('name,file', what_training_reads(), ids=[name for name, _ in what_training_reads()])
@pytest.mark.filterwarnings('error')
def test_pixels_are_those_of_training_within_one_level(name, file):
    from data import pictures, transforms
    from data.transforms import tf

    assert pictures.fault_of(file, 10**6) == ''
    decoded = transforms.decode(tf.constant(pictures.as_shown(file)))
    np.testing.assert_array_equal(images.rgb(file), decoded.numpy())
    for size in SIZES:
        expected = transforms.resize(decoded, size).numpy().astype(int)
        assert np.abs(images.pixels(file, size) - expected).max() <= 1
        np.testing.assert_array_equal(images.resize(images.rgb(file), size), images.pixels(file, size))


def test_resizing_is_that_of_training_within_one_level_for_every_pair_of_sizes():
    from data import transforms
    from data.transforms import tf

    rng = np.random.default_rng(7)
    for _ in range(60):
        height, width, *size = rng.integers(1, 200, 4).tolist()
        hard = (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
        expected = transforms.resize(tf.constant(hard), tuple(size)).numpy().astype(int)
        assert np.abs(images.resize(hard, size) - expected).max() <= 1, (height, width, size)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind,more', [('PNG', {}), ('WEBP', {'lossless': True}), ('TIFF', {})])
def test_every_format_is_turned_upright_by_exif(kind, more, orientation):
    whole = picture()
    upright = whole.transpose(WAYS[orientation]) if orientation > 1 else whole
    file = encoded(whole, kind, exif=exif(orientation), **more)
    np.testing.assert_array_equal(images.rgb(file), np.asarray(upright))
    assert images.is_turned(file) == (orientation > 1)


def test_a_tiff_in_ycbcr_that_is_neither_packed_nor_whole_is_refused_by_what_it_is():
    whole, pairs = encoded(picture().convert('YCbCr'), 'TIFF'), struct.Struct('<HHIHH')
    halved = whole.replace(pairs.pack(530, 3, 2, 1, 1), pairs.pack(530, 3, 2, 2, 2))
    assert halved != whole
    with pytest.raises(images.PictureError, match='^a TIFF in YCbCr, subsampled or in planes, expected .* RGB'):
        images.rgb(halved)


def test_the_other_formats_are_read_and_of_several_pictures_the_first():
    whole, few, second = picture(), picture().quantize(200), picture(seed=2)
    np.testing.assert_array_equal(images.rgb(encoded(few, 'GIF')), np.asarray(few.convert('RGB')))
    for kind, more in (('TIFF', {}), ('WEBP', {'lossless': True}), ('PNG', {})):
        file = encoded(whole, kind, save_all=True, append_images=[second], **more)
        np.testing.assert_array_equal(images.rgb(file), np.asarray(whole))
    for packing in ('raw', 'tiff_lzw', 'tiff_adobe_deflate', 'packbits'):
        found = images.rgb(encoded(whole.convert('YCbCr'), 'TIFF', compression=packing)).astype(int)
        np.testing.assert_allclose(found, np.asarray(whole.convert('YCbCr').convert('RGB')), atol=2)
        np.testing.assert_array_equal(images.rgb(encoded(whole, 'TIFF', compression=packing)), np.asarray(whole))


def test_heic_is_read_with_its_extra_and_named_without_it():
    fake = b'\0\0\0\x18ftypheic' + bytes(200)
    try:
        import pillow_heif
    except ImportError:
        with pytest.raises(images.PictureError, match='a HEIC file, .* pip install pillow-heif'):
            images.rgb(fake)
        pytest.skip('pillow-heif is an extra')
    with pytest.raises(images.PictureError, match='damaged'):
        images.rgb(fake)
    whole, out = picture(64, 48), io.BytesIO()
    heif = pillow_heif.from_bytes('RGB', whole.size, whole.tobytes())
    heif.save(out, quality=95, exif=exif(6).tobytes())
    found = images.rgb(out.getvalue()).astype(int)
    assert found.shape == (48, 64, 3)
    assert np.abs(found - np.asarray(whole.transpose(WAYS[6]))).mean() < 12


def test_more_than_eight_bits_are_scaled_and_not_cut_to_white():
    ramp = np.linspace(0, 65535, 600).reshape(30, 20)
    whole, share = ramp.astype(np.uint16), ramp / 65535
    values = [whole, whole.astype(np.int32), ramp.astype(np.float32), share.astype(np.float32)]
    for one, kind in [(whole, 'PNG')] + [(one, 'TIFF') for one in values]:
        found = images.rgb(encoded(Image.fromarray(one), kind)).astype(int)
        assert np.abs(found[..., 0] - ramp / 257).max() <= 1 and (found == found[..., :1]).all()
    odd = np.array([[np.nan, np.inf], [0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(images.rgb(encoded(Image.fromarray(odd), 'TIFF'))[..., 0], [[0, 0], [127, 255]])


def test_a_thumbnail_is_upright_and_as_high_as_asked_and_a_small_picture_is_enlarged():
    for image, kind, more, size in (
        (picture(35, 20), 'PNG', {}, (110, 192)),
        (picture(35, 20), 'JPEG', {'exif': exif(6)}, (336, 192)),
        (picture(600, 300), 'PNG', {}, (96, 192)),
        (picture(10, 4000), 'PNG', {}, (384, 1)),
    ):
        with Image.open(io.BytesIO(images.thumbnail(encoded(image, kind, **more), 192))) as shown:
            assert (shown.format, shown.mode, shown.size) == ('JPEG', 'RGB', size)
    grey = np.full((30, 20), 40 << 8, np.uint16)
    with Image.open(io.BytesIO(images.thumbnail(encoded(Image.fromarray(grey), 'PNG'), 60))) as shown:
        assert abs(np.asarray(shown).mean() - 40) < 2, 'as dark as it was embedded'


def test_a_png_made_of_a_picture_holds_its_pixels_and_nothing_else():
    file = encoded(picture(), 'JPEG', exif=exif(6), icc_profile=b'a profile', comment=b'a comment') + b'a tail'
    made = images.png(file)
    np.testing.assert_array_equal(images.rgb(made), images.rgb(file))
    assert not any(words in made for words in (b'profile', b'comment', b'tail', b'eXIf', b'iCCP', b'tEXt'))


def test_a_model_of_the_demo_embeds_the_same_as_by_trainings_way():
    import lcr2s_jax
    from data import transforms
    from data.demo import synthetic
    from data.transforms import tf

    model = lcr2s_jax.load('synthetic-pedestrians')
    jpegs = [record.jpeg for record in synthetic.records(0, {'test': 4}, True)][:12]
    decoded = [transforms.resize(transforms.decode(tf.constant(jpeg)), model.image_size).numpy() for jpeg in jpegs]
    cosine = np.sum(model.embed_image(np.stack(decoded)) * model.encode_image(jpegs), axis=1)
    assert len(cosine) == 12 and (1 - cosine).max() <= 1e-4
