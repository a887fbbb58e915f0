"""LanceDB, imported without what no index of ours uses: the 150 pydantic classes of a catalogue service, and pandas."""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import types

_CLIENT = 'lance_namespace_urllib3_client'  # a third of the time that a search takes from the command line


class _StandIn(types.ModuleType):
    """A module of the client: any name is a class without content, enough for the annotations of others."""

    __path__: list[str] = []

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path=None, target=None):
        if name.partition('.')[0] != _CLIENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module) -> None:
        pass


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path=None, target=None):
        if name == 'pandas':
            raise ModuleNotFoundError("No module named 'pandas'", name=name)


def without_pandas() -> None:
    """Import pyarrow.dataset, which LanceDB needs, as it is where pandas is not installed.

    For a command, whose process reads no data frame: pyarrow would take a later Series for any sequence.
    """
    if 'pandas' in sys.modules:
        return
    sys.meta_path.insert(0, finder := _NoPandas())
    try:
        import pyarrow.dataset  # noqa: F401
    finally:
        sys.meta_path.remove(finder)


@functools.cache
def lancedb():
    """The module lancedb; as it is where somebody has imported it already."""
    # of ten million pictures it writes thousands of warnings about a queue of its own that is full
    os.environ.setdefault('LANCEDB_LOG', 'error')
    if 'lancedb' not in sys.modules and _CLIENT not in sys.modules:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        try:
            import lancedb
        except Exception:  # another version, which needs more of it
            for name in [name for name in sys.modules if name.partition('.')[0] in ('lancedb', 'lance_namespace')]:
                if name != 'lancedb._lancedb':  # compiled: it can be loaded once
                    del sys.modules[name]
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.partition('.')[0] == _CLIENT]:
                del sys.modules[name]  # whoever asks for it later gets the real one
    import lancedb

    return lancedb
