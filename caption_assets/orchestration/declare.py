"""How an asset of the graph is declared: partition, policy, owner, schema and description, the same way for all six."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from caption_assets.engines.devices import gpu_pool
from caption_assets.ledger.schema import TABLES, Column
from caption_assets.orchestration.partitions import video_batches
from caption_assets.settings.recipes import CODE_VERSIONS, Kind

GROUP = "captions"
OWNERS = ["team:captions"]
MAX_BATCHES_PER_RUN = 100
"""A backfill puts so many batches into one run: the model is loaded once for all of them."""


def video_batch_asset(
    *,
    kinds: set[str],
    table: str | None,
    code_kind: Kind | None,
    deps: Sequence[Any] = (),
    columns: Sequence[Column] = (),
    code_version: str | None = None,
    uses_engine: bool = False,
) -> Callable[[Callable[..., None]], dg.AssetsDefinition]:
    """Declare an asset that is partitioned by video batch.

    table names the ledger table whose columns the UI shows, `columns` gives them where there is none; code_kind is the
    recipe kind whose hand-bumped version the UI shows. uses_engine: on a GPU, one run with such an asset at a time.
    """
    shown = TABLES[table].columns if table else tuple(columns)
    metadata: dict[str, Any] = {"dagster/column_schema": column_schema(shown)}
    if table:
        metadata["dagster/table_name"] = f"ledger.{table}"

    def declare(function: Callable[..., None]) -> dg.AssetsDefinition:
        with warnings.catch_warnings():
            # Backfill policies have been in beta for years and are what lets one run load a model once.
            warnings.simplefilter("ignore", dg.BetaWarning)
            return dg.asset(
                partitions_def=video_batches,
                backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=MAX_BATCHES_PER_RUN),
                group_name=GROUP,
                owners=OWNERS,
                kinds=kinds,
                deps=list(deps),
                code_version=CODE_VERSIONS[code_kind] if code_kind else code_version,
                metadata=metadata,
                pool=gpu_pool() if uses_engine else None,
                description=inspect.getdoc(function),
            )(function)

    return declare


def column_schema(columns: Sequence[Column]) -> dg.TableSchema:
    """Return the schema that the UI shows: names, SQL types, meanings."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type,
                description=column.meaning,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in columns
        ]
    )
