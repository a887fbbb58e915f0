"""Files that torch wrote, read without torch: every number, and nothing of what a pickle asks for is done."""

import argparse
import builtins
import collections
import io
import os
import pickle
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch

from lcr2s_jax.errors import WeightsError
from lcr2s_jax.weights import torch_files

TYPES = ('float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool')


def read_torch(path):
    return torch_files.read_torch(path).tensors


def saved(path, thing):
    torch.save(thing, path)
    return path


def rewritten(path, change):
    """The zip file again, its records changed by `change`."""
    with zipfile.ZipFile(path) as old:
        records = {name: old.read(name) for name in old.namelist()}
    change(records)
    with zipfile.ZipFile(path, 'w') as new:
        for name, data in records.items():
            new.writestr(name, data)
    return path


def with_pickle(path, thing, **records):
    """A file of torch.save's layout whose list of tensors is `thing`, pickled, or bytes."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', thing if isinstance(thing, bytes) else pickle.dumps(thing, 2))
        for name, data in records.items():
            file.writestr(f'archive/data/{name}', data)
    return path


def tensor_pickle(offset, size, stride):
    """A state dict of one tensor 'x' over the storage '0' of 32-bit floats."""

    class Writer(pickle.Pickler):
        def persistent_id(self, thing):
            return thing if isinstance(thing, tuple) and thing[:1] == ('storage',) else None

    class Tensor:
        def __reduce__(self):
            storage = ('storage', torch.FloatStorage, '0', 'cpu', 4)
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, {})

    buffer = io.BytesIO()
    Writer(buffer, 2).dump({'x': Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize('dtype', TYPES)
def test_every_number_of_every_type_is_read(tmp_path, dtype):
    tensor = torch.arange(-6, 6).reshape(3, 4).to(getattr(torch, dtype))
    read = read_torch(saved(tmp_path / 'a.pt', {'x': tensor, 'y': tensor[1:].T, 'z': tensor[2, 1]}))
    assert np.asarray(read['x']).dtype == (ml_dtypes.bfloat16 if dtype == 'bfloat16' else dtype)
    assert read['y'].shape == (4, 2) and read['z'].shape == ()
    for name, expected in (('x', tensor), ('y', tensor[1:].T), ('z', tensor[2, 1])):
        np.testing.assert_array_equal(np.asarray(read[name], np.float32), expected.float().numpy())


def test_parameters_ordered_dicts_and_empty_tensors_are_read(tmp_path):
    model = torch.nn.Sequential(collections.OrderedDict(a=torch.nn.Linear(3, 2), b=torch.nn.BatchNorm1d(2)))
    things = collections.OrderedDict(model.named_parameters()) | {'none': torch.zeros(0, 3)}
    for thing, expected in ((model.state_dict(), model.state_dict()), (things, things)):
        read = read_torch(saved(tmp_path / 'a.pt', thing))
        assert read.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(np.asarray(read[name]), tensor.detach().numpy())


def test_a_scripted_module_has_the_names_of_its_state_dict(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.LayerNorm(2))).half()
    torch.jit.script(model).save(tmp_path / 'a.pt')
    read = read_torch(tmp_path / 'a.pt')
    assert read.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(read[name]), tensor.numpy())


@pytest.mark.parametrize('key', ['model', 'state_dict'])
def test_of_a_checkpoint_the_state_dict_is_read_whatever_lies_beside_it(tmp_path, key):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    beside = dict(
        optimizer=optimizer.state_dict(), args=argparse.Namespace(lr=0.1), best=np.float64(0.7), array=np.arange(3),
        rng=torch.get_rng_state(), names={'a', 'b'}, counts=collections.Counter('aab'), size=torch.Size([1]),
        default=collections.defaultdict(list, a=[1]), path=tmp_path, dtype=torch.float16, data=b'\xff\x00',
    )  # fmt: skip
    read = read_torch(saved(tmp_path / 'a.pt', beside | {key: model.state_dict()}))
    assert read.keys() == {'weight', 'bias'}


def test_only_what_is_asked_for_is_read(tmp_path):
    path = saved(tmp_path / 'a.pt', {'x': torch.ones(3), 'y': torch.zeros(2)})
    rewritten(path, lambda records: records.pop('a/data/1'))
    read = read_torch(path)
    np.testing.assert_array_equal(read['x'], np.ones(3))
    with pytest.raises(WeightsError, match='no record data/1'):
        np.asarray(read['y'])


def test_bytes_in_the_other_order_are_turned(tmp_path):
    path = saved(tmp_path / 'a.pt', {'x': torch.arange(3.0), 'y': torch.arange(3).bfloat16()})

    def turn(records):
        records['a/byteorder'] = b'big'
        for name, kind in (('a/data/0', 'u4'), ('a/data/1', 'u2')):
            records[name] = np.frombuffer(records[name], kind).byteswap().tobytes()

    read = read_torch(rewritten(path, turn))
    for name in 'xy':
        np.testing.assert_array_equal(np.asarray(read[name], np.float32), [0, 1, 2])


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_nothing_that_a_pickle_asks_for_is_done(tmp_path, monkeypatch):
    mark = tmp_path / 'mark'
    touch = f'open({str(mark)!r}, "w")'
    evil = [
        Calls(os.system, f'touch {mark}'),
        Calls(builtins.eval, touch),
        Calls(builtins.exec, touch),
        Calls(open, str(mark), 'w'),
        Calls(getattr, Calls(__import__, 'os'), 'system'),
        Calls(torch.load, str(mark)),
        Calls(collections.OrderedDict, [('a', Calls(os.mkdir, str(mark)))]),
    ]
    files = [with_pickle(tmp_path / f'{i}.pt', {'model': {'x': thing}, 'evil': thing}) for i, thing in enumerate(evil)]
    byte_codes = [
        b"cos\nsystem\n(S'touch %s'\ntR." % str(mark).encode(),
        b"(S'touch %s'\nios\nsystem\n." % str(mark).encode(),
        b'cbuiltins\neval\n(V%s\nto.' % touch.encode(),
        b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.',
    ]
    files += [with_pickle(tmp_path / f'code{i}.pt', code) for i, code in enumerate(byte_codes)]
    monkeypatch.setattr(builtins, '__import__', _no_import_of('os', 'builtins', 'posix'))
    for path in files:
        with pytest.raises(WeightsError, match='found no tensor|cannot be read'):
            read_torch(path)
    assert not mark.exists()
    os.system(f'touch {mark}')
    assert mark.exists(), 'the mark would have been seen'


def _no_import_of(*names):
    real = builtins.__import__

    def guarded(name, *rest, **more):
        assert name not in names, f'{name} was imported'
        return real(name, *rest, **more)

    return guarded


@pytest.mark.parametrize(
    'code',
    [
        b'ctorch._utils\n_rebuild_tensor_v2\n}S"shape"\nK\x01sb.',  # the state of a class that stands for a function
        b'ctorch._utils\n_rebuild_tensor_v2\nN}S"shape"\nK\x01s\x86b.',
        b'ccollections\nOrderedDict\nN}S"items"\nK\x01s\x86b.',
        b'cany\nthing\nN}S"__setstate__"\nK\x01s\x86b.',
        b'ctorch\nFloatStorage\n}S"a"\nK\x01sb.',
    ],
)
def test_what_stands_for_a_name_cannot_be_changed_by_a_file(tmp_path, code):
    with pytest.raises(WeightsError, match='cannot be read'):
        read_torch(with_pickle(tmp_path / 'a.pt', code))
    assert len(read_torch(saved(tmp_path / 'b.pt', torch.nn.Linear(2, 2).state_dict()))) == 2


@pytest.mark.parametrize(
    'offset, size, stride',
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (4, (1,), (1,)),
        (0, (2,), (10**12,)),
        (0, (10**9, 10**9), (0, 0)),
    ],
)
def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path, offset, size, stride):
    path = with_pickle(tmp_path / 'a.pt', tensor_pickle(offset, size, stride), **{'0': bytes(16)})
    with pytest.raises(WeightsError, match='data/0, which has 4 numbers|tensors would have'):
        np.asarray(read_torch(path)['x'])


@pytest.mark.parametrize('offset, size, stride', [(-1, (1,), (1,)), (3, (2,), (-1,)), (0, (2,), ()), (0, 'ab', (1, 1))])
def test_a_tensor_that_cannot_be_is_refused(tmp_path, offset, size, stride):
    path = with_pickle(tmp_path / 'a.pt', tensor_pickle(offset, size, stride), **{'0': bytes(16)})
    with pytest.raises(WeightsError, match='found a tensor of'):
        read_torch(path)


def test_rings_and_doubling_dictionaries_are_walked_once(tmp_path):
    ring = {'x': torch.ones(1)}
    ring['ring'] = ring
    assert read_torch(saved(tmp_path / 'a.pt', ring)).keys() == {'x'}
    node = {'x': torch.ones(1)}
    for _ in range(60):
        node = {'a': node, 'b': node}
    assert len(read_torch(saved(tmp_path / 'a.pt', node))) == 1


def test_other_kinds_of_file_and_damaged_ones_are_explained(tmp_path):
    whole = saved(tmp_path / 'whole.pt', {'x': torch.arange(1000.0)})
    data = whole.read_bytes()

    def complains(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=message) as caught:
            np.asarray(read_torch(tmp_path / name)['x'])
        assert str(tmp_path / name) in str(caught.value)

    complains('cut.pt', data[: len(data) // 2], 'zip file that is cut off')
    start = data.index(np.arange(10, 20, dtype=np.float32).tobytes())
    complains('flipped.pt', data[:start] + b'\xff' + data[start + 1 :], 'record data/0 is damaged')
    complains('page.pt', b'\n<HTML>not found</html>', 'a web page')
    complains('none.pt', b'', 'an empty file')
    torch.save({'x': torch.ones(1)}, tmp_path / 'old.pt', _use_new_zipfile_serialization=False)
    complains('old.pt', (tmp_path / 'old.pt').read_bytes(), 'before PyTorch 1.6.*weights_only')
    with zipfile.ZipFile(tmp_path / 'z', 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('archive/data.pkl', bytes(1000))
    complains('packed.pt', (tmp_path / 'z').read_bytes(), 'compressed')
    zipfile.ZipFile(tmp_path / 'z', 'w').close()
    complains('other.pt', (tmp_path / 'z').read_bytes(), 'NAME/data.pkl, found 0')
    with tarfile.open(tmp_path / 'all.tar', 'w') as tar:  # of several files one would be read, whichever
        tar.add(whole)
    complains('best.pth.tar', (tmp_path / 'all.tar').read_bytes(), 'a tar archive: unpack it')
    with pytest.raises(WeightsError, match='cannot be read'):
        read_torch(tmp_path / 'nowhere.pt')
