"""Histories -> sparse count matrices over item ids (row and column 0 are padding and stay empty)."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from recattn.data.histories import Histories

_BLOCK_CELLS = 1 << 25  # cells of a block of columns: 256 MB of float64 if all are filled


def user_items(histories: Histories) -> sparse.csr_array:
    """(users, num_items + 1) float64: 1 where the user has the item, however often.

    >>> user_items(Histories(np.array([2, 2, 1], np.int32), np.array([0, 2, 3]), num_items=2)).toarray().tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    users = histories.owners
    shape = (histories.num_users, histories.num_items + 1)
    matrix: sparse.csr_array = sparse.csr_array((np.ones(len(users)), (users, histories.items)), shape=shape)
    matrix.data[:] = 1.0  # a repeat was summed to 2
    return matrix


def gram_blocks(matrix: sparse.csr_array) -> Iterator[tuple[slice, sparse.csc_array]]:
    """``matrix.T @ matrix``, some columns at a time: pairs (columns, block (items, columns))."""
    size = matrix.shape[1]
    width = max(1, _BLOCK_CELLS // size)
    transposed = matrix.T.tocsr()
    for start in range(0, size, width):
        columns = slice(start, min(start + width, size))
        # A block of rows, turned: a product with a block of columns would go through all of the transposed each time.
        yield columns, sparse.csc_array((transposed[columns] @ matrix).T)
