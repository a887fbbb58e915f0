"""Limits of the tree that keep it readable; whoever passes one names it here, with a reason."""

import ast
import collections
import re
import subprocess

from tests.road import ROOT

LINES, FUNCTION = 300, 60
LONG_FILES = {
    'benchmarks/input.py': 'one comparison of loaders, told in one place',
}
LONG_FUNCTIONS = {
    'configs/base.py:get_config': 'a table of fields',
    'data/pipeline.py:train_batches': 'the one road of a batch, with the docstring of its fields',
    'lcr2s_jax/method/stages.py:student_stage': 'the docstring says every weight and its source',
    'lcr2s_jax/training/train.py:fit': 'the one loop, read from top to bottom',
    'lcr2s_jax/weights/model_card.py:card': 'a page of text',
}
# a command is called as what it calls; the others are of rooms that never meet
SHARED_STEMS = {
    'calibration', 'compare', 'demo_clip', 'evaluate', 'explain', 'export', 'folder', 'index', 'model', 'page',
    'rows', 'search', 'table', 'train', 'info', 'serve', 'pictures', 'domain', 'answer', 'cluster',
}  # fmt: skip


def sources():
    listed = subprocess.run(['git', 'ls-files', '*.py'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split() if not name.startswith('tests/') and (ROOT / name).is_file()]
    assert len(names) > 100
    return {name: (ROOT / name).read_text() for name in names}


def test_files_are_short_but_for_those_with_a_reason():
    long = {name for name, text in sources().items() if text.count('\n') > LINES}
    assert long == set(LONG_FILES)


def test_functions_are_short_but_for_those_with_a_reason():
    long = {
        f'{name}:{node.name}'
        for name, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= FUNCTION
    }
    assert long == set(LONG_FUNCTIONS)


def test_no_file_stem_stands_for_two_things():
    stems = collections.Counter(name.rpartition('/')[2] for name in sources())
    twice = {name.removesuffix('.py') for name, count in stems.items() if count > 1}
    assert twice - {'__init__', '__main__'} <= SHARED_STEMS


def test_the_library_has_no_circle_of_imports():
    library = {name: text for name, text in sources().items() if name.startswith('lcr2s_jax/')}
    modules = {name[:-3].replace('/', '.'): text for name, text in library.items() if not name.endswith('__init__.py')}
    edges = {}
    for name, text in modules.items():
        tops = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom) and node.module]
        named = {f'{node.module}.{alias.name}' for node in tops for alias in node.names} | {n.module for n in tops}
        edges[name] = named & modules.keys()
    done, walking = set(), []

    def walk(name):
        assert name not in walking, f'{" -> ".join([*walking, name])}'
        if name in done:
            return
        walking.append(name)
        for other in sorted(edges[name]):
            walk(other)
        walking.pop()
        done.add(name)

    for name in sorted(modules):
        walk(name)


def test_every_action_of_the_workflows_is_pinned_by_its_hash():
    used = [
        use
        for path in (ROOT / '.github' / 'workflows').glob('*.yml')
        for use in re.findall(r'uses: (\S+)', path.read_text())
    ]
    assert used and all(re.fullmatch(r'[\w-]+/[\w-]+@[0-9a-f]{40}', use) for use in used), used
