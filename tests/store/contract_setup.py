"""The contract: models, manifest, batches."""

from dataclasses import replace

import pytest

from birthmark_server.domain import DeviceModel
from birthmark_server.errors import Malformed
from birthmark_server.store.errors import AlreadyExists, ManifestConflict, UnknownBatch, UnknownModel
from birthmark_server.store.protocol import Store
from store.values import DAY, HOUR, MODEL, NOW, batch, ek, manifest_entry


class SetupContract:
    """`store` has MODEL."""

    def test_a_model_comes_back_as_it_went_in(self, store: Store) -> None:
        bare = DeviceModel("bare", "ecc-p256", require_ek_certificate=False)
        store.add_model(bare, by="bob")
        assert store.get_model("bare") == replace(bare, added_by="bob")
        assert store.get_model(MODEL.name) == MODEL
        assert store.list_models() == [replace(bare, added_by="bob"), MODEL]

    def test_the_same_model_again_is_no_error_and_another_of_its_name_is(self, store: Store) -> None:
        store.add_model(MODEL, by="bob")
        with pytest.raises(AlreadyExists):
            store.add_model(replace(MODEL, ek_template="ecc-p384"), by="alice")
        assert store.get_model(MODEL.name) == MODEL

    def test_an_unknown_model_is_refused_wherever_it_is_named(self, store: Store) -> None:
        with pytest.raises(UnknownModel):
            store.get_model("none")
        with pytest.raises(UnknownModel):
            store.open_batch(batch(model="none"))
        with pytest.raises(UnknownModel):
            store.import_manifest([manifest_entry(1), manifest_entry(2, model="none")])
        assert store.list_manifest() == []

    def test_a_manifest_counts_only_what_is_new(self, store: Store) -> None:
        assert store.import_manifest([manifest_entry(1), manifest_entry(2)]) == 2
        assert store.import_manifest([manifest_entry(2, imported_by="bob"), manifest_entry(3)]) == 1
        assert store.import_manifest([]) == 0
        assert store.list_manifest() == [manifest_entry(1), manifest_entry(2), manifest_entry(3)]

    @pytest.mark.parametrize(
        "changes", [{"ek_sha256": ek(9)}, {"serial": "SN-9"}, {"device_id": "dev-9"}], ids=["ek", "serial", "device"]
    )
    def test_an_entry_that_shares_only_some_names_is_refused_with_all_others(
        self, store: Store, changes: dict[str, str]
    ) -> None:
        store.import_manifest([manifest_entry(1)])
        with pytest.raises(ManifestConflict, match=r"dev-000001.*alice"):
            store.import_manifest([manifest_entry(2), manifest_entry(1, **changes)])
        assert store.list_manifest() == [manifest_entry(1)]

    def test_entries_of_one_import_may_not_conflict_either(self, store: Store) -> None:
        with pytest.raises(ManifestConflict):
            store.import_manifest([manifest_entry(1), manifest_entry(2, serial=manifest_entry(1).serial)])
        assert store.list_manifest() == []

    def test_the_manifest_is_read_by_pages(self, store: Store) -> None:
        store.import_manifest([manifest_entry(number) for number in (5, 3, 1, 4, 2)])
        first = store.list_manifest(limit=2)
        second = store.list_manifest(after=first[-1].serial, limit=2)
        last = store.list_manifest(after=second[-1].serial, limit=2)
        assert [entry.device_id[-1] for entry in (*first, *second, *last)] == ["1", "2", "3", "4", "5"]

    def test_a_batch_opens_once_and_closes_for_good(self, store: Store) -> None:
        store.open_batch(batch())
        assert store.get_batch("lot-1") == batch()
        with pytest.raises(AlreadyExists):
            store.open_batch(batch(quota=99))
        closed = store.close_batch("lot-1", at=NOW + HOUR, by="bob")
        assert closed == batch(closed_at=NOW + HOUR, closed_by="bob")
        assert store.close_batch("lot-1", at=NOW + DAY, by="alice") == closed
        assert store.list_batches() == [closed]

    def test_an_unknown_batch_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownBatch):
            store.get_batch("none")
        with pytest.raises(UnknownBatch):
            store.close_batch("none", at=NOW, by="alice")

    def test_a_name_that_no_database_can_hold_is_malformed_not_a_failure(self, store: Store) -> None:
        with pytest.raises(Malformed):
            store.get_model("\ud800")
