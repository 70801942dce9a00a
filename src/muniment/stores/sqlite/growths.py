"""Puts what trees gain into their tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from muniment.stores.sqlite.insertions import insert, update
from muniment.stores.trees import BUNDLE_WIDTH, Growth
from muniment.tiles import tile_hashes


def store_growths(connection: sqlite3.Connection, growths: Sequence[Growth]) -> None:
    """Put in what trees gain. What is there grows by UPDATE; an upsert would trip the triggers."""
    trees: tuple[list[Any], list[Any]] = ([], [])
    tiles: tuple[list[Any], list[Any]] = ([], [])
    bundles: tuple[list[Any], list[Any]] = ([], [])
    for growth in growths:
        tree, old_size = growth.tree, growth.old_size
        tenant_id = tree.tenant_id
        trees[old_size == 0].append((tenant_id, tree.tree_size, tree.edge))
        for (level, index), hashes in growth.tiles.items():
            is_new = tile_hashes(level, index, old_size) == 0
            tiles[is_new].append((tenant_id, level, index, hashes))
        for index, (first, event_ids) in growth.bundles.items():
            is_new = index * BUNDLE_WIDTH >= old_size
            bundles[is_new].append((tenant_id, index, int(first), event_ids))
    update(
        connection,
        "UPDATE muniment_trees AS t SET tree_size = g.column2, edge = g.column3",
        "t.tenant_id = g.column1",
        trees[False],
    )
    update(
        connection,
        "UPDATE muniment_tiles AS t SET hashes = CAST(t.hashes || g.column4 AS BLOB)",
        "t.tenant_id = g.column1 AND t.level = g.column2 AND t.tile_index = g.column3",
        tiles[False],
    )
    update(
        connection,
        "UPDATE muniment_bundles AS t SET event_ids = CAST(t.event_ids || g.column4 AS BLOB)",
        "t.tenant_id = g.column1 AND t.bundle_index = g.column2",
        bundles[False],
    )
    insert(connection, "INSERT INTO muniment_trees (tenant_id, tree_size, edge)", trees[True])
    insert(
        connection,
        "INSERT INTO muniment_tiles (tenant_id, level, tile_index, hashes)",
        tiles[True],
    )
    insert(
        connection,
        "INSERT INTO muniment_bundles (tenant_id, bundle_index, first_seq, event_ids)",
        bundles[True],
    )
