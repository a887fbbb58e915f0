"""The command line: one line a mistake, the nearest real word, an exit status that a shell can use."""

import io
import os
import re
import signal
import subprocess
import sys
import time
import types

import pytest

import main
from lcr2s_jax import cli
from lcr2s_jax.cli.program import Program, _keep_programs, _Terminated, _terminated
from lcr2s_jax.errors import ConfigError, Interrupted
from tests.road import ROOT, fails, typed

RUN = '--config=configs/demo.py', '--workdir=w'


def program(run, arguments=lambda parser: None, **more):
    """A program of one command."""
    return Program(
        'lcr2s', '1', 'about', {'do': types.SimpleNamespace(ABOUT='', WORDS='', arguments=arguments, run=run)}
    )


def raises(error):
    def run(args):
        raise error

    return program(run).main(['do'])


@pytest.mark.parametrize(
    'words,status,told',
    [
        (['help'], 2, 'did you mean --help?'),
        (['--verison'], 2, 'did you mean --version?'),
        (['serch'], 2, "found 'serch', expected a command; did you mean search?"),
        (['trian'], 2, 'did you mean train?'),
        (['search', 'red'], 2, 'search needs --index'),
        (['delete'], 2, 'delete needs --index'),
        (['expire'], 2, 'expire needs --index and --older-than'),
        (['export', '--workdir=w', '--format=onnx', '--out=o'], 2, "--format: found 'onnx', expected hf or open_clip"),
        (['export', '--workdir=w', '--format=open-clip', '--out=o'], 2, 'did you mean open_clip?'),
        (['search', '--indx=i', 'red'], 2, "search takes no '--indx'; did you mean --index?"),
        (['search', '--index=i', '--images=d', 'red'], 2, "search takes no '--images'"),
        (['search', '--index=i', '--config=configs/demo.py', 'red'], 2, "search takes no '--config'"),
        (['export', '--workdir=w', '--config.seed=3'], 2, "export takes no '--config.seed'"),
        (['expire', '--index=i', '--older-than=3d', 'now'], 2, "expire takes no word 'now'"),
        (['search', '--index'], 2, '--index: expected a value'),
        (['search', '--index='], 2, '--index: found nothing, expected a place'),
        (['search', '--index=i', '--json=3', 'red'], 2, '--json: takes no value'),
        (['search', '--index=i', '--top=0', 'red'], 2, "--top: found '0', expected a whole number, 1 or more"),
        (['serve', '--index=i', '--port=70000'], 2, "--port: found '70000', expected a whole number, 1 to 65535"),
        (['index', '--index=i', '--weights=w', '--image-size=big', '--images=d'], 2, 'such as 384x128'),
        (['index', '--index=i', '--workdir=w', '--weights=w', '--images=d'], 2, 'expected one of them'),
        (['index', '--index=i', '--heads=8', '--images=d'], 2, '--heads is of --weights'),
        (['search', '--index=i', 'red \udcff coat'], 2, 'bytes that are no UTF-8'),
        (['--confg=3'], 2, "train takes no '--confg'; did you mean --config?"),
        ([], 2, 'train needs --config and --workdir'),
        (['--config=configs/demos.py', '--workdir=w'], 1, 'expected one such as configs/demo.py'),
        (
            ['--config=configs/demo.py', '--workdir=w', '--config.train.stepz=3'],
            1,
            'did you mean --config.train.steps?',
        ),
        (['--config=configs/demo.py', '--workdir=w', '--config.train.steps=three'], 1, '--config.train.steps=three'),
        (['--config=configs/demo.py', '--workdir=w', '--config.optim.lr=3'], 1, '--config.optim.learning_rate?'),
        (['--config=configs/demo.py', '--workdir=w', '--config.optim.steps=3'], 1, '--config.train.steps?'),
        (['--config=configs/smoke.py', '--workdir=README.md'], 1, 'README.md: found a file, expected a folder'),
        (['doctor', '--config=README.md'], 1, 'README.md cannot be used'),
        (['evaluate', '--weights=w'], 2, 'evaluate needs --workdir, or --config and --weights'),
    ],
)
def test_a_mistake_is_one_line_and_names_what_was_meant(words, status, told):
    run = typed(*words)
    fails(run, status, told)
    lines = run.stderr.splitlines()
    assert run.stdout == '' and len(lines) == status and max(map(len, lines)) < 300, 'no help text, no config'
    if status == 2:
        assert lines[1].startswith('see python main.py ') and lines[1].endswith('--help')


def test_flags_take_both_dashes_and_both_ways_to_give_a_value():
    found = []

    def arguments(parser):
        parser.add_argument('--group-by')
        parser.add_argument('words', nargs='*')

    one = program(lambda args: found.append((args.group_by, args.words)), arguments)
    for words in (['--group-by=x', 'a', 'b'], ['a', '--group_by', 'x', 'b'], ['a', 'b', '--group_by=x']):
        assert (
            one.main(['do', *words])
            == 0
            == one.main([*words[:2], 'do', *words[2:]] if words[0] != 'a' else ['do', *words])
        )
    assert set(map(str, found)) == {"('x', ['a', 'b'])"}


