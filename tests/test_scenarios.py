"""Every scenario file comes out as it says: our own, and where they are at hand those of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from sao_events.scenario import Scenario, read_scenarios
from sao_events.simulate import Simulation

HERE = Path(__file__).parent
OURS = HERE / "scenarios"
CONTRACT = HERE.parent.parent / "shared" / "scenarios"


def scenarios(folder: Path) -> list[object]:
    """A case for each scenario below `folder`, named by its file and itself."""
    return [
        pytest.param(scenario, id=f"{path.stem}:{scenario.name}")
        for path in sorted(folder.glob("*.yaml"))
        for scenario in read_scenarios(path)
    ]


@pytest.mark.parametrize("scenario", scenarios(OURS))
def test_our_scenarios(scenario: Scenario) -> None:
    assert Simulation(scenario).run().differences == []


@pytest.mark.shared
@pytest.mark.skipif(not CONTRACT.is_dir(), reason=f"the contract's scenarios are not at hand ({CONTRACT})")
@pytest.mark.parametrize("scenario", scenarios(CONTRACT))
def test_the_scenarios_of_the_contract(scenario: Scenario) -> None:
    assert Simulation(scenario).run().differences == []


def test_each_of_our_scenarios_says_why_and_what_comes_of_it() -> None:
    for path in OURS.glob("*.yaml"):
        for scenario in read_scenarios(path):
            assert scenario.why, scenario.name
            assert scenario.expected.builds is not None, scenario.name
