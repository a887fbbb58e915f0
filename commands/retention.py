"""python main.py delete --index=I --where=..., and expire --index=I --older-than=30d: pictures leave an index."""

from lcr2s_jax.errors import ConfigError


def delete(uri: str, where: str, sure: bool) -> None:
    """Forget what a condition chooses; without `sure` only say how many that are. Files are not touched.

    Args:
      uri: of the index.
      where: a condition in SQL.
      sure: do it.
    """
    from lcr2s_jax.retrieval import gallery, retention

    if not where.strip():
        raise ConfigError('delete: found an empty --where; expected a condition such as --where="camera = \'c1\'"')
    opened = gallery.Gallery(uri)
    count = opened.count(where)
    if not sure:
        print(f'{uri}: {count:,} rows of {opened.count(""):,} would be forgotten. The same with --yes forgets them.')
        return
    count = retention.delete(opened, where)
    print(f'{uri}: {count:,} rows are forgotten, their bytes erased; the audit log and the files are as they were')


def expire(uri: str, age: str, sure: bool) -> None:
    """`delete` by age.

    Args:
      uri: of the index.
      age: since a picture was indexed, '30d', '12h' or '45m'.
      sure: do it.
    """
    from lcr2s_jax.retrieval import retention

    delete(uri, retention.older_than(age), sure)
