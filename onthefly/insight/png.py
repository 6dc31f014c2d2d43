"""PNG pictures (ISO/IEC 15948) of bytes, with the standard library: a training process need not have Pillow."""

from __future__ import annotations

import struct
import zlib


def png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """A picture of ``height`` rows of ``width`` pixels of one (grey) or three (red, green, blue) bytes.

    No filter is used: pictures of samples are small.
    """
    row = width * channels
    lines = b"".join(b"\0" + pixels[start : start + row] for start in range(0, height * row, row))
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
