"""Every command line of the documents is read by the command line: no flag, field or benchmark that is not there."""

import importlib.util
import re
import shlex

import pytest

import main
from commands import config
from lcr2s_jax import cli
from lcr2s_jax.cli import program as programs
from tests.road import ROOT

# commands of an earlier commit, as that page says
EARLIER = 'evidence_appendix.md'
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').glob('*.md')])


def typed(page):
    """The lines in blocks of shell of a page, continued ones joined, variables of the block put in."""
    blocks = re.findall(r'^```(\w*)\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)
    for block in (text for language, text in blocks if language in ('', 'sh', 'bash')):
        lines = block.replace('\\\n', ' ').splitlines()
        given = dict(re.findall(r'^(\w+)="(.*?)"', block, re.MULTILINE))
        for line in lines:
            for name, value in given.items():
                line = line.replace(f'${name}', value)
            yield line.split(' # ')[0].split('   #')[0].strip()


def commands(page):
    for line in typed(page):
        program = main.PROGRAM if 'main.py' in line else cli.PROGRAM
        at = re.search(r'(?:^|[ /"])(?:python3? main\.py ?|^lcr2s )', line)
        if at and not line.startswith(('pip', 'cd ')) and ('main.py' in line or line.startswith('lcr2s ')):
            rest = line[at.end() :]
            yield program, shlex.split(rest.rstrip('"') if '--command="' in line else rest)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_its_commands_and_flags_are_there(page):
    for program, words in commands(page):
        words = [word for word in words if word not in ('...', '[...]', '&&')]
        name, own = program._command(words)
        overrides, own = programs._overrides(own)
        args = program.parser(name).read(own)
        if getattr(args, 'config', None) and '...' not in args.config:
            fields = [word for word in overrides if '...' not in word and 'my_pedes' not in word]
            assert config.read(str(ROOT / args.config), fields), words


def test_a_test_that_a_document_names_is_there():
    there = {
        f'{path.stem}::{name}'
        for path in (ROOT / 'tests').rglob('*_test.py')
        for name in re.findall(r'^def (test_\w+)', path.read_text(), re.MULTILINE)
    }
    named = {name for page in PAGES for name in re.findall(r'\w+_test::test_\w+', page.read_text())}
    assert len(named) > 50 and named <= there, named - there


def test_the_documents_have_commands_to_read():
    found = [words for page in PAGES for _, words in commands(page)]
    assert len(found) > 40 and {'index', 'search', 'serve', 'evaluate', 'export', 'doctor'} <= {
        w[0] for w in found if w
    }


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_its_benchmarks_and_targets_are_there(page):
    text, makefile = page.read_text(), (ROOT / 'Makefile').read_text()
    for module in () if page.name == EARLIER else re.findall(r'python3? -m (benchmarks\.\w+|data\.\w+)', text):
        assert importlib.util.find_spec(module), f'{page.name}: {module}'
    for target in re.findall(r'`make ([\w-]+)`', text):
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), f'{page.name}: make {target}'
    for target in re.findall(r'\]\(((?:docs/)?[\w/.-]+\.(?:md|png|json|ipynb))\)', text):
        assert (page.parent / target).is_file(), f'{page.name}: {target}'
