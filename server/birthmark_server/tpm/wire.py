"""Reading and writing the TPM's big-endian structures.

A `Reader` hands out what it is asked for and raises TpmDecodeError when there is less; `done()` refuses a remainder, so
a parser that ends with it has consumed every byte. Source: TPM 2.0 Library Part 2 §4.
"""

from birthmark_server.tpm.errors import TpmDecodeError


class Reader:
    """One pass over `data`, front to back. structure: its name in the standard, for error messages."""

    __slots__ = ("_data", "_offset", "_structure")

    def __init__(self, data: bytes, structure: str) -> None:
        self._data = data
        self._offset = 0
        self._structure = structure

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        end = self._offset + length
        if end > len(self._data):
            left = len(self._data) - self._offset
            raise TpmDecodeError(f"{self._structure}: want {length} bytes at offset {self._offset}, got {left}")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def u8(self) -> int:
        """Return a UINT8."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return a UINT16."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return a UINT32."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Return a UINT64."""
        return int.from_bytes(self.take(8), "big")

    def sized(self, *, high: int) -> bytes:
        """Return the content of a TPM2B of at most `high` bytes."""
        length = self.u16()
        if length > high:
            raise TpmDecodeError(f"{self._structure}: want a TPM2B of at most {high} bytes, got {length}")
        return self.take(length)

    def done(self) -> None:
        """Refuse whatever is left."""
        left = len(self._data) - self._offset
        if left:
            raise TpmDecodeError(f"{self._structure}: {left} bytes too many")


def u16(value: int) -> bytes:
    """Write a UINT16."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Write a UINT32."""
    return value.to_bytes(4, "big")


def sized(data: bytes) -> bytes:
    """Write a TPM2B."""
    return u16(len(data)) + data
