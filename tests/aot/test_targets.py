"""Test that machines are found by name."""

import pytest

from jaxrec.aot.targets import DEVICES, target
from jaxrec.errors import InputError


@pytest.mark.parametrize(
    ("text", "topology", "devices"),
    [
        ("h200", "1x1x1", 1),
        ("H100", "1x1x1", 1),
        ("8xH200", "1x1x8", 8),
        ("2x8xH200", "1x2x8", 16),
        ("16xB200", "1x2x8", 16),
        ("v5e", "2x2", 1),
        ("v5e-16", "4x4", 16),
        ("v5e-8", "2x4", 8),
        ("v6e:16x16", "16x16", 256),
        ("v5p-8", "2x2x2", 8),
    ],
)
def test_names(text, topology, devices):
    made = target(text)
    assert (made.topology, made.devices) == (topology, devices)
    again = target(made.name_of_topology)
    assert (again.devices, again.device) == (made.devices, made.device)


@pytest.mark.parametrize("text", ["h20", "v5e-3", "12xH200", "8x", "v9e", "0xH200", "8xv5e"])
def test_what_is_no_machine_is_refused(text):
    with pytest.raises(InputError, match=r"unknown machine|multiple|topology"):
        target(text)


def test_more_of_a_kind():
    assert target("h200").sized(4).name == "4xH200"
    assert target("8xH200").sized(32).topology == "1x4x8"
    assert target("v5e").sized(64).topology == "8x8"
    assert all(of.memory > 10**10 < of.bandwidth for of in DEVICES.values())
