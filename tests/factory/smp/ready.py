"""x"""
from dataclasses import dataclass
from support.swtpm import Swtpm, VendorCa

@dataclass
class Ready:
    address: str
    tpm: Swtpm
    vendor: VendorCa
