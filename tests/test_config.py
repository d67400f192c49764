"""The configuration: defaults, what each key does, what is refused and where, secrets, and the pages about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sao_events.config import DEFAULTS, KEYS, VARIABLES, Config, Secret, load_config, require_project
from sao_events.core.errors import ConfigError, SaoError
from sao_events.core.graph import Graph
from sao_events.core.nodes import Source
from sao_events.core.project import Project, quorum_warnings
from sao_events.deploy.deployer import as_told
from tests.record import node, source

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a dbt project, as far as the configuration is concerned."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "dbt_project.yml").write_text("name: shop\n", encoding="utf-8")
    return folder


def read(folder: Path, text: str, **environ: str) -> Config:
    """The configuration that `text` makes as the file of `folder`."""
    (folder / "sao.yml").write_text(text, encoding="utf-8")
    return load_config(None, folder, environ)


def test_without_a_file_everything_has_a_default(project: Path) -> None:
    config = load_config(None, project, {})
    assert config.path is None
    assert config.environment == "default"
    assert config.dbt.project_dir == project
    assert config.state_dir == project / ".sao"
    assert (config.settings.settle, config.settings.attempts, config.settings.backoff) == (2.0, 2, 60.0)
    assert (config.settings.trigger, config.settings.code_changes) == ("continuous", "immediate")
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8181)
    assert (config.data_tokens, config.git, dict(config.webhooks), dict(config.sources)) == ((), None, {}, {})


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}\n"])
def test_an_empty_file_is_no_error(project: Path, text: str) -> None:
    assert read(project, text).settings == DEFAULTS


def test_the_project_is_found_from_a_folder_inside_it(project: Path) -> None:
    inside = project / "models" / "marts"
    inside.mkdir(parents=True)
    (project / "sao.yml").write_text("environment: prod\n", encoding="utf-8")
    config = load_config(None, inside, {})
    assert (config.dbt.project_dir, config.environment) == (project, "prod")


def test_relative_paths_count_from_the_folder_of_the_file(project: Path, tmp_path: Path) -> None:
    deploy = tmp_path / "deploy"
    deploy.mkdir()
    file = deploy / "prod.yml"
    file.write_text(
        "project: {dir: ../shop, profiles_dir: profiles}\nstate_dir: state\ndata: {tokens: [{file: token}]}\n",
        encoding="utf-8",
    )
    config = load_config(file, tmp_path, {})
    assert config.dbt.project_dir == project
    assert config.dbt.profiles_dir == deploy / "profiles"
    assert config.state_dir == deploy / "state"
    assert config.data_tokens == (Secret(file=deploy / "token"),)


def test_a_file_elsewhere_leaves_the_project_to_where_one_stands(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text("environment: prod\n", encoding="utf-8")
    assert load_config(file, project, {}).dbt.project_dir == project


def test_every_key_arrives(project: Path) -> None:
    config = read(
        project,
        """
environment: prod
project: {dir: ., profile: shop, target: production, vars: {day: "01", limit: 3, flag: true}}
dbt: {runner: subprocess, executable: dbt-1.11, threads: 8, grace: 1m30s, keep_output: 1w}
decisions:
  trigger: jobs
  code_changes: after_window
  settle: 5s
  retries: {attempts: 4, backoff: 2m}
  max_concurrent_runs: 3
  default: {freshness: {build_after: {count: 1, period: hour}}}
