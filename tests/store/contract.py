"""The store's contract as tests: whatever passes all of it is a Store. Run by test_sqlite.py and test_postgres.py."""

from store.contract_admission import AdmissionContract
from store.contract_authorities import AuthorityContract, TrustContract
from store.contract_births import BirthContract, HomecomingContract
from store.contract_campaigns import CampaignContract
from store.contract_denials import DenialContract, SwapContract
from store.contract_fleet import FleetContract
from store.contract_jobs import JobContract, RetirementContract
from store.contract_life import DeviceContract, IssuanceContract, RefusalContract, RevocationContract
from store.contract_races import RaceContract
from store.contract_restore import RestoreContract
from store.contract_setup import SetupContract
from store.contract_states import StateContract
from store.contract_workorders import WorkOrderContract


class StoreContract(
    SetupContract,
    AdmissionContract,
    BirthContract,
    HomecomingContract,
    DenialContract,
    SwapContract,
    IssuanceContract,
    DeviceContract,
    RevocationContract,
    RefusalContract,
    FleetContract,
    JobContract,
    RetirementContract,
    CampaignContract,
    AuthorityContract,
    TrustContract,
    RaceContract,
    RestoreContract,
    StateContract,
    WorkOrderContract,
):
    """Needs two fixtures: `world`, an empty database, and `store`, the first opening of it, holding MODEL."""
