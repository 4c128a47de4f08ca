"""Upload as a multipart message: its parts, their bytes, and the HTTP request around them."""

from dataclasses import dataclass, field

from verification.upload_fuzz.weights import Files

BOUNDARY = b"superpos-fuzz"


@dataclass(slots=True)
class Part:
    """One part of a multipart body: its header lines without line ends, and its content."""

    headers: list[bytes]
    content: bytes


@dataclass(slots=True)
class Message:
    """An upload's body and HTTP request, which mutations change in place."""

    parts: list[Part]
    boundary: bytes = BOUNDARY
    line_end: bytes = b"\r\n"
    head: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    length: bytes | None = None
    """Value of Content-Length; None for the correct one."""
    chunks: bool = False
    is_http: bool = True
    """Whether the request is complete; a server may close the connection of an incomplete one without a response."""


def message_of(files: Files) -> Message:
    """Return the message that a well-behaved client sends for an upload."""
    parts = [file_part(name.encode(errors="replace"), data) for name, data in files.items()]
    content_type = b"multipart/form-data; boundary=" + BOUNDARY
    return Message(parts, head={b"Content-Type": content_type})


def file_part(filename: bytes, content: bytes, *, name: bytes = b"files") -> Part:
    disposition = b'Content-Disposition: form-data; name="%s"; filename="%s"' % (name, filename)
    return Part([disposition, b"Content-Type: application/octet-stream"], content)


def field_part(name: bytes, content: bytes) -> Part:
    return Part([b'Content-Disposition: form-data; name="%s"' % name], content)


def join(message: Message) -> None:
    """Build the body from the parts."""
    end = message.line_end
    pieces = []
    for part in message.parts:
        pieces += [b"--" + message.boundary + end, *(line + end for line in part.headers), end, part.content, end]
    message.body = b"".join([*pieces, b"--" + message.boundary + b"--" + end])


def request_of(message: Message, target: bytes) -> bytes:
    """Return the bytes to send; the connection closes after the response."""
    body, lines = message.body, dict(message.head)
    if message.chunks:
        lines[b"Transfer-Encoding"] = b"chunked"
        size = max(len(body) // 3, 1)
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    if message.length is not None or not message.chunks:
        lines[b"Content-Length"] = b"%d" % len(body) if message.length is None else message.length
    head = [b"POST " + target + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
    head += [name + b": " + value for name, value in lines.items()]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
