"""Data frames of pandas and polars, on a real server."""

import pandas as pd
import pytest
from support.clients import FORMS, Form, ask
from support.server import RunningServer

from superpos_client import Client, Invalid

forms = pytest.mark.parametrize("form", FORMS)
TEXTS = ["a gripping film", "flat", "overlong"]


@forms
def test_a_frame_of_pandas_keeps_its_index(shared_server: RunningServer, form: Form) -> None:
    data = pd.DataFrame({"id": [7, 8, 9], "body": TEXTS}, index=[3, 1, 2])
    found = ask(form, shared_server.url, lambda client: client.frame("sentiment", data, text="body"))
    data["label"] = found.label
    with Client(shared_server.url) as client:
        assert list(data["label"]) == [each.label for each in client.classify("sentiment", TEXTS)]
    assert list(found.index) == [3, 1, 2]
    assert list(found.columns) == ["label", "score", "abstained", "truncated", "version", "digest", "error"]


def test_fields_are_columns_and_a_bad_row_has_its_reason(shared_server: RunningServer) -> None:
    data = pd.DataFrame({"a": ["it rains", None], "b": ["it is wet", "it is dry"]})
    with Client(shared_server.url) as client:
        found = client.frame("pair", data, text={"premise": "a", "hypothesis": "b"}, on_error="return")
        assert found.error.isna().tolist() == [True, False]
        assert "expected a string" in found.error[1]
        assert pd.isna(found.label[1])
        with pytest.raises(Invalid) as caught:
            client.frame("pair", data, text={"premise": "a", "hypothesis": "b"})
        assert caught.value.row == 1
        with pytest.raises(KeyError, match="no column 'c'; there are 'a', 'b'"):
            client.frame("pair", data, text="c")
        with pytest.raises(TypeError, match="data is list, expected a DataFrame of pandas or polars"):
            client.frame("pair", [], text="a")


def test_an_empty_frame_has_an_empty_answer(shared_server: RunningServer) -> None:
    with Client(shared_server.url) as client:
        found = client.frame("sentiment", pd.DataFrame({"body": []}), text="body")
    assert len(found) == 0
    assert "label" in found.columns


@forms
def test_a_frame_of_polars(shared_server: RunningServer, form: Form) -> None:
    pl = pytest.importorskip("polars")
    data = pl.DataFrame({"body": TEXTS})
    found = ask(form, shared_server.url, lambda client: client.frame("sentiment", data, text="body"))
    with Client(shared_server.url) as client:
        assert found["label"].to_list() == [each.label for each in client.classify("sentiment", TEXTS)]
    assert data.with_columns(found["label"]).columns == ["body", "label"]