http: {host: 0.0.0.0, port: 9000, body_limit: 256kB}
data: {tokens: [{env: TOKEN}]}
webhooks: {github: {provider: github, secrets: [{env: OLD}, {env: NEW}]}}
git: {remote: "git@example.com:shop.git", branch: live, poll: 30s, subdir: transform}
sources: {raw.calendar: {static: true}, raw.v: {view: true}}
""",
    )
    assert config.environment == "prod"
    assert (config.dbt.profile, config.dbt.target) == ("shop", "production")
    assert config.dbt.vars == {"day": "01", "limit": 3, "flag": True}
    assert (config.dbt.runner, config.dbt.executable, config.dbt.threads, config.dbt.grace) == (
        "subprocess", "dbt-1.11", 8, 90.0,
    )  # fmt: skip
    assert config.dbt.keep_output == 7 * 86400
    settings = config.settings
    assert (settings.trigger, settings.code_changes, settings.settle) == ("jobs", "after_window", 5.0)
    assert (settings.attempts, settings.backoff, settings.max_concurrent_runs) == (4, 120.0, 3)
    assert settings.default_config == {"freshness": {"build_after": {"count": 1, "period": "hour"}}}
    assert (config.http.host, config.http.port, config.http.body_limit) == ("0.0.0.0", 9000, 256_000)  # noqa: S104
    assert config.webhooks["github"].secrets == (Secret("OLD"), Secret("NEW"))
    assert config.git is not None
    assert (config.git.remote, config.git.branch, config.git.poll, config.git.subdir) == (
        "git@example.com:shop.git", "live", 30.0, "transform",
    )  # fmt: skip
    assert (config.sources["raw.calendar"].static, config.sources["raw.v"].view) == (True, True)


def test_null_is_as_good_as_absent(project: Path) -> None:
    config = read(
        project,
        "environment: ~\nproject: {dir: ~, profiles_dir: ~, vars: ~}\ndbt: {threads: ~}\ngit: ~\nwebhooks: ~\n",
    )
    assert (config.environment, config.dbt.project_dir, config.dbt.threads) == ("default", project, None)
    assert (config.git, dict(config.webhooks), config.dbt.vars) == (None, {}, {})


def test_the_target_names_an_environment_that_has_no_name(project: Path) -> None:
    assert read(project, "project: {target: ci}\n").environment == "ci"


def test_each_target_has_a_state_of_its_own(project: Path) -> None:
    assert read(project, "project: {target: ci}\n").state_dir == project / ".sao" / "targets" / "ci"
    config = load_config(None, project, {}, target="a/b")
    assert (config.dbt.target, config.environment) == ("a/b", "a/b")
    assert config.state_dir == project / ".sao" / "targets" / "a%2Fb"
    assert read(project, "project: {target: ci}\nstate_dir: here\n").state_dir == project / "here"


def test_another_target_is_another_environment(project: Path) -> None:
    (project / "sao.yml").write_text("environment: prod\nproject: {target: live}\n", encoding="utf-8")
    config = load_config(None, project, {}, target="ci")
    assert (config.dbt.target, config.environment) == ("ci", "ci")
    assert load_config(None, project, {}, target="live").environment == "prod"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("enviroment: prod\n", ":1: unknown key enviroment", "did you mean environment?"),
        ("http:\n  host: x\n  prot: 1\n", ":3: unknown key prot in http", "did you mean port?"),
        ("decisions:\n  retries:\n    attempt: 2\n", ":3: unknown key attempt in decisions.retries", "attempts"),
        ("decisions: {default: {freshnes: ~}}\n", ":1: unknown key freshnes in decisions.default", "freshness"),
        ("sources:\n  raw.a: {statik: true}\n", ":2: unknown key statik", "static"),
        ("webhooks:\n  gh: {provider: github, secret: []}\n", ":2: unknown key secret", "secrets"),
        ("webhooks:\n  gh: {provider: github}\n", ":2: the key secrets is missing", ""),
        ("webhooks:\n  gh:\n    provider: githup\n    secrets: [{env: A}]\n", ":3: provider must be", "github"),
        ("webhooks:\n  gh:\n    provider: github\n    secrets: []\n", ":4: a webhook needs at least one secret", ""),
        ("data:\n  tokens:\n    - s3cret\n", ":3: secrets are not written into the file", "{env: NAME}"),
        ("data: {tokens: [{}]}\n", ":1: a secret is either", ""),
        ("data: {tokens: [{env: A, file: b}]}\n", ":1: a secret is either", ""),
        ("data: {tokens: {env: A}}\n", ":1: tokens must be a list", ""),
        ("git:\n  branch: main\n", "git.remote is missing", ""),
        ("git:\n  remote: r\n  subdir: ../up\n", ":3: git.subdir must be a folder inside", ""),
        ("git:\n  remote: r\n  poll: 5\n", ":3: poll: '5' is not a duration", ""),
        ("decisions:\n  settle: soon\n", ":2: settle: 'soon' is not a duration", ""),
        ("decisions:\n  trigger: always\n", ":2: trigger must be one of continuous, jobs", ""),
        ("decisions:\n  max_concurrent_runs: 0\n", ":2: max_concurrent_runs must be a whole number", "least 1"),
        ("decisions:\n  default: {freshness: {build_after: {count: 1}}}\n", ":2: decisions.default: ", "`period`"),
        (
            "decisions:\n  default: {freshness: {build_after: 1h}}\n",
            ":2: decisions.default: freshness.build_after",
            "count",
        ),
        (
            "decisions:\n  default:\n    state:\n      lag_tolerance: 1\n",
            ":4: decisions.default: state.lag_tolerance",
            "",
        ),
        ("decisions:\n  default: 1h\n", ":2: default must be a mapping with freshness", ""),
        ("http: {port: 99999}\n", ":1: http.port: a port is a number from 0 to 65535", ""),
        ("http: {body_limit: big}\n", ":1: body_limit: big is not a size", ""),
        ("sources: {raw.a: static}\n", ":1: sources.raw.a must be a mapping with static, view", ""),
        ("sources: {raw.a: {static: true,\n  probe: 5m}}\n", ":2: probe: a source that is static", "never looked at"),
        ("sources: {raw.a: {static: true, files: a.csv}}\n", ":1: files: a source that is static", "take one"),
        ("sources: {raw.a: {static: maybe}}\n", ":1: static must be true or false", ""),
        ("project: shop\n", ":1: project must be a mapping with dir", ""),
        ("project: {vars: [1]}\n", ":1: vars must be a mapping", ""),
        ("dbt: {threads: many}\n", ":1: threads must be a whole number", ""),
        ("dbt: {runner: fork}\n", ":1: runner must be one of auto, warm, subprocess", ""),
        ("environment: [a]\n", ":1: environment must be text", ""),
        ("environment: a\nenvironment: b\n", ":2: the key environment stands here twice", ""),
        ("a: b\n---\nc: d\n", ":3: a second document", ""),
        ("- a\n", ":1: a mapping is expected", ""),
        ("http: {port: 1\n", ": not valid YAML", ""),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(project: Path, text: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(project, text)
    assert str(project / "sao.yml") in str(caught.value)
    assert place in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_environment_wins_over_the_file(project: Path, tmp_path: Path) -> None:
    config = read(
        project,
        "http: {host: a, port: 1}\nstate_dir: here\n",
        SAO_HOST="b",
        SAO_PORT="2",
        SAO_STATE_DIR=str(tmp_path / "there"),
    )
    assert (config.http.host, config.http.port, config.state_dir) == ("b", 2, tmp_path / "there")


def test_the_environment_may_name_the_file(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.yml"
    file.write_text("environment: other\n", encoding="utf-8")
    assert load_config(None, project, {"SAO_CONFIG": str(file)}).environment == "other"


def test_a_port_that_is_none_is_refused_by_its_variable(project: Path) -> None:
    with pytest.raises(ConfigError, match="SAO_PORT: a port is a number"):
        load_config(None, project, {"SAO_PORT": "http"})


def test_a_file_that_is_not_there_is_an_error(project: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such configuration file"):
        load_config(project / "missing.yml", project, {})


def test_a_file_that_is_not_text_is_an_error(project: Path) -> None:
    (project / "sao.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(None, project, {})


def test_a_folder_without_a_project_is_only_an_error_when_one_is_needed(tmp_path: Path) -> None:
    config = load_config(None, tmp_path, {})
    with pytest.raises(ConfigError, match="there is no dbt project here"):
        require_project(config)


def test_a_project_that_is_there_is_given(project: Path) -> None:
    assert require_project(load_config(None, project, {})) == project


def test_secrets_are_read_when_used_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    by_file, by_name = Secret(file=file), Secret(env="SAO_TEST_TOKEN")
    assert (by_file.value(), by_name.value()) == (None, None)
    file.write_text("hunter2\n", encoding="utf-8")
    monkeypatch.setenv("SAO_TEST_TOKEN", " hunter3 ")
    assert (by_file.value(), by_name.value()) == ("hunter2", "hunter3")
    assert "hunter" not in f"{by_file!r} {by_file} {by_name!r} {by_name}"
    file.write_text("  \n", encoding="utf-8")
    assert by_file.value() is None


def test_a_secret_that_cannot_be_read_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        Secret(file=tmp_path).value()


@pytest.mark.parametrize("name", ["minimal.yml", "full.yml"])
def test_the_files_that_are_shipped_are_valid(name: str) -> None:
    assert load_config(ROOT / "config" / name, ROOT, {}).path == ROOT / "config" / name


def keys_in(text: str) -> set[str]:
    """Every key, dotted, that a configuration uses; names that a user chooses as `*`."""
    from sao_events.yamltext import Block, documents

    found: set[str] = set()

    def walk(value: object, path: str) -> None:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Block):
                for key, inner in item.items():
                    here = f"{path}.{key}" if path else key
                    here = f"{path}.*" if f"{path}.*" in KEYS else here
                    found.add(here)
                    if here not in ("project.vars", "decisions.default.freshness", "decisions.default.state"):
                        walk(inner, here)

    for document in documents(text, "full.yml"):
        walk(document, "")
    return found


ALL_KEYS = {f"{place}.{key}" if place else key for place, keys in KEYS.items() for key in keys}


def test_the_full_file_shows_every_key() -> None:
    used = keys_in((ROOT / "config" / "full.yml").read_text(encoding="utf-8"))
    assert ALL_KEYS - used == set()


def test_the_page_describes_every_key_and_no_other() -> None:
    page = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z_.*]+)` \|", page, re.MULTILINE))
    sections = {place.removesuffix(".*") for place in KEYS}
    assert documented == ALL_KEYS - sections


def test_the_page_describes_every_variable_and_no_other() -> None:
    page = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(SAO_[A-Z_]+)` \|", page)) == set(VARIABLES)


def test_the_page_tells_the_true_defaults(project: Path) -> None:
    page = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.*]+)` \| `([^`]+)` \|", page, re.MULTILINE))
    told = {
        "http": ("host", "port", "body_limit"),
        "dbt": ("runner", "grace", "keep_output"),
        "tests": ("reuse", "proof", "aggregate"),
        "relations": ("every",),
        "decisions": ("trigger", "code_changes", "settle", "max_concurrent_runs"),
    }
    lines = [
        f"{section}:\n" + "".join(f"  {key}: {rows[section + '.' + key]}\n" for key in keys)
        for section, keys in told.items()
    ]
    text = "".join(lines)
    given, default = read(project, text), load_config(None, project, {})
    assert (given.http, given.dbt, given.settings) == (default.http, default.dbt, default.settings)
    assert given.relations == default.relations
    assert rows["decisions.retries.attempts"] == "2"
    assert rows["decisions.retries.backoff"] == "1m"


NAMING = """\
data:
  loads:
    nightly:
      sources:
        - raw.orders
        - raw.ordrs
