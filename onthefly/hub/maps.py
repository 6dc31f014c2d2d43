"""Embeddings of samples in two dimensions, and clusters of them: PCA and k-means in NumPy, the same every time.

They are computed in a thread of their own, so that queries do not wait, and the newest are kept.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onthefly.errors import Refused, UsageError
from onthefly.protocol import Cluster, SampleMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

    from onthefly.hub.columns import Array
    from onthefly.hub.keeper import Keeper
    from onthefly.hub.registry import LiveSession
    from onthefly.hub.store import Store

METHODS = ("pca", "umap")
MAX_POINTS = 50_000
DEFAULT_POINTS = 20_000
KEPT = 4
ROUNDS = 50
SEED = 0

_POINTS = """
SELECT e.sample, e.key, e.vector, s.loss, {target} AS target, {predicted} AS predicted,
    coalesce(s.loader, '') AS loader
FROM (
    SELECT * FROM embeddings WHERE evaluation = $evaluation AND run = $run
    QUALIFY (row_number() OVER (ORDER BY position) - 1) % $every = 0
) e LEFT JOIN (SELECT * FROM samples WHERE evaluation = $evaluation) s
    ON e.position = s.position AND e.sample IS NOT DISTINCT FROM s.sample
ORDER BY e.position"""


class Points(NamedTuple):
    """Embeddings with what is known of their samples: columns of one length."""

    run: str
    evaluation: str
    evaluations: list[str]
    total: int
    columns: Mapping[str, Array]
    vectors: Array
    """float32 [n, d]"""


class Maps:
    """Those of all sessions; on the event loop."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._thread = ThreadPoolExecutor(1, "onthefly-maps")
        self._kept: dict[tuple[Store, str, str, str, int, int, int], SampleMap] = {}

    async def make(
        self, live: LiveSession, run: str, evaluation: str, method: str, clusters: int, points: int
    ) -> SampleMap:  # fmt: skip
        """The map of an evaluation; of the newest that has embeddings, if none is named."""
        store = await self._keeper.store(live)
        found = await self._keeper.read(live, lambda cursor: read(cursor, run, evaluation, points))
        key = store, run, found.evaluation, method, clusters, points, found.total
        kept = self._kept.get(key)
        if kept is None:
            loop = asyncio.get_running_loop()
            kept = await loop.run_in_executor(self._thread, lambda: draw(found, live.info.id, method, clusters))
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = kept
        return kept

    async def clusters(self, live: LiveSession, run: str, clusters: int) -> Mapping[str, Array]:
        """Columns ``sample`` (-1: it has a key), ``key``, ``home`` and ``cluster`` of the newest map."""
        found = await self.make(live, run, "", "pca", clusters, DEFAULT_POINTS)
        return {
            "sample": np.array([-1 if sample is None else sample for sample in found.sample], np.int64),
            "key": np.array(found.key, dtype=object), "cluster": np.array(found.cluster),
            "home": np.array([found.loader] * len(found.sample), dtype=object),
        }  # fmt: skip


