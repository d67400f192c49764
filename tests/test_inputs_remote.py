"""Which repository an address means: by host and path as a whole, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.inputs.delivery import Repository
from sao_events.inputs.remote import Place, is_same, place

SHOP = Place("github.com", "acme/shop")


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/acme/shop",
        "https://github.com/acme/shop.git",
        "https://github.com/acme/shop/",
        "https://github.com/acme/shop.git/",
        "HTTPS://GitHub.com:443/Acme/Shop",
        "https://token:x@github.com/acme/shop.git",
        "http://github.com/acme/shop",
        "ssh://git@github.com:22/acme/shop.git",
        "ssh://git@ssh.github.com:443/acme/shop.git",
        "git://github.com/acme/shop.git",
        "git@github.com:acme/shop.git",
        "git@github.com:/acme/shop.git",
        "github.com:acme/shop",
        "https://github.com./acme/shop",
        "https://github.com/acme/%73hop",
    ],
)
def test_one_repository_has_many_addresses(address: str) -> None:
    assert place(address) == SHOP
    assert is_same(Repository("acme/shop", ("https://github.com/acme/shop.git",)), address)


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com@evil.example/acme/shop",
        "https://github.com:pass@evil.example/acme/shop",
        "https://github.com.evil.example/acme/shop",
        "https://evil.example/github.com/acme/shop",
        "https://evil.example/acme/shop#github.com",
        "https://evil.example?github.com/acme/shop",
        "https://xgithub.com/acme/shop",
        "https://github.com/acme/shop2",
        "https://github.com/acme/shop.git.git",
        "https://github.com/x/acme/shop",
        "https://github.com/acme/shop/x",
        "https://github.com/acme/../acme/shop",
        "https://g\u0456thub.com/acme/shop",
        "git@evil.example:acme/shop.git",
        "git@github.com@evil.example:acme/shop.git",
        "ext::sh -c id",
        "http://169.254.169.254/",
        "https://[",
        "https:///acme/shop",
        "javascript:acme/shop",
    ],
)
def test_what_looks_like_it_is_another(address: str) -> None:
    assert place(address) != SHOP
    assert not is_same(
        Repository("acme/shop", (address, "https://evil.example/acme/shop")), "https://github.com/acme/shop"
    )


@pytest.mark.parametrize("address", ["/srv/git/shop.git", "file:///srv/git/shop.git", "../shop", "shop", "", "."])
def test_a_folder_is_no_place(address: str) -> None:
    assert place(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "https://dev.azure.com/acme/shop/_git/shop",
        "https://acme@dev.azure.com/acme/shop/_git/shop",
        "https://dev.azure.com/acme/_git/shop",
        "https://acme.visualstudio.com/shop/_git/shop",
        "https://acme.visualstudio.com/DefaultCollection/shop/_git/shop",
        "git@ssh.dev.azure.com:v3/acme/shop/shop",
        "acme@vs-ssh.visualstudio.com:v3/acme/shop/shop",
    ],
)
def test_azure_has_three_addresses_for_one(address: str) -> None:
    assert place(address) == Place("dev.azure.com", "acme/shop/_git/shop")


def test_without_an_address_the_name_is_compared() -> None:
    repository = Repository("PRJ/my-repo")
    for same in (
        "https://git.example/scm/prj/my-repo.git",
        "ssh://git@git.example:7999/prj/my-repo.git",
        "prj/my-repo",
    ):
        assert is_same(repository, same)
    for other in ("https://git.example/bitbucket/scm/prj/other.git", "prj/other", "https://git.example/my-repo"):
        assert not is_same(repository, other)
    assert is_same(repository, "https://git.example/bitbucket/scm/prj/my-repo.git")
    assert is_same(repository, "/srv/git/anything.git")


@given(st.text(), st.text())
def test_any_text_is_a_place_or_none(address: str, wanted: str) -> None:
    found = place(address)
    assert found is None or found.path
    is_same(Repository("a/b", (address,)), wanted)
