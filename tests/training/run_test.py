"""What a run keeps of val, by which its exports are checked."""

import numpy as np
import pytest

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.training import run as runs


def test_pictures_that_are_kept_come_back_and_a_damaged_file_of_them_is_told(tmp_path):
    run = runs.Run(tmp_path, 'student', 1, {}, None, {})
    assert run.sample() is None
    (tmp_path / 'model').mkdir()
    runs.keep_sample(tmp_path, [b'one', b'', b'three'], [0, 0, 1], ['a man', 'a\u00e9', 'x'], [0, 2, 2])
    kept = run.sample()
    assert (kept['encoded'], kept['captions']) == ([b'one', b'', b'three'], ['a man', 'a\u00e9', 'x'])
    np.testing.assert_array_equal(kept['image_pid'], [0, 0, 1])
    path = tmp_path / 'model' / 'sample.npz'
    whole = path.read_bytes()
    for content in (b'', whole[: len(whole) // 2], whole.replace(b'one', b'two'), b'hello'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match='sample.npz: cannot be read .*; delete it and results.json'):
            run.sample()
