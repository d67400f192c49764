"""The memory store keeps the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from sao_events.ports import Store
from sao_events.store.memory import MemoryStore
from tests.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with closing(MemoryStore()) as store:
            yield store
