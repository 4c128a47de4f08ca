"""JSON that no two readers read differently, wherever the project takes JSON from others."""

import pytest

from adapters import InvalidAdapter
from adapters.files import CONFIG, MANIFEST, bundled_adapters, from_files
from adapters.strict_json import AmbiguousJson, loads


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' 2 times"),
        ('[{"b": {"c": 1, "\\u0063": 2}}]', "the key 'c' 2 times"),
        ('{"": 1, "": 2, "": 3}', "the key '' 3 times"),
        ("[NaN]", "NaN"),
        ('{"x": -Infinity}', "-Infinity"),
    ],
)
def test_json_with_two_readings_is_refused(text: str, mention: str) -> None:
    with pytest.raises(AmbiguousJson) as refused:
        loads(text)
    assert mention in str(refused.value)


def test_other_json_is_read() -> None:
    assert loads(b'{"a": [1, 2.5, null, true, {"a": "\\u00e9"}]}') == {"a": [1, 2.5, None, True, {"a": "é"}]}


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
def test_the_files_of_an_adapter_repeat_no_key(name: str) -> None:
    files = bundled_adapters()["sst2"]
    key = b'"peft_type"' if name == CONFIG else b'"schema_version"'
    assert key in files[name]
    repeated = files[name].replace(b"{", b"{" + key + b': "first",', 1)
    with pytest.raises(InvalidAdapter, match=r"the key '\w+' 2 times, expected each key once") as refused:
        from_files({**files, name: repeated})
    assert refused.value.check == name
