"""Samples that a selection means, over HTTP; suspected label errors; tags, which stay."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from onthefly.errors import UsageError
from onthefly.hub.choice import TERMS, parse
from tests.hub.made import EPOCHS, SAMPLES, SESSION, WRONG, make
from tests.hub.running import Running, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BAD = list(range(0, SAMPLES, WRONG))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("explore")
    make(home)
    with running_hub(home, 47990) as running:
        yield running


def post(hub: Running, path: str, method: str = "POST", **body: Any) -> tuple[int, Any]:
    """Status and answer."""
    status, _, answer = hub.request(method, f"/api/v1/sessions/{SESSION}/{path}", json.dumps(body))
    return status, json.loads(answer)


def meant(hub: Running, select: str, **more: Any) -> list[int]:
    """The samples of that selection, ascending."""
    status, answer = post(hub, "selection", select=select, **more)
    assert status == 200, answer
    assert answer["count"] == len(answer["rows"])
    return sorted(row["sample"] for row in answer["rows"])


EVERY = set(range(SAMPLES))


@pytest.mark.parametrize(("select", "wanted"), [
    ("", EVERY), ("loss=3.9:", set(BAD)), ("loss=:3.9", EVERY - set(BAD)), ("worst=3", {198, 187, 176}),
    ("sample=7,10:12", {7, 10, 11, 12}), ("!sample=10:", set(range(10))), ("class=3", set(range(3, SAMPLES, 4))),
    ("class=1 sample=:9", {1, 5, 9}), ("!class=0:2", set(range(3, SAMPLES, 4))),
    ("region=suspect", set(BAD)), ("!region=suspect worst=2", {199, 197}), ("region=hard", set(BAD)),
    ("quantile=0.95:", set(BAD[-10:])),
    ("predicted=1 sample=0", {0}), ("predicted=0 sample=0", set()), ("key=a", set()), ("tag=nothing", set()),
])  # fmt: skip
def test_terms_mean_what_they_say(hub: Running, select: str, wanted: set[int]) -> None:
    assert set(meant(hub, select)) == wanted


def test_losses_of_one_epoch_are_another_thing_than_the_newest(hub: Running) -> None:
    first = {i for i in EVERY - set(BAD) if 2 * (1 + i / 1000) >= 2.3}
    assert set(meant(hub, "loss=2.3:3.9", epoch=0)) == first
    assert set(meant(hub, "loss=2.3:3.9")) == set()
    assert meant(hub, "quantile=0.5: worst=5", epoch=0) == sorted(BAD[-5:])
    assert set(meant(hub, "region=suspect", epoch=3)) == set(BAD)


def test_a_scan_has_losses_of_its_own(hub: Running) -> None:
    assert meant(hub, "loss=1.5:1.52", evaluation="scan_1") == [150, 151, 152]
    assert meant(hub, "loss=1.5:1.52", phase="scan") == [150, 151, 152]
    assert meant(hub, "predicted=1 class=0", phase="scan") == [0, 44, 88, 132, 176]
    assert meant(hub, "worst=2 class=0", phase="scan") == [192, 196]
    status, answer = post(hub, "selection", evaluation="scan_9")
    assert (status, answer["error"]["code"]) == (409, "refused")


def test_a_cluster_is_selected_as_the_map_has_it(hub: Running) -> None:
    found = hub.json(f"sessions/{SESSION}/map?clusters=4")
    assert [group["count"] for group in found["clusters"]] == [50] * 4
    losses = [group["loss"] for group in found["clusters"]]
    assert losses == sorted(losses, reverse=True)
    assert found["explained"] > 0.9
    worst = [sample for sample, number in zip(found["sample"], found["cluster"]) if number == 0]
    assert len({sample % 4 for sample in worst}) == 1, "one class each: they lie far from each other"
    assert meant(hub, "cluster=0", clusters=4) == sorted(worst)
    assert hub.json(f"sessions/{SESSION}/map?clusters=4")["x"] == found["x"]
    assert len(hub.json(f"sessions/{SESSION}/map?points=40")["sample"]) == 40
    status, _, body = hub.request(path=f"/api/v1/sessions/{SESSION}/map?method=umap")
    assert status == 200 or "explorer" in json.loads(body)["error"]["remedy"]


@pytest.mark.parametrize("text", [
    "loss", "loss=", "size=3", "loss=a", "loss=3:2", "worst=0.5", "worst=1,2", "loss=1 loss=2", "region=nice",
    "quantile=2", "!worst=3", "'loss=1", "worst=-3", "loss=nan", "loss=inf:", "sample=1.5", "sample=-2", "sample=1e400",
    "cluster=a", "worst=1e30",
])  # fmt: skip
def test_what_is_no_selection_is_said_with_an_example(hub: Running, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert any(example in caught.value.remedy for example in TERMS.values()) or "one of" in caught.value.remedy
    assert post(hub, "selection", select=text)[0] == 400


def test_the_longest_selection_that_is_documented_is_read(hub: Running) -> None:
    text = quote("\N{FROG FACE}" * 1000)
    status, _, body = hub.request(path=f"/api/v1/sessions/{SESSION}/selection?select={text}")
    assert status == 400
    assert json.loads(body)["error"]["code"] == "usage"


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_indices_and_rows_become_files(hub: Running, form: str, tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / f"file.{form}"
    for what in ("indices", "rows"):
        status, answer = post(hub, "selection", select="region=suspect", what=what, format=form)
        assert status == 200, answer
        path.write_bytes(base64.b64decode(answer["file"]))
        if (form, what) == ("json", "indices"):
            assert json.loads(path.read_text()) == BAD
            continue
        found = duckdb.execute(f"SELECT sample FROM '{path}'").fetchall()
        assert sorted(sample for (sample,) in found) == BAD
    status, answer = post(hub, "selection", select="loss=99:", what="indices", format=form)
    assert status == 409
    assert "no sample is meant by 'loss=99:'" in answer["error"]["message"]


def test_an_empty_selection_says_of_what(hub: Running) -> None:
    assert post(hub, "selection", select="loss=99:", epoch=2)[1]["says"] == (
        "no sample is meant by 'loss=99:': train of run baseline, epoch 2"
    )
    assert "no records" in post(hub, "selection", phase="valid")[1]["says"]


def test_suspects_come_with_evidence_and_cleanlabs_columns(hub: Running) -> None:
    rows = hub.json(f"sessions/{SESSION}/suspects?limit=30")
    assert [row["sample"] for row in rows[: len(BAD)]] == sorted(BAD, reverse=True)
    assert [row["is_label_issue"] for row in rows] == [True] * len(BAD) + [False] * (30 - len(BAD))
    first = rows[0]
    assert (first["given_label"], first["predicted_label"]) == (198 % 4, 199 % 4)
    assert first["evidence"] == ("class 3 led by 3.20 on average; its class was given 2 %; never right in 6 times")
    assert len(hub.json(f"sessions/{SESSION}/suspects")) == SAMPLES
    history = hub.json(f"sessions/{SESSION}/history?sample=198")
    assert history["epoch"] == list(range(EPOCHS))
    assert history["loss"] == pytest.approx([4.198] * EPOCHS)
    assert hub.request(path=f"/api/v1/sessions/{SESSION}/history?sample=1&key=a")[0] == 400


def test_tags_are_put_on_taken_off_selected_and_survive_the_hub(tmp_path: Path) -> None:
    make(tmp_path)
    with running_hub(tmp_path, 47991) as hub:
        assert post(hub, "tags", tag="label:wrong", samples=[3, 4, 4], by="ana")[1]["changed"] == 2
        assert post(hub, "tags", tag="label:fine", samples=[4])[1]["counts"] == {"label:fine": 1, "label:wrong": 1}
        assert post(hub, "tags", tag="blurred", samples=[4, 5])[1]["changed"] == 2
        assert post(hub, "tags", "DELETE", tag="blurred", samples=[5, 6])[1]["changed"] == 1
        assert meant(hub, "tag=label:wrong") == [3]
        assert meant(hub, "tag=label:fine", epoch=1) == [4]
        assert set(meant(hub, "!tag=label:wrong,label:fine")) == EVERY - {3, 4}
        assert meant(hub, "tag=blurred", phase="scan") == [4]
        row = post(hub, "selection", select="sample=4")[1]["rows"][0]
        assert row["tags"] == "blurred label:fine"
        rows = {row["sample"]: row for row in hub.json(f"sessions/{SESSION}/suspects")}
        assert (rows[3]["verdict"], rows[3]["is_label_issue"]) == ("wrong", True)
        status, answer = post(hub, "tags", tag="x", samples=[SAMPLES])
        assert status == 409
        assert "no record" in answer["error"]["message"]
        assert post(hub, "tags", tag="a b", samples=[1])[0] == 400
        assert post(hub, "tags", tag="x")[0] == 400
    with running_hub(tmp_path, 47991) as hub:
        found = hub.json(f"sessions/{SESSION}/tags")
        assert [(one["sample"], one["tag"], one["by"]) for one in found["tags"]] == [
            (3, "label:wrong", "ana"), (4, "label:fine", ""), (4, "blurred", ""),
        ]  # fmt: skip


def test_a_session_without_scans_says_what_it_lacks(tmp_path: Path) -> None:
    make(tmp_path, scanned=False)
    with running_hub(tmp_path, 47992) as hub:
        assert meant(hub, "region=suspect") == BAD
        for select, word in {"class=1": "classes", "predicted=1": "predictions", "cluster=1": "embeddings"}.items():
            status, answer = post(hub, "selection", select=select)
            assert (status, word in answer["error"]["message"]) == (409, True), answer
