"""The user's columns of an index: what is known of a picture beside its pixels."""

from collections.abc import Iterable, Mapping

from lcr2s_jax.errors import SearchError
from lcr2s_jax.search.gallery import KEY, Gallery


def check(names: Iterable[str], have: Iterable[str] = ()) -> None:
    """Raise SearchError for names that LanceDB would take for its own, such as _rowid, or that nearly are there."""
    names, there = list(names), set(have)
    by_letters = {name.lower(): name for name in there}
    for name in names:
        if name not in there and (near := by_letters.get(name.lower())):
            raise SearchError(
                f'found the column {name}, and the index has {near}: write it so, or give it another name'
            )
    if wrong := [name for name in names if name.startswith('_')]:
        raise SearchError(f'--metadata: found the columns {wrong}, expected names that begin with a letter')


def join(gallery: Gallery, root: str, kinds: Mapping[str, str], values: Mapping[str, Mapping]) -> int:
    """Write columns beside the pictures of a root, in one commit; how many rows changed. Others are left alone.

    `kinds` are 'int64', 'double' or 'string' by name, as the gallery has them already, others are added; `values` are
    by path and name, or None. Raises SearchError for a name that cannot be, see `check`.
    """
    import pyarrow as pa

    check(kinds, gallery.columns)
    with gallery.writing():
        fresh = [pa.field(name, kind) for name, kind in kinds.items() if name not in gallery.columns]
        if fresh:
            gallery.table.add_columns(fresh)
        changed = [
            {'root': root, 'path': old['path'], **values[old['path']]}
            for old in gallery.of_root(root, ['path', *kinds]).to_pylist()
            if old['path'] in values and any(old[name] != values[old['path']][name] for name in kinds)
        ]
        if changed:
            fields = [pa.field(name, 'string') for name in KEY] + [pa.field(*one) for one in kinds.items()]
            gallery.merge().execute(pa.Table.from_pylist(changed, pa.schema(fields)))
    return len(changed)
