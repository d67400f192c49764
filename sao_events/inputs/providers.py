"""Every provider there is, by the name it has in the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sao_events.inputs import github
from sao_events.inputs.delivery import Provider

PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in (github.PROVIDER,)}
