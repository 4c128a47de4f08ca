"""Mutations of an upload in transit: parts of its multipart body, the body's bytes, and the HTTP request."""

import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from random import Random

from verification.upload_fuzz.message import BOUNDARY, Message, Part, field_part, file_part, join

MAX_UPLOAD_BYTES = 8 << 20

PartMutation = Callable[[Random, Message], None]


def twice_or_never(draw: Random, message: Message) -> None:
    parts = message.parts
    part = draw.choice(parts)
    message.parts = draw.choice(
        ([*parts, part], [other for other in parts if other is not part], draw.sample(parts, len(parts)), [])
    )


def rename_the_field(draw: Random, message: Message) -> None:
    part = draw.choice(message.parts)
    name = draw.choice((b"file", b"files[]", b"", b"alias", b"sha256", b"files\0", b"FILES", b"f" * 9_000))
    part.headers[0] = part.headers[0].replace(b'name="files"', b'name="' + name + b'"')


def rename_the_file(draw: Random, message: Message) -> None:
    names = (
        b"../superpos.json",
        b"/etc/passwd",
        b"C:\\x\\superpos.json",
        b"superpos.json\0.png",
        b"superpos.json ",
        b"SUPERPOS.JSON",
        b"",
        b'\\"',
        b'"; filename="superpos.json',
        b"s\xcc\xb6.json",
        b"\xff\xfe",
        b"%2e%2e%2fsuperpos.json",
        b"n" * 20_000,
        b".",
        b"con",
        b"superpos.json\r\n\r\nx",
    )
    part = draw.choice(message.parts)
    disposition = b'Content-Disposition: form-data; name="files"; filename'
    name = draw.choice(names)
    part.headers[0] = draw.choice(
        (disposition + b'="' + name + b'"', disposition + b"*=UTF-8''" + name, disposition + b"=" + name, disposition)
    )


def spoil_a_parts_headers(draw: Random, message: Message) -> None:
    part = draw.choice(message.parts)
    part.headers = draw.choice(
        (
            [],
            part.headers[1:],
            [*part.headers, part.headers[0]],
            [*part.headers, b"X: " + b"y" * draw.choice((100, 8_000, 200_000))],
            [*part.headers, *[b"X-%d: y" % number for number in range(draw.choice((10, 3_000)))]],
            [*part.headers, b"Content-Transfer-Encoding: base64"],
            [*part.headers, b"Content-Encoding: gzip"],
            [*part.headers, b"no colon"],
            [*part.headers, b" folded"],
            [*part.headers, b"N\xc3\xa4me: \xff"],
            [b"Content-Disposition: attachment; name=files", *part.headers[1:]],
            [part.headers[0] + b"; charset=nonsense", b"Content-Type: text/plain; charset=utf-7"],
            [part.headers[0], b"Content-Type: multipart/mixed; boundary=inner"],
            [header.replace(b": ", b":\t") for header in part.headers],
            [header.upper() for header in part.headers],
        )
    )


def add_fields(draw: Random, message: Message) -> None:
    """Add form fields: valid and invalid aliases, an invalid digest, unknown fields."""
    digest = hashlib.sha256(message.parts[0].content).hexdigest().encode() if message.parts else b""
    values = (
        b"",
        b"canary",
        b"production",
        b"12",
        b"A B",
        b"../x",
        b"\xff",
        b"\xed\xa0\x80",
        b"a" * 65,
        b"x" * 2_000_000,
    )
    digests = (digest, b"sha256:" + digest, b"0" * 64, b"", b"\0", digest[:-1], digest.upper(), b"z" * 100_000)
    fields = draw.choice(
        (
            [field_part(b"alias", draw.choice(values)) for _ in range(draw.choice((1, 2, 40)))],
            [field_part(b"sha256", draw.choice(digests)) for _ in range(draw.choice((1, 1, 2)))],
            [field_part(b"f%d" % number, b"v") for number in range(draw.choice((3, 999, 1_500)))],
            [file_part(b"superpos.json", b"{}", name=b"alias"), file_part(b"x", b"y", name=b"sha256")],
            [file_part(b"f%d" % number, b"v") for number in range(draw.choice((3, 997, 1_500)))],
        )
    )
    message.parts = draw.choice((message.parts + fields, fields + message.parts))


def nest(draw: Random, message: Message) -> None:
    """Nest the whole body in a part of another, or put the boundary into a content."""
    if draw.random() < 0.5:
        join(message)
        message.parts = [
            Part([b"Content-Disposition: form-data; name=files", message.head[b"Content-Type"]], message.body)
        ]
    elif message.parts:
        part = draw.choice(message.parts)
        inside = draw.choice((b"\r\n--" + BOUNDARY, b"--" + BOUNDARY + b"--\r\n", b"\r\n--" + BOUNDARY[:-1]))
        part.content = part.content[:20] + inside + part.content[20:]


def change_the_boundary(draw: Random, message: Message) -> None:
    message.boundary = draw.choice((b"", b"other", b"x" * 300, b"a b", b"\xff\xfe", BOUNDARY, b"--", b'"', b"-" * 70))
    if draw.random() < 0.5:
        message.head[b"Content-Type"] = b"multipart/form-data; boundary=" + message.boundary


