"""Small numbers as few bytes, with a check sum: what a schedule's token is made of.

Seven bits a byte, the lowest first. Absent: what the numbers mean (`schedule`).
"""

from hashlib import blake2b

__all__ = ["CHECK_BYTES", "check_sum", "numbers_in", "varint"]

CHECK_BYTES = 3


def varint(number: int) -> bytes:
    """One number, not negative, as bytes."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def numbers_in(body: bytes) -> list[int]:
    """The numbers of these bytes; a last one that was cut off is -1."""
    numbers, number, shift = [], 0, 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
    return [*numbers, *([] if shift == 0 else [-1])]


def check_sum(body: bytes) -> bytes:
    """A few bytes that tell whether a copy is complete."""
    return blake2b(body, digest_size=CHECK_BYTES).digest()