@pytest.mark.parametrize('flag', ['--index', '--like', '--queries', '--html'])
def test_a_tilde_is_the_home_folder_in_every_place_and_a_url_stays(flag, monkeypatch):
    monkeypatch.setenv('HOME', '/home/ann')
    parser = cli.PROGRAM.parser('search')
    action = next(one for one in parser._actions if flag in one.option_strings)
    assert action.type('~/i') == '/home/ann/i' and action.type('s3://b/~/i') == 's3://b/~/i'


@pytest.mark.parametrize(
    'typed, told',
    [('$HOME/i', r'no shell has filled in \$HOME.*it is /home/ann here'), ('${NOWHERE}/i', 'it is not set here'),
     ('~nobody-here/i', 'nobody of that name')],
)  # fmt: skip
def test_a_place_that_no_shell_has_read_makes_no_folder_of_that_name(typed, told, monkeypatch, capsys):
    monkeypatch.setenv('HOME', '/home/ann')
    assert cli.PROGRAM.main(['search', f'--index={typed}', 'red']) == 2
    assert re.search(told, capsys.readouterr().err)


def test_a_link_that_leads_to_itself_or_a_name_that_is_too_long_is_no_place(tmp_path, capsys):
    (tmp_path / 'loop').symlink_to('loop')
    for name, told in (('loop', 'Too many levels of symbolic links'), ('a' * 300, 'File name too long')):
        assert cli.PROGRAM.main(['index', f'--index={tmp_path / name}', '--images=i', '--weights=w']) == 2
        assert f'{told}; expected a place' in capsys.readouterr().err


def test_every_flag_that_names_a_place_is_of_one_type():
    named = {
        'index',
        'images',
        'video',
        'workdir',
        'weights',
        'metadata',
        'moved-from',
        'queries',
        'html',
        'auth',
        'audit',
    }
    named |= {'out', 'like', 'path', 'table', 'config', 'tokenizer'}
    for name in main.COMMANDS:
        for action in main.PROGRAM.parser(name)._actions:
            if {flag.removeprefix('--') for flag in action.option_strings} & named:
                assert action.type('~/x') == os.path.expanduser('~/x'), (name, action.option_strings)


def test_the_end_of_a_command_is_its_exit_status(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path))
    assert program(lambda args: None).main(['do']) == 0 and program(lambda args: 1).main(['do']) == 1
    assert raises(ConfigError('found a, expected b')) == 1
    assert raises(OSError(28, 'No space left on device', '/disk/file')) == 1
    assert raises(Interrupted(7)) == 143 and raises(KeyboardInterrupt()) == 130 and raises(BrokenPipeError()) == 141
    sys.stdout = sys.__stdout__
    err = capsys.readouterr().err.splitlines()
    room = '; make room on the disk and give the same command again'
    assert err[:2] == ['lcr2s: found a, expected b', 'lcr2s: /disk/file: No space left on device' + room]
    assert len(err) == 4


def test_a_caller_may_close_both_streams(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    monkeypatch.setattr(sys, 'stderr', None)
    assert program(lambda args: print(sys.stdout.isatty())).main(['do']) == 0 and raises(ConfigError('x')) == 1


def test_a_reader_that_goes_away_is_the_same_end_however_it_is_raised(monkeypatch):
    def gone(args):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904 - as Rich does

    monkeypatch.setattr(sys, 'stdout', sys.stdout)
    assert program(gone).main(['do']) == 141


def test_programs_are_not_kept_where_nothing_can_be_written(monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file' / 'cache'))
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    _keep_programs()
    assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


def test_what_nobody_foresaw_is_one_line_and_its_traceback_lies_in_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path))
    assert raises(KeyError('x\x1b[31m')) == 1
    err = capsys.readouterr().err
    (file,) = (tmp_path / 'lcr2s_jax').iterdir()
    assert err.startswith('lcr2s: a mistake in this program (KeyError') and str(file) in err and err.count('\n') == 1
    assert '\x1b' not in err and 'Traceback' in file.read_text() and file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, 'open', lambda *args: (_ for _ in ()).throw(OSError(30, 'Read-only file system')))
    assert raises(KeyError('x')) == 1 and 'could not be written' in capsys.readouterr().err


def test_sigterm_ends_as_ctrl_c_does_and_gives_the_handler_back(capsys):
    before, ended = signal.getsignal(signal.SIGTERM), []

    def run(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            ended.append('in order')

    assert program(run).main(['do']) == 143 and ended == ['in order'] and 'stopped' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_programs_are_kept_in_the_cache_folder_unless_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for name in (
        'JAX_COMPILATION_CACHE_DIR',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
        'JAX_COMPILATION_CACHE_MAX_SIZE',
    ):
        monkeypatch.setenv(name, 'x')  # so that it is put back
        monkeypatch.delenv(name)
    assert program(lambda args: None).main(['do']) == 0
    assert os.environ['JAX_COMPILATION_CACHE_DIR'].startswith(f'{tmp_path}/lcr2s_jax/programs-')
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'there')
    assert program(lambda args: None).main(['do']) == 0 and os.environ['JAX_COMPILATION_CACHE_DIR'] == 'there'


