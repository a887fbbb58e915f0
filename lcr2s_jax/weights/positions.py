"""Position tables of image towers, resampled from any grid of patches to any grid.

A table is [1 + rows * columns, D], the class token's row first (a ResNet's: that of the mean): it is kept as it is.
"""

import math

import numpy as np

from lcr2s_jax.errors import ConfigError, WeightsError


def stored_grid(rows: int, wanted: tuple[int, int] | None, of_people: bool, name: str) -> tuple[int, int]:
    """The grid of a table of which a file tells the length alone, `rows`, the class token's among them.

    A square goes first, then the grid that is wanted, then a person's crop, thrice as high as wide [IRRA: 24 x 8]. In a
    checkpoint that was trained on people the square goes last: there 256 is 32 x 8 rather than 16 x 16 (ours).
    """
    side, third = math.isqrt(max(rows - 1, 0)), math.isqrt(max(rows - 1, 0) // 3)
    grids = [(side, side), *([tuple(wanted)] if wanted else []), (3 * third, third)]
    for grid in grids[1:] + grids[:1] if of_people else grids:
        if grid[0] * grid[1] == rows - 1 > 0:
            return grid
    raise WeightsError(
        f'{name}: found {rows} rows, expected one and a square number of patches'
        + (f', the {wanted[0]} x {wanted[1]} of image_size,' if wanted else '')
        + ' or thrice a square; set image_size to what the weights were trained at'
    )


def resize_positions(
    table: np.ndarray, from_grid: tuple[int, int], to_grid: tuple[int, int], method: str
) -> np.ndarray:
    """Resample a table [1 + rows * columns, D] as torch's F.interpolate(align_corners=False), without antialiasing."""
    if tuple(from_grid) == tuple(to_grid):
        return table
    rows, columns = (_resample(a, b, method) for a, b in zip(from_grid, to_grid, strict=True))
    return _apply(rows, columns, table)


def _resample(size: int, new_size: int, method: str) -> np.ndarray:
    """Matrix [new_size, size] of one axis; places outside repeat the border."""
    place = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    left = np.floor(place).astype(int)
    if method == 'bilinear':
        taps, kernel = (0, 1), lambda x: 1 - x
    elif method == 'bicubic':
        taps, kernel = (-1, 0, 1, 2), _keys_cubic
    else:
        raise ConfigError(f"resize: found '{method}', expected 'bilinear' or 'bicubic'")
    matrix = np.zeros((new_size, size))
    for tap in taps:
        column = np.clip(left + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(new_size), column), kernel(np.abs(place - left - tap)))
    return matrix


def _keys_cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' kernel with torch's constant."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, near, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


def _apply(rows: np.ndarray, columns: np.ndarray, table: np.ndarray) -> np.ndarray:
    patches = table[1:].astype(np.float64).reshape(rows.shape[1], columns.shape[1], -1)
    patches = np.einsum('ir,jc,rcD->ijD', rows, columns, patches, optimize=True)
    return np.concatenate([table[:1], patches.reshape(-1, table.shape[1]).astype(table.dtype)])


def square_positions(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The square table that bicubic resizing turns into `table`: learned lines repeated, then corrected.

    Where the ratio of the sides is odd, repeating is enough: every new place falls on the middle of a run.
    Otherwise resizing mixes the repeated lines, and the lines that give the learned ones are solved for.
    """
    side = max(grid)
    inverses = []
    for size in grid:
        repeat = np.eye(size)[np.arange(side) * size // side]
        inverses.append(repeat @ np.linalg.inv(_resample(side, size, 'bicubic') @ repeat))
    return _apply(*inverses, table)


def resize_text_positions(table: np.ndarray, length: int, method: str) -> np.ndarray:
    """A text's position table [rows, D] for another length: cut to its first rows, or stretched as an image's side is.

    Cutting keeps the place of every word; a longer table is interpolated, as is done for captions above 77 tokens
    [field: UFineBench].
    """
    if length <= len(table):
        return table[:length]
    return (_resample(len(table), length, method) @ table.astype(np.float64)).astype(table.dtype)