def read(cursor: duckdb.DuckDBPyConnection, run: str, evaluation: str, points: int) -> Points:
    """The embeddings; Refused, with what makes them, where there are none."""
    known = cursor.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'embeddings'").fetchone()
    rows = [] if known is None else cursor.execute(
        "SELECT evaluation FROM embeddings WHERE run = $run GROUP BY 1 ORDER BY min(rowid)", {"run": run}
    ).fetchall()  # fmt: skip
    names = [name for (name,) in rows]
    if not names or (evaluation and evaluation not in names):
        of = f"of {evaluation} " if evaluation and names else ""
        raise Refused(f"there are no embeddings {of}in run {run}", "a scan with embeddings makes them, at a pause")
    evaluation = evaluation or names[-1]
    given: dict[str, Any] = {"evaluation": evaluation, "run": run}
    total = int(cursor.execute(
        "SELECT count(*) FROM embeddings WHERE evaluation = $evaluation AND run = $run", given
    ).fetchall()[0][0])  # fmt: skip
    there = {column[0] for column in cursor.execute("SELECT * FROM samples LIMIT 0").description or ()}
    query = _POINTS.format(
        **{name: f"s.{name}" if name in there else "NULL::DOUBLE" for name in ("target", "predicted")}
    )
    found = cursor.execute(query, {**given, "every": -(-total // points)}).fetchnumpy()
    vectors = np.array([list(vector) for vector in found.pop("vector")], np.float32)
    return Points(run, evaluation, names, total, found, np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0))


def draw(points: Points, session: str, method: str, clusters: int) -> SampleMap:
    """Two dimensions and clusters."""
    if method == "umap":
        flat, explained = umap(points.vectors), None
    else:
        flat, explained = pca(points.vectors)
    columns = {name: _plain(column) for name, column in points.columns.items()}
    number, groups = ranked(kmeans(points.vectors, clusters), np.array(columns["loss"], dtype=np.float64))
    return SampleMap(
        session=session, run=points.run, evaluation=points.evaluation, method=method, total=points.total,
        loader=next((loader for loader in columns["loader"] if loader), ""), explained=explained,
        evaluations=points.evaluations, sample=columns["sample"], key=columns["key"], x=flat[:, 0].tolist(),
        y=flat[:, 1].tolist(), loss=columns["loss"], target=columns["target"], predicted=columns["predicted"],
        cluster=number.tolist(), clusters=groups,
    )  # fmt: skip


def pca(vectors: Array) -> tuple[Array, float]:
    """The two directions that vary most (float64 [n, 2]), and their share of the variance.

    By the eigenvectors of the covariance. Each axis points to where its largest weight is above 0: an eigenvector has
    no sign of its own, and the map would turn over.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.hstack([axes, np.zeros((len(axes), 2 - axes.shape[1]))])
    axes = axes * np.where(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0) < 0, -1.0, 1.0)
    whole = float(np.maximum(values, 0).sum())
    return centred @ axes, float(np.maximum(values[::-1][:2], 0).sum()) / whole if whole else 0.0


def umap(vectors: Array) -> Array:
    """UMAP (McInnes et al. 2018), where it is installed."""
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("UMAP is not installed where the hub runs",
                         "pip install 'onthefly-ai[explorer]'; PCA needs nothing") from error  # fmt: skip
    made: Any = UMAP(random_state=SEED, n_jobs=1)
    return np.asarray(made.fit_transform(vectors), np.float64)


def kmeans(vectors: Array, number: int) -> Array:
    """The cluster of each vector (Lloyd's algorithm, begun as k-means++ does: Arthur and Vassilvitskii 2007)."""
    chance = np.random.default_rng(SEED)
    data = vectors.astype(np.float64)
    number = min(number, len(np.unique(data, axis=0)))
    squares = (data * data).sum(1)
    centres = data[chance.integers(len(data))][None]
    while len(centres) < number:
        nearest = _distances(data, squares, centres).min(1)
        centres = np.vstack([centres, data[chance.choice(len(data), p=nearest / nearest.sum())]])
    labels = np.full(len(data), -1)
    for _ in range(ROUNDS):
        new = _distances(data, squares, centres).argmin(1)
        if (new == labels).all():
            break
        labels = new
        counts = np.bincount(labels, minlength=number)
        sums = np.stack([np.bincount(labels, column, minlength=number) for column in data.T], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return labels


def _distances(data: Array, squares: Array, centres: Array) -> Array:
    """Squared, float64 [n, k]."""
    return np.maximum(squares[:, None] - 2 * data @ centres.T + (centres * centres).sum(1), 0.0)


def ranked(labels: Array, loss: Array) -> tuple[Array, list[Cluster]]:
    """Clusters numbered anew, the highest mean loss first; those without a finite loss last."""
    finite = np.isfinite(loss)
    size = int(labels.max()) + 1 if len(labels) else 0
    counts = np.bincount(labels, minlength=size)
    known = np.bincount(labels[finite], minlength=size)
    means = np.bincount(labels[finite], loss[finite], minlength=size) / np.where(known > 0, known, np.nan)
    order = [place for place in np.argsort(-np.where(np.isnan(means), -np.inf, means), kind="stable") if counts[place]]
    number = np.zeros(size, np.int64)
    number[order] = np.arange(len(order))
    groups = [Cluster(number=at, count=int(counts[place]), loss=None if np.isnan(means[place]) else float(means[place]))
              for at, place in enumerate(order)]  # fmt: skip
    return number[labels], groups


def _plain(column: Any) -> list[Any]:
    """Values with None for what is not known or not finite."""
    values: list[Any] = np.ma.filled(column.astype(object), None).tolist()
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
