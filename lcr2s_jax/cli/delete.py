"""python main.py delete --index=I --where=..., and expire --index=I --older-than=30d: pictures leave an index."""

from lcr2s_jax.errors import ConfigError


def delete(uri: str, where: str, sure: bool) -> None:
    """Forget what a condition chooses, and write down who did; without `sure` only say how many that are.

    Of the files only those that the index itself keeps are touched: uploads, and crops of videos.

    Args:
      uri: of the index.
      where: a condition in SQL.
      sure: do it.
    """
    from lcr2s_jax.search import audit, gallery, retention

    if not where.strip():
        raise ConfigError('delete: found an empty --where; expected a condition such as --where="camera = \'c1\'"')
    opened = gallery.Gallery(uri)
    count = opened.count(where)
    if not sure:
        print(f'{uri}: {count:,} rows of {opened.count(""):,} would be forgotten. The same with --yes forgets them.')
        return
    line = {'user': audit.user(), 'event': 'delete', 'where': where, 'rows': count, 'version': opened.version}
    audit.write(uri, [line])
    gone = retention.delete(opened, where)
    files = ', '.join(
        f'{count:,} {what}' for count, what in ((gone.uploads, 'uploads'), (gone.tracks, "tracks' crops")) if count
    )
    print(
        f'{uri}: {gone.rows:,} rows are forgotten, their bytes erased'
        + (f', and the files of {files}; no other file was touched' if files else '; no picture file was touched')
    )


def expire(uri: str, age: str, sure: bool) -> None:
    """`delete` by age.

    Args:
      uri: of the index.
      age: since a picture was indexed, '30d', '12h' or '45m'.
      sure: do it.
    """
    from lcr2s_jax.search import retention

    delete(uri, retention.older_than(age), sure)