webhooks:
  hub:
    provider: generic
    secrets: [{env: HUB}]
    map:
      - match: {table: "a*"}
        sources: [raw.items, raw.itms, "raw.{table}"]
      - {match: {table: b}, relation: raw.nothing}
"""


def test_a_source_that_is_told_to_be_static_warns_of_the_quorums_that_it_leaves_unmet(project: Path) -> None:
    config = read(project, "sources: {b: {static: true}, a: {view: true}}\n")
    nodes = [node("m", "b", on="all"), node("n", "a", "b", on="all"), node("o", on="all")]
    graph, places = Graph(nodes, [source("a"), source("b")]), {"m": "m.yml:3", "o": "o.yml:1"}
    known = Project(graph, places=places, warnings=("another", *quorum_warnings(graph, places).values()))
    other, o, a, m = as_told(known, config).warnings
    assert a.startswith("a: a view in the warehouse has no trusted load time")
    assert (other, o) == known.warnings
    assert m.startswith("m: updates_on: all can never be met: b cannot have new data, ")
    assert m.endswith("(m.yml:3)")


def test_a_source_that_is_not_in_the_project_is_an_error_with_line_and_nearest(project: Path) -> None:
    config = read(project, "environment: prod\nsources:\n  raw.orders:\n    static: true\n  raw.itms: {view: true}\n")
    known = Project(Graph([], [Source(f"source.shop.raw.{name}", f"raw.{name}") for name in ("orders", "items")]))
    with pytest.raises(SaoError) as caught:
        as_told(known, config)
    assert caught.value.message == f"{project / 'sao.yml'}:5: sources: there is no source raw.itms in the project"
    assert caught.value.hint == "did you mean raw.items?"


def test_names_that_are_no_sources_are_warnings_with_line_and_nearest(project: Path) -> None:
    config = read(project, NAMING)
    sources = [Source(f"source.shop.raw.{name}", f"raw.{name}") for name in ("orders", "items")]
    known = Project(Graph([], sources), "shop", "duckdb", warnings=("one of dbt's",))
    first, *warnings = as_told(known, config).warnings
    assert first == "one of dbt's"
    no, place = "is no source of the project, and is left out", project / "sao.yml"
    assert warnings == [
        f"{place}:6: data.loads.nightly: raw.ordrs {no}; did you mean raw.orders?",
        f"{place}:13: webhooks.hub.map: raw.itms {no}; did you mean raw.items?",
        f"{place}:14: webhooks.hub.map: raw.nothing {no}",
    ]
