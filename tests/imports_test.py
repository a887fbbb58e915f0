"""Who may import whom, read from the source: importing TensorFlow loads JAX, so sys.modules would prove nothing."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NEVER = {
    'lcr2s_jax': {'tensorflow', 'tensorflow_datasets', 'ml_collections', 'configs', 'commands', 'data', 'main'},
    'data': {'jax', 'flax', 'optax', 'orbax', 'ml_collections', 'configs', 'commands', 'main'},
    'configs': {'jax', 'tensorflow', 'lcr2s_jax', 'commands', 'data', 'main'},
}
LATE = {
    'tensorflow',
    'tensorflow_datasets',
    'matplotlib',
    'transformers',
    'torch',
    'tensorboardX',
    'lancedb',
    'pyarrow',
    'cv2',
    'supervision',
    'motmetrics',
    'gradio',
    'fastapi',
    'uvicorn',
}
WITHOUT_TENSORFLOW = ('records', 'annotations', 'table', 'sources', 'plan')
# what data takes from the library; none of it imports JAX
SHARED = {
    'lcr2s_jax.errors',
    'lcr2s_jax.files',
    'lcr2s_jax.locks',
    'lcr2s_jax.image_headers',
    'lcr2s_jax.images',
    'lcr2s_jax.texts',
    'lcr2s_jax.progress',
    'lcr2s_jax.threads',
    'lcr2s_jax.weights.tokenizer',
}


def imports(path, top_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def files(package):
    found = sorted((ROOT / package).rglob('*.py'))
    assert found
    return found


@pytest.mark.parametrize('package', sorted(NEVER))
def test_nobody_imports_from_outside_its_floor(package):
    for path in files(package):
        wrong = {name for name in imports(path) if name.split('.')[0] in NEVER[package]}
        assert not wrong, f'{path.relative_to(ROOT)} imports {wrong}'


def test_nobody_imports_the_page_or_the_command_line_but_their_commands():
    for path in files('lcr2s_jax'):
        where = path.relative_to(ROOT / 'lcr2s_jax').as_posix()
        if not where.startswith(('cli/', 'search/web/')):
            wrong = [name for name in imports(path) if name.startswith(('lcr2s_jax.search.web', 'lcr2s_jax.cli'))]
            assert not wrong, f'{where} imports {wrong}'


def test_models_and_losses_do_not_know_each_other():
    for path in files('lcr2s_jax/models'):
        assert not [name for name in imports(path) if 'losses' in name or 'stages' in name]
    assert not [name for name in imports(ROOT / 'lcr2s_jax' / 'method' / 'losses.py') if 'models' in name]


def test_the_machinery_holds_no_word_of_re_identification():
    for name in ('parallel', 'optim', 'checkpoint', 'train'):
        path = ROOT / 'lcr2s_jax' / 'training' / f'{name}.py'
        assert not [x for x in imports(path) if x.startswith('lcr2s_jax') and x.split('.')[1] in ('method', 'models')]


def test_importing_the_model_side_or_main_loads_nothing_heavy_but_jax():
    for path in [
        *files('lcr2s_jax'),
        ROOT / 'main.py',
        *files('commands'),
        *(ROOT / 'data' / f'{n}.py' for n in WITHOUT_TENSORFLOW),
        *files('data/doctor'),
        *files('data/demo'),
    ]:
        heavy = {name.split('.')[0] for name in imports(path, top_only=True)} & LATE
        assert not heavy, f'{path.relative_to(ROOT)} imports {heavy} at the top'


def test_data_takes_from_the_library_only_what_is_without_jax():
    for path in files('data'):
        taken = {name for name in imports(path) if name.startswith('lcr2s_jax.')}
        assert all(any(name.startswith(shared) for shared in SHARED) for name in taken), f'{path} imports {taken}'
    for name in SHARED:
        path = ROOT / f'{name.replace(".", "/")}.py'
        if path.is_file():
            assert not {one.split('.')[0] for one in imports(path)} & {'jax', 'flax'}, f'{name} imports JAX'