PART_MUTATIONS: tuple[PartMutation, ...] = (
    twice_or_never,
    rename_the_field,
    rename_the_file,
    spoil_a_parts_headers,
    add_fields,
    nest,
    change_the_boundary,
)


def spoil_the_body(draw: Random, message: Message) -> None:
    body = message.body
    place = draw.randrange(len(body) + 1)
    bodies = (
        body[:place],
        body[:-6],
        body + body,
        body + draw.randbytes(100),
        draw.randbytes(100) + body,
        b"\r\n" * 500 + body,
        body.replace(b"\r\n", b"\n"),
        body[:place] + bytes([draw.randrange(256)]) + body[place + 1 :],
        b"",
        b"--" + BOUNDARY,
        (b"--" + BOUNDARY + b"\r\n\r\n\r\n") * draw.choice((10, 20_000)),
        b"\r\n--" + BOUNDARY[:-1] + b"\r\n" * 30_000,
        draw.randbytes(1_000),
    )
    message.body = draw.choice(bodies)


def change_the_content_type(draw: Random, message: Message) -> None:
    message.head[b"Content-Type"] = draw.choice(
        (
            b"application/json",
            b"",
            b"multipart/form-data",
            b"multipart/form-data; boundary=",
            b'multipart/form-data; boundary="' + BOUNDARY + b'"',
            b"multipart/form-data; boundary=" + b"b" * 10_000,
            b"multipart/form-data; boundary=\xff\xfe",
            b"multipart/mixed; boundary=" + BOUNDARY,
            b"MULTIPART/FORM-DATA; BOUNDARY=" + BOUNDARY,
            b"multipart/form-data; charset=nonsense; boundary=" + BOUNDARY,
            b"multipart/form-data; charset=utf-16; boundary=" + BOUNDARY,
            b"application/x-www-form-urlencoded",
            b"multipart/form-data;" + b";" * 5_000 + b"boundary=" + BOUNDARY,
            b"multipart/form-data; boundary*=UTF-8''" + BOUNDARY,
            b"multipart/form-data; boundary*0=super; boundary*1=pos-fuzz",
        )
    )


def spoil_the_length(draw: Random, message: Message) -> None:
    true = len(message.body)
    lengths = (0, 1, true - 1, true + 1, 2 * true, 10**18, -1)
    message.length = draw.choice((*(b"%d" % number for number in lengths), b"", b"x", b"1e3", b"5, 5", b"9" * 400))
    message.is_http = False


def send_in_chunks(draw: Random, message: Message) -> None:
    message.chunks = True
    if draw.random() < 0.3:
        spoil_the_length(draw, message)


@cache
def _bomb() -> bytes:
    """Send 60 kB that decompress to 60 MB."""
    disposition = b'Content-Disposition: form-data; name="files"; filename="superpos.json"'
    return gzip.compress(b"--" + BOUNDARY + b"\r\n" + disposition + b"\r\n\r\n" + bytes(60_000_000), 9)


def compress(draw: Random, message: Message) -> None:
    packed = gzip.compress(message.body, 1, mtime=0)
    codings = (b"gzip", b"x-gzip", b"br", b"deflate", b"gzip, gzip", b"identity", b"nonsense")
    message.head[b"Content-Encoding"] = codings[0] if draw.random() < 0.7 else draw.choice(codings)
    members = gzip.compress(b"") * 3_000
    bodies = (packed, packed, packed[:-9], packed + b"junk", b"\x1f\x8b" + draw.randbytes(99), packed + packed)
    message.body = draw.choice((*bodies, message.body, _bomb(), members + packed))


def fill_up(draw: Random, message: Message) -> None:
    """Add bytes before or after the parts, up to about the upload limit."""
    missing = MAX_UPLOAD_BYTES - len(message.body) + draw.choice((-1, 0, 1, 60_000))
    padding = bytes(max(missing, 0))
    message.body = message.body + padding if draw.random() < 0.5 else padding + b"\r\n" + message.body


def add_http_headers(draw: Random, message: Message) -> None:
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"Expect", b"100-continue"),
        (b"X-Long", b"y" * draw.choice((1_000, 30_000, 200_000))),
        (b"X-Request-ID", draw.choice((b"x" * 500, b"\xff", b"<script>", b""))),
        (b"traceparent", draw.choice((b"00-" + b"0" * 32, b"\xff", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"))),
        (b"If-Match", b'"' + b"x" * 5_000),
        (b"Accept-Encoding", draw.choice((b"gzip", b"br;q=9", b"*;q=nan"))),
        (b"Transfer-Encoding", draw.choice((b"gzip", b"identity", b"chunked, chunked"))),
        (b"Bad Name", b"x"),
        (b"Upgrade", b"websocket"),
    )
    name, value = draw.choice(headers)
    message.head[name] = value
    message.is_http = message.is_http and name not in {b"Transfer-Encoding", b"Bad Name", b"X-Long"}


WIRE_MUTATIONS: tuple[PartMutation, ...] = (
    spoil_the_body,
    spoil_the_body,
    change_the_content_type,
    spoil_the_length,
    send_in_chunks,
    compress,
    fill_up,
    add_http_headers,
)
