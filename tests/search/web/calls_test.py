"""What hostile calls leave behind, over HTTP, of a page that a process of its own serves."""

from benchmarks import page
from tests import searching


def test_hostile_calls_leave_memory_files_and_disk_as_they_were_and_no_traceback(tmp_path, capfd):
    made = searching.index(tmp_path / 'made')
    made.update()
    (tmp_path / 'served').mkdir()
    found = page.measure(made.uri, tmp_path / 'served', searches=0, uploads=0, calls=300, rest=6)['hostile calls']
    before, after = found['before'], found['after']
    assert sum(found['statuses'].values()) >= 600, 'those that warm it up, and those that count'
    assert sum(found['statuses'].get(status, 0) for status in (401, 403, 404, 421)) > 200
    assert not any(status >= 500 and status != 503 for status in found['statuses']), found['statuses']
    said = capfd.readouterr().err
    assert 'Traceback' not in said and len(said) < 2000, said[:2000]
    assert after['memory MiB'] - before['memory MiB'] < 40
    assert after['open files'] <= before['open files'] + 8 and after['threads'] <= before['threads'] + 8
    assert after['MiB on disk'] - before['MiB on disk'] < 2
