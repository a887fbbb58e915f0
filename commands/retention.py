"""python main.py delete --index=I --where=..., and expire --index=I --older-than=30d: pictures leave an index."""

from lcr2s_jax.errors import ConfigError
from lcr2s_jax.search import audit, retention


def delete(uri: str, where: str, sure: bool) -> None:
    """Forget what a condition chooses, and write down who did; without `sure` only say what that is.

    Of the files only those that the index itself keeps are touched: uploads, and crops of videos.

    Args:
      uri: of the index.
      where: a condition in SQL, see `lcr2s_jax.search.conditions`.
      sure: do it.
    """
    if not where.strip():
        raise ConfigError('delete: found an empty --where; expected a condition such as --where="camera = \'c1\'"')
    chosen, gone = retention.forget(uri, where, audit.user(), sure)
    first, *more = chosen.lines()
    print('\n'.join([f'{uri}: {"forgetting" if sure else "would forget"} {first}', *more]))
    if gone is None:
        print('The same with --yes forgets them.')
        return
    files = ', '.join(
        f'{count:,} {what}' for count, what in ((gone.uploads, 'uploads'), (gone.tracks, "tracks' crops")) if count
    )
    print(
        f'{uri}: {gone.rows:,} rows are forgotten, their bytes erased'
        + (f', and the files of {files}; no other file was touched' if files else '; no picture file was touched')
        + '. The audit log still names what searches have found.'
    )
    if gone.left:
        print(f'{gone.left:,} of them had been changed or removed by others meanwhile, and were left as they are')


def expire(uri: str, age: str, sure: bool) -> None:
    """`delete` by age.

    Args:
      uri: of the index.
      age: since a picture was indexed, '30d', '12h' or '45m'.
      sure: do it.
    """
    delete(uri, retention.older_than(age), sure)
