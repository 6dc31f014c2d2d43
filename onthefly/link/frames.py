"""Frames between agent and hub: ``u32 length (little-endian) + MessagePack [seq, kind, payload]``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

from onthefly.protocol import AGENT_KINDS, HUB_KINDS, MAX_FRAME, AgentMessage, HubMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LENGTH = struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
_kind_of: dict[type[Any], str] = {struct_type: kind for table in (AGENT_KINDS, HUB_KINDS)
                                  for kind, struct_type in table.items()}  # fmt: skip
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(struct_type)
    for table in (AGENT_KINDS, HUB_KINDS) for kind, struct_type in table.items()
}  # fmt: skip


class FrameError(ValueError):
    """Bytes that are no frame of ours: too long, not MessagePack, of an unknown kind, or of a wrong shape."""


def encode(seq: int, message: AgentMessage | HubMessage) -> bytes:
    """One frame, length prefix included."""
    body = _encoder.encode((seq, _kind_of[type(message)], message))
    if len(body) > MAX_FRAME:
        raise FrameError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return LENGTH.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview, kinds: Mapping[str, type[Any]]) -> tuple[int, Any]:
    """``(seq, message)`` of one frame's body; only the kinds of one direction are taken."""
    try:
        seq, kind, payload = _envelope.decode(body)
        if kind not in kinds:
            raise FrameError(f"unknown kind of frame: {kind[:40]!r}")
        return seq, _decoders[kind].decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"a frame that does not fit the protocol: {error}") from error


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes as they came, give each complete body."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield body