@pytest.mark.parametrize('name', main.COMMANDS)
def test_help_names_every_flag_with_a_sentence(name, capsys):
    assert main.main(['main.py', name, '--help']) == 0
    out = capsys.readouterr().out
    for action in main.PROGRAM.parser(name)._actions:
        assert action.help and action.help.endswith(('.', ':', '7860/', '...', "}'.")), (name, action.option_strings)
        if action.option_strings:
            assert f'  {action.option_strings[0]}' in out


def test_help_and_version_import_nothing_heavy():
    heavy = {
        'jax',
        'numpy',
        'tensorflow',
        'lancedb',
        'pyarrow',
        'PIL',
        'ml_collections',
        'absl',
        'rich',
        'difflib',
        'shtab',
    }
    for program in ('import main; main.main(["main.py", *words])', 'from lcr2s_jax import cli; cli.main(words)'):
        for words in (['search', '--help'], ['--version'], ['--help']):
            code = f'import sys; words = {words}; {program}; sys.exit(" ".join({heavy} & set(sys.modules)) or 0)'
            run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
            assert run.returncode == 0 and run.stdout, run.stderr


@pytest.mark.parametrize('name', ['someone/clip', 'hf://someone/irra/best.pth'])
def test_without_a_network_a_hub_name_is_answered_before_jax_is_imported(tmp_path, name):
    words = ['index', f'--weights={name}', f'--images={tmp_path}', f'--index={tmp_path / "i"}']
    code = f'import sys; from lcr2s_jax import cli; s = cli.main({words}); sys.exit(9 if "jax" in sys.modules else s)'
    given = os.environ | {'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)}
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=given, capture_output=True, text=True)
    assert run.returncode == 1 and 'the hub is out of reach (HF_HUB_OFFLINE is set)' in run.stderr, run.stderr


def test_lcr2s_takes_the_commands_that_need_no_config(capsys):
    assert set(main.COMMANDS) - set(cli.COMMANDS) == {'train', 'build', 'doctor', 'explain', 'compare'}
    assert cli.main(['--version']) == 0 and capsys.readouterr().out.startswith('lcr2s 0.')
    assert cli.main([]) == 0 and 'lcr2s COMMAND --help' in capsys.readouterr().out
    assert cli.main(['--index=i']) == 2 and 'found no command' in capsys.readouterr().err
    for path in (ROOT / 'lcr2s_jax' / 'cli').glob('*.py'):
        assert 'commands' not in {line.split()[1] for line in path.read_text().splitlines() if line.startswith('from ')}


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_a_shell_completes_commands_and_flags(shell, capsys):
    pytest.importorskip('shtab')
    assert cli.main(['completion', shell]) == 0
    out = capsys.readouterr().out
    assert 'search' in out and 'group-by' in out and 'older-than' in out


def test_a_shell_that_is_none_gets_the_names(capsys):
    assert cli.main(['completion', 'tcsh']) == 2 and 'bash, zsh, fish' in capsys.readouterr().err


def test_a_line_of_progress_tells_rate_and_time_left(monkeypatch):
    from lcr2s_jax import progress

    clock, out = iter([0.0, 0.0, 4.0, 10.0, 15.0, 20.0]), io.StringIO()
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))
    monkeypatch.setattr(sys, 'stderr', out)
    with progress.Shown().counting('pictures', 400) as tell:
        for _ in range(4):
            tell(50)
    assert out.getvalue().splitlines() == [
        '100 of 400 pictures, 10.0 a second, 0:30 left',
        '200 of 400 pictures, 10.0 a second, 0:20 left',
    ]


def test_main_is_short():
    assert len((ROOT / 'main.py').read_text().splitlines()) < 120


@pytest.mark.parametrize('number,raised', [(signal.SIGTERM, _Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_falls_into_a_finaliser_is_not_lost(number, raised):
    class Closing:
        def __del__(self):
            os.kill(os.getpid(), number)
            for _ in range(1000):  # Python looks for signals between its own instructions
                pass

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    try:
        with pytest.raises(raised), _terminated():
            Closing()
            for _ in range(500):
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    'words,flag',
    [
        (('explain', '--workdir=HERE'), '--workdir: explain.json'),
        (('compare', '/no/run', '--out=HERE/new/out'), '--out: table.md'),
        (('export', '--workdir=/no/run', '--format=hf', '--out=HERE/new'), '--out: new'),
        (('index', '--weights=/no/weights', '--images=HERE', '--index=HERE/i'), '--index: model'),
        (('search', '--index=/no/index', '--html=HERE/a.html', 'a man'), '--html: a.html'),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work_for_it(tmp_path, monkeypatch, words, flag):
    real = os.access

    def access(path, mode):
        return not (mode & os.W_OK and str(path).startswith(str(tmp_path))) and real(path, mode)

    monkeypatch.setattr(os, 'access', access)
    run = typed(*(word.replace('HERE', str(tmp_path)) for word in words))
    fails(run, 1, f'{flag} cannot be written in {tmp_path}; expected a folder that you may write')
    assert not list(tmp_path.iterdir())
