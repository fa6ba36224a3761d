"""What differs between the kinds of processor."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Arch:
    """One kind of processor.

    debian: dpkg's name. triplet: the compiler's. kernel: Debian's package for virtual machines.
    console: the serial line. efi: the UEFI boot file (UEFI 2.10 §3.5.1.1). wheels: pip's platforms.
    tool_package: has compiler, linker and objcopy.
    """

    debian: str
    triplet: str
    kernel: str
    console: str
    efi: str
    wheels: tuple[str, ...]
    tool_package: str

    @property
    def compiler(self) -> str:
        """The C compiler that makes programs for it."""
        return f"{self.triplet}-gcc"

    @property
    def objcopy(self) -> str:
        """The tool that puts a unified kernel image together."""
        return f"{self.triplet}-objcopy"


def _wheels(machine: str) -> tuple[str, ...]:
    """manylinux, as new as Debian 12's C library (2.36) bears: PEP 600."""
    known = [f"manylinux_2_{minor}" for minor in (36, 35, 34, 31, 28, 17)]
    return tuple(f"{one}_{machine}" for one in (*known, "manylinux2014"))


ARCHS: Final = {
    arch.debian: arch
    for arch in (
        Arch(
            debian="amd64",
            triplet="x86_64-linux-gnu",
            kernel="linux-image-cloud-amd64",
            console="ttyS0",
            efi="BOOTX64.EFI",
            wheels=_wheels("x86_64"),
            tool_package="gcc binutils",
        ),
        Arch(
            debian="arm64",
            triplet="aarch64-linux-gnu",
            kernel="linux-image-cloud-arm64",
            console="ttyAMA0",
            efi="BOOTAA64.EFI",
            wheels=_wheels("aarch64"),
            tool_package="gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu",
        ),
    )
}
