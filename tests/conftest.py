"""What every test shares: eight forced CPU devices, and programs that compile fast and once."""

import functools
import os
import pathlib
import shutil

import pytest

# many-device code runs as it does on a pod; compilation is most of the tests' time: level 0 halves it, and without the
# fusion emitters a step takes a quarter of the rest
os.environ['XLA_FLAGS'] = (
    ' --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
)
os.environ['JAX_PLATFORMS'] = 'cpu'
# tests that need the same program, and the next run of the tests, take it from here
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'


@pytest.fixture(scope='session')
def one_device(tmp_path_factory):
    """(name of a stage, steps=6) -> folder and parameters of its run on one device, trained once."""
    from tests import tiny_runs as training  # JAX reads the variables above when it is first imported

    @functools.cache
    def trained(name, steps=6):
        folder = tmp_path_factory.mktemp(name)
        every = {} if steps == 6 else dict(eval_every=steps, save_every=steps)
        return folder, training.run(folder, training.any_stage(name), steps=steps, **every)[0]

    return trained


@pytest.fixture(scope='session')
def decoders():
    """Two pools of processes that decode pictures."""
    from lcr2s_jax.search.web.decoding import Decoders

    pools = Decoders(1), Decoders(1)
    yield pools
    for pool in pools:
        pool.close()


@pytest.fixture(scope='module')
def opened(made, decoders):
    """The service of a module's index `made`; its model is compiled once for all."""
    from lcr2s_jax.search import index
    from lcr2s_jax.search.web.service import Service

    search = index.open_search(made.uri)
    search.load()
    return Service(search, decoders)


@pytest.fixture
def at(made, opened, decoders, tmp_path):
    """A service at a copy of that index, for one test to change."""
    from lcr2s_jax.search import gallery, search
    from lcr2s_jax.search.web.service import Service

    shutil.copytree(made.uri, tmp_path / 'i')
    there = search.Search(gallery.Gallery(str(tmp_path / 'i')), opened.search.model, opened.search.tokenizer)
    return Service(there, decoders)


# minutes each: they begin first, so that no worker ends with one of them while the others have nothing left
LONG = ('hosts_test', 'journey_test', 'real_data_test', 'parallel_test', 'checkpoint_test', 'stages_test', 'train_test')


def pytest_collection_modifyitems(items):
    """Put the longest files first; the order within a file stays."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
