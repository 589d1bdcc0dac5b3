"""The fault campaign, in short: one fault of each kind, and that the whole of it is well formed.

`./bytemini bench faults` runs all of them with three seeds.
"""

import pytest
from bytemini_sim.bench_faults import figures, judge
from bytemini_sim.faults.catalogue import FAULTS
from bytemini_sim.faults.run import FaultRun

KINDS = (
    "policy dies", "optimizer dies", "controller stalls 0.5 s", "joint sensor jumps", "odometry jumps 1 m",
    "one reference NaN", "two publishers", "clock jumps forward 5 s", "emergency stop, and a policy that insists",
)  # fmt: skip


def test_there_are_at_least_forty_faults_with_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert all(fault.means and fault.seconds > 0 for fault in FAULTS)


@pytest.fixture(scope="module")
def run():
    return FaultRun(1)


@pytest.mark.parametrize("name", KINDS)
def test_the_robot_holds_or_goes_on_within_its_limits_and_moves_again(run, name):
    fault = next(fault for fault in FAULTS if fault.name == name)
    report = run.run(fault)
    assert judge(fault, report) == "", report
    assert set(figures([report])["faults"][0]) >= {
        "name", "seed", "time_to_hold_ms", "limit_violations", "recovered",
    }  # fmt: skip


def test_a_fault_is_the_same_for_the_same_seed(run):
    fault = next(fault for fault in FAULTS if fault.name == "two publishers")
    assert run.run(fault) == run.run(fault)
