"""RT-DETR and its kin, by transformers: weights are the user's download, PyTorch an extra, both opened when needed."""

import importlib.util
import pathlib

import numpy as np

from lcr2s_jax.errors import DataError
from lcr2s_jax.files import expanded
from lcr2s_jax.weights import hub
from lcr2s_jax.weights.reading import read_object

NAME = 'rtdetr'
DEFAULT = 'PekingU/rtdetr_v2_r18vd'  # Apache-2.0, 20 million parameters, trained on COCO
_FILES = ['config.json', 'preprocessor_config.json', 'model.safetensors']
_PERSON = ('person', 'pedestrian')  # labels that count
_SCORE = 0.1  # below, the tracker does not look at a box
_HOW = (
    f'expected {NAME}, or a name on the hub or a folder of a detector of transformers ({", ".join(_FILES)}), '
    'such as RT-DETR or D-FINE'
)


class Rtdetr:
    """A detector of transformers that knows the label 'person': 'rtdetr', a repository on the hub, or a folder.

    Raises DataError: no such weights, no network, no person among the labels, no PyTorch.
    """

    def __init__(self, name: str):
        if importlib.util.find_spec('torch') is None:
            raise DataError(
                f"--detector={name}: found no PyTorch; it is an extra: python -m pip install 'lcr2s-jax[rtdetr]'"
            )
        self._name, self._folder, self._model = name, _folder(name), None
        config = read_object(self._folder / 'config.json', "a detector's config.json", error=DataError)
        labels = config.get('id2label')
        labels = labels if isinstance(labels, dict) else {}
        self._person = [int(number) for number, label in labels.items() if number.isdigit() and label in _PERSON]
        if not self._person:
            some = ', '.join(map(str, list(labels.values())[:5])) or 'none'
            raise DataError(f"--detector={name}: found no label 'person' in its config.json (labels: {some}); {_HOW}")

    def __call__(self, image_hwc: np.ndarray) -> np.ndarray:
        """float [n, 5], scores of 0.1 to 1."""
        import torch

        if self._model is None:
            self._open()
        inputs = self._processor(images=image_hwc, return_tensors='pt').to(self._model.device)
        with torch.inference_mode():
            found = self._model(**inputs)
        (found,) = self._processor.post_process_object_detection(
            found, threshold=_SCORE, target_sizes=[image_hwc.shape[:2]]
        )
        rows = torch.column_stack([found['boxes'], found['scores']]).cpu().numpy()
        return rows[np.isin(found['labels'].cpu().numpy(), self._person)]

    def _open(self) -> None:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        # by the name at the top of the package it asks for torchvision, which the other backend needs
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        try:
            self._processor = AutoImageProcessor.from_pretrained(self._folder, backend='pil')
            model, told = transformers.AutoModelForObjectDetection.from_pretrained(
                self._folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
        except Exception as error:  # of many kinds, by what is wrong with the files
            why = str(error).strip().partition('\n')[0][:300]
            raise DataError(
                f'--detector={self._name}: transformers cannot open {self._folder} '
                f'({type(error).__name__}: {why}); {_HOW}'
            ) from None
        missing = sorted(told['missing_keys']) + sorted(str(key) for key in told['mismatched_keys'])
        if missing:
            raise DataError(
                f'--detector={self._name}: the weights in {self._folder} lack {len(missing):,} arrays of the model '
                f'that its config.json tells of, such as {missing[0]}; fetch both from one place'
            )
        self._model = model.eval().to('cuda' if torch.cuda.is_available() else 'cpu')


def is_name(name: str) -> bool:
    """Whether it names such a detector, rather than another."""
    return name == NAME or expanded(name).is_dir() or hub.is_name(name)


def _folder(name: str) -> pathlib.Path:
    folder = expanded(name)
    if not folder.is_dir():
        repository = DEFAULT if name == NAME else name
        folder = hub.folder_of(repository, _FILES, lambda why: DataError(f'--detector={name}: {why}'))
    lacking = [file for file in _FILES if not (folder / file).is_file()]
    if lacking:
        raise DataError(f'--detector={name}: found no {lacking[0]} in {folder}; {_HOW}')
    return folder
