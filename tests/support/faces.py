"""What tests of the compatibility faces build with: rows as the tensors of an Open Inference request."""


def tensors(rows: list[dict[str, str]], **of_each: object) -> list[dict[str, object]]:
    """One tensor a field, with these further members each."""
    return [
        {"name": name, "shape": [len(rows)], "datatype": "BYTES", "data": [row[name] for row in rows], **of_each}
        for name in rows[0]
    ]
