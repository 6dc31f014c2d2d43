"""A session in a store, made by a test: losses, margins and confidences of samples over epochs, and a scan of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.hub.folder import DataFolder
from onthefly.hub.store import STORE_NAME, Store
from onthefly.protocol import Session

if TYPE_CHECKING:
    from pathlib import Path

SESSION = "aaaaaaaa"
SAMPLES, EPOCHS, CLASSES, WRONG = 200, 6, 4, 11

_ROWS = f"""
INSERT INTO backwards SELECT '{SESSION}', 'baseline', 0, e, e, e, 'train', 'loader0', 1, 0, 'exact', 0, NULL,
    make_timestamptz(1700000000000000 + e * 1000000) FROM range({EPOCHS}) t(e);
INSERT INTO samples (session, run, rank, step, epoch, backward, phase, loader, position, sample, loss, valid,
    certificate, identity, time, confidence, margin)
SELECT '{SESSION}', 'baseline', 0, e, e, e, 'train', 'loader0', i, i,
    CASE WHEN i % {WRONG} = 0 THEN 4 + i / 1000 ELSE (2 - e / 4) * (1 + i / 1000) END, 1, 'exact', 'index',
    make_timestamptz(1700000000000000), CASE WHEN i % {WRONG} = 0 THEN 0.02 ELSE 0.4 + e / 12 + (i % 7) / 100 END,
    CASE WHEN i % {WRONG} = 0 THEN -3 - i / 1000 ELSE e - 0.5 + i / 1000 END
    FROM range({EPOCHS}) t(e), range({SAMPLES}) s(i) ORDER BY e, i;
"""

_SCAN = f"""
INSERT INTO samples (session, run, rank, step, epoch, backward, phase, loader, position, sample, loss, valid,
    certificate, identity, time, evaluation, target, predicted)
SELECT '{SESSION}', 'baseline', 0, {EPOCHS}, {EPOCHS}, i // 32, 'scan', 'loader0', i, i, i / 100, 1, 'exact', 'index',
    make_timestamptz(1700000000000000), 'scan_1', i % {CLASSES}, CASE WHEN i % {WRONG} = 0 THEN (i + 1) % {CLASSES}
    ELSE i % {CLASSES} END FROM range({SAMPLES}) s(i);
INSERT INTO embeddings (run, evaluation, position, sample, key, vector) SELECT 'baseline', 'scan_1', i, i, NULL,
    [cos(i % {CLASSES} * 1.57) * 9 + sin(i * 12.9), sin(i % {CLASSES} * 1.57) * 9 + sin(i * 78.2),
    sin(i * 3.1)]::FLOAT[]
    FROM range({SAMPLES}) s(i);
"""

LATER = (
    *(f"ALTER TABLE samples ADD COLUMN IF NOT EXISTS {column}"
      for column in ("evaluation VARCHAR", "target DOUBLE", "predicted DOUBLE")),
    "CREATE TABLE IF NOT EXISTS embeddings (run VARCHAR, evaluation VARCHAR, position BIGINT, sample BIGINT, "
    "key VARCHAR, vector FLOAT[])",
)  # fmt: skip
"""What tests and scans add to a store."""


ENDED = Session(
    id=SESSION, name="train.py", project="", script="train.py", argv=[], cwd="/", run="baseline", state="ended",
    since=1.7e9, by="", reason="", started=1.7e9, ended=1.7e9, step=EPOCHS, epoch=EPOCHS - 1, backwards=EPOCHS,
    samples=SAMPLES * EPOCHS, loss=1.0, step_ms=1.0, onthefly_us=10.0, world_size=1, ranks=[], notices=[], versions={},
)  # fmt: skip


def make(home: Path, *, scanned: bool = True, at: Path | None = None, **changes: Any) -> None:
    """An ended session in the data folder of ``home`` (or ``at``): every eleventh label is wrong."""
    folder = DataFolder(at or home / "data")
    store = Store(folder.of(SESSION) / STORE_NAME, SESSION)
    statements = [*_ROWS.split(";")[:-1], *([*LATER, *_SCAN.split(";")[:-1]] if scanned else [])]
    for statement in statements:
        store._database.execute(statement)
    store.close()
    folder.write(msgspec.structs.replace(ENDED, **changes))
