"""What time it is, and waiting."""

from datetime import UTC, datetime

import pytest

from agentsys.core.errors import ToolArgumentsInvalid, ToolFailed
from agentsys.tools import registry


def test_the_time_is_told_in_utc_and_in_a_zone(call):
    now = call("time.now")
    assert abs(datetime.fromisoformat(now["iso"]) - datetime.now(UTC)).total_seconds() < 5
    assert now["zone"] == "UTC"
    assert now["iso"].startswith(now["date"])

    kolkata = call("time.now", zone="Asia/Kolkata")
    assert kolkata["iso"].endswith("+05:30")
    assert abs(kolkata["unix"] - now["unix"]) < 5


@pytest.mark.parametrize(
    "zone", ["Nope/Nope", "Europe", "CET/CEST", "utc ", "../UTC", "/etc/localtime", "a" * 65, "", "\0", 5]
)
def test_what_is_no_zone_is_refused(call, zone):
    with pytest.raises((ToolFailed, ToolArgumentsInvalid)):
        call("time.now", zone=zone)


def test_waiting_is_a_step_of_the_plan_and_never_a_call(call):
    assert set(registry.get("wait").input_schema["properties"]) == {"seconds", "until"}
    with pytest.raises(ToolFailed, match="step of the plan"):
        call("wait", seconds=1)
