"""Tests that a command that is killed while it writes does no harm, and can be repeated.

Each command is killed at a few writes; `experiments.benchmarks.kills` kills it at all.
"""

import pytest

from experiments.benchmarks import kill_scenarios, kills

SCENARIOS = {scenario.name: scenario for scenario in kill_scenarios.SCENARIOS}
KILLS = 5


@pytest.mark.parametrize(
    "name",
    [
        "simulate",
        "convert",
        "annotate",
        "annotate overwriting",
        "import masks",
        "import cellpose",
        "import coco",
        "export coco of a study",
        "export cellpose",
        "export ome",
        "restore",
    ],
)
def test_kills_while_a_command_writes_do_no_harm(name, tmp_path):
    found = kills.kill_everywhere(SCENARIOS[name], tmp_path, most=KILLS)
    assert not found.harm
    assert found.writes > found.kills == KILLS
