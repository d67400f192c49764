"""Every provider there is, by the name it has in the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sao_events.inputs import (
    airbyte,
    azure_devops,
    bitbucket_cloud,
    bitbucket_dc,
    cloudevents,
    dlt,
    eventbridge,
    eventgrid,
    fivetran,
    generic,
    gitea,
    github,
    gitlab,
    openlineage,
    pubsub,
    sns,
    stitch,
)
from sao_events.inputs.delivery import Provider

GIT_HOSTS = (
    github.PROVIDER,
    gitlab.PROVIDER,
    bitbucket_cloud.PROVIDER,
    bitbucket_dc.PROVIDER,
    gitea.GITEA,
    gitea.FORGEJO,
    gitea.GOGS,
    azure_devops.PROVIDER,
)
LOADERS = (
    generic.PROVIDER,
    cloudevents.PROVIDER,
    openlineage.PROVIDER,
    fivetran.PROVIDER,
    airbyte.PROVIDER,
    dlt.PROVIDER,
    stitch.PROVIDER,
    sns.PROVIDER,
    eventbridge.PROVIDER,
    pubsub.PROVIDER,
    eventgrid.PROVIDER,
)
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in (*GIT_HOSTS, *LOADERS)}
