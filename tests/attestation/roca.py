"""Makes an RSA modulus with the structure of CVE-2017-15361, to see that it is found. Nobody keeps its factors."""

import random
from functools import cache
from math import prod

_PRIMES = [p for p in range(2, 702) if all(p % q for q in range(2, int(p**0.5) + 1))]
_M = prod(_PRIMES[:126])
"""Primorial of the first 126 primes: what the library used for RSA 2048."""


def _is_prime(number: int, draw: random.Random) -> bool:
    """Miller and Rabin, 20 rounds."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(20):
        x = pow(draw.randrange(2, number - 1), odd, number)
        if x in (1, number - 1):
            continue
        if not any((x := x * x % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def _roca_prime(bits: int, draw: random.Random) -> int:
    while True:
        factor = draw.getrandbits(bits - _M.bit_length() + 1)
        prime = factor * _M + pow(65537, draw.getrandbits(64), _M)
        if prime.bit_length() == bits and prime >> bits - 2 == 3 and _is_prime(prime, draw):
            return prime


@cache
def roca_modulus() -> int:
    """Return a modulus of 2048 bits as Infineon's RSALib made it; the same one in every run."""
    draw = random.Random(15361)
    return _roca_prime(1024, draw) * _roca_prime(1024, draw)
