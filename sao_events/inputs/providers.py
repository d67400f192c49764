"""Every provider there is, by the name it has in the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sao_events.inputs import azure_devops, bitbucket_cloud, bitbucket_dc, gitea, github, gitlab
from sao_events.inputs.delivery import Provider

_ALL = (
    github.PROVIDER,
    gitlab.PROVIDER,
    bitbucket_cloud.PROVIDER,
    bitbucket_dc.PROVIDER,
    gitea.GITEA,
    gitea.FORGEJO,
    gitea.GOGS,
    azure_devops.PROVIDER,
)
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _ALL}
