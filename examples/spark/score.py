r"""Score the rows of a table with Spark: an engine per Python worker, and adapters that travel as values.

Needs Java, and `pip install pyspark superpos` on the driver and on every executor:

    spark-submit --conf spark.task.cpus=2 --conf spark.executorEnv.OMP_NUM_THREADS=2 \
        examples/spark/score.py sst2 rows.csv scored --text sentence --registry registry.sqlite
"""

import argparse
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from adapters.registry.opening import open_registry
from scoring.worker import PortableTasks, engine_of_process

_COLUMNS = ("label", "score")


def score(data: DataFrame, ref: str, *, text: str, registry: str, threads: int) -> DataFrame:
    """Add the columns `label` and `score` to a table, and `error`, the reason for a row without them.

    Args:
        data: the table; give it at least as many partitions as the executors have tasks
        ref: the task
        text: the column of its texts
        registry: where the driver reads the adapter, which it broadcasts; the backbone is loaded by each worker
        threads: of a worker, as `spark.task.cpus`
    """
    tasks = PortableTasks.read(open_registry(registry), [ref], text=text)
    (task,) = tasks.tasks
    pinned = f"{task.task}@{task.version}"  # workers have versions and no aliases
    packed = data.sparkSession.sparkContext.broadcast(pickle.dumps((tasks, {"threads": threads})))

    def scored(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        client = engine_of_process(packed.value).client  # Spark uses a Python worker again for later partitions
        for batch in batches:
            if len(batch):
                answers = client.frame(pinned, batch, text=text, on_error="return")
                yield batch.assign(**{name: answers[name] for name in (*_COLUMNS, "error")})

    return data.mapInPandas(scored, f"{_ddl(data)}, label string, score double, error string")


def _ddl(data: DataFrame) -> str:
    """Return the columns of a table as Spark's schema text."""
    return ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in data.schema.fields)


def main() -> None:
    """Score a CSV file into a folder of CSV files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", help="the task")
    parser.add_argument("rows", type=Path, help="CSV file with a header")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--text", required=True, help="column of the texts")
    parser.add_argument("--registry", required=True, help="SQLite file or Redis URL of the adapters")
    parser.add_argument("--partitions", type=int, default=2 * (os.cpu_count() or 1))
    given = parser.parse_args()
    with SparkSession.builder.appName("superpos").getOrCreate() as spark:
        # a request has at most 256 rows; a longer batch only takes memory
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
        threads = int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))
        rows = spark.read.csv(str(given.rows), header=True, escape='"', multiLine=True).repartition(given.partitions)
        result = score(rows, given.ref, text=given.text, registry=given.registry, threads=threads)
        result.write.csv(str(given.out), header=True, escape='"', mode="errorifexists")


if __name__ == "__main__":
    main()
