"""Each knob can be turned from the environment, and what is no number is said so."""

from __future__ import annotations

from dataclasses import fields

import pytest

from goliath.config import ActorConfig, NodeConfig, SchedulingConfig, TransportConfig

CONFIGS = (TransportConfig, NodeConfig, ActorConfig, SchedulingConfig)
KNOBS = [(config, knob.name) for config in CONFIGS for knob in fields(config)]


@pytest.mark.parametrize(("config", "knob"), KNOBS, ids=[knob for _, knob in KNOBS])
def test_a_knob_can_be_turned_and_the_others_stay(config: type[TransportConfig], knob: str) -> None:
    variable, usual = f"GOLIATH_{knob.upper()}", config()
    value = getattr(usual, knob) + 1
    turned = config.from_environ({variable: str(value), "GOLIATH_TOKEN": "no knob"})
    assert {
        f.name for f in fields(config) if getattr(turned, f.name) != getattr(usual, f.name)
    } == {knob}
    assert getattr(turned, knob) == value
    assert type(getattr(turned, knob)) is type(getattr(usual, knob))
    with pytest.raises(ValueError, match=f"^{variable}='soon' is not a number"):
        config.from_environ({variable: "soon"})
