"""RT-DETR by transformers: weights of the user's, opened when the first frame comes; here tiny and random."""

import json
import shutil
import sys
import time

import numpy as np
import pytest

from lcr2s_jax.errors import DataError
from lcr2s_jax.video import detectors, rtdetr
from tests import hub
from tests.road import fails, typed

torch = pytest.importorskip('torch', reason='an extra: rtdetr')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Folder of an RT-DETR of a few thousand parameters."""
    import transformers
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    torch.manual_seed(0)
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type='basic',
        out_features=['stage2', 'stage3', 'stage4'],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=16, encoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_in_channels=[16] * 3, d_model=16, decoder_ffn_dim=16,
        decoder_attention_heads=2, decoder_layers=1, num_queries=20, num_denoising=0, hidden_expansion=0.5,
        id2label={0: 'person', 1: 'bicycle'},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp('weights') / 'tiny'
    transformers.RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessorPil(size={'height': 64, 'width': 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(weights, tmp_path):
    return shutil.copytree(weights, tmp_path / 'copied')


def noise(height=90, width=60):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def test_it_gives_the_people_that_transformers_gives(weights):
    import transformers
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    found = detectors.detect(detectors.open_detector(str(weights)), noise())
    model = transformers.RTDetrForObjectDetection.from_pretrained(weights).eval()
    processor = RTDetrImageProcessorPil.from_pretrained(weights)
    with torch.no_grad():
        out = model(**processor(images=noise(), return_tensors='pt'))
    (told,) = processor.post_process_object_detection(out, threshold=0.1, target_sizes=[(90, 60)])
    people = [
        [*box.tolist(), score.item()]
        for box, score, label in zip(told['boxes'], told['scores'], told['labels'], strict=True)
        if label == 0
    ]
    assert 0 < len(people) <= 20
    np.testing.assert_allclose(found, detectors.detect(lambda _: people, noise()), atol=1e-4)
    assert (found[:, 4] > 0.1).all() and (found[:, 4] < 1).all()


def test_a_name_on_the_hub_is_fetched_once_and_then_found_without_it(weights, tmp_path, monkeypatch):
    shutil.copytree(weights, tmp_path / 'hub' / 'someone' / 'people')
    with hub.serving(tmp_path / 'hub', monkeypatch, tmp_path / 'cache') as fetched:
        assert detectors.open_detector('someone/people')(noise()).shape[1] == 5
        assert sorted(fetched) == ['config.json', 'model.safetensors', 'preprocessor_config.json']
        monkeypatch.setattr(rtdetr, 'DEFAULT', 'someone/people')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    assert detectors.open_detector('rtdetr')(noise()).shape[1] == 5


@pytest.mark.parametrize('name', ['rtdetr', 'someone/people'])
def test_without_a_network_it_says_within_seconds_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    (tmp_path / 'a.mp4').write_bytes(b'0')
    began = time.monotonic()
    fails(
        typed('index', f'--index={tmp_path}/i', f'--video={tmp_path}/a.mp4', f'--detector={name}'),
        1, f'--detector={name}', 'HF_HUB_OFFLINE', 'pass the path of a folder', 'hf download',
    )  # fmt: skip
    assert time.monotonic() - began < 3 and not (tmp_path / 'i').exists()


def change(folder, **values):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | values))


def test_boxes_of_other_labels_are_left_out(copied):
    change(copied, id2label={'0': 'bicycle', '1': 'person'})  # all that the random weights find is of the first
    assert detectors.detect(detectors.open_detector(str(copied)), noise()).shape == (0, 5)


def test_what_is_no_detector_of_people_is_told_before_a_frame_is_read(copied, tmp_path):
    change(copied, id2label={'0': 'cat', '1': 'dog'})
    with pytest.raises(DataError, match="found no label 'person'.*cat, dog"):
        detectors.open_detector(str(copied))
    (copied / 'config.json').write_text('[]')
    with pytest.raises(DataError, match='config.json.*expected'):
        detectors.open_detector(str(copied))
    (copied / 'model.safetensors').unlink()
    with pytest.raises(DataError, match='found no model.safetensors in .*expected rtdetr'):
        detectors.open_detector(str(copied))
    with pytest.raises(DataError, match='--detector: '):
        detectors.open_detector(str(tmp_path / 'nothing'))


def test_weights_that_do_not_fit_are_told(copied):
    change(copied, decoder_layers=3)
    with pytest.raises(DataError, match='lack .* arrays of the model'):
        detectors.open_detector(str(copied))(noise())
    (copied / 'model.safetensors').write_bytes(b'no safetensors')
    with pytest.raises(DataError, match='transformers cannot open'):
        detectors.open_detector(str(copied))(noise())


def test_without_torch_the_extra_is_named(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(DataError, match=r'lcr2s-jax\[rtdetr\]'):
        detectors.open_detector(str(weights))
