"""Environments: rlkit's own are registered with Gymnasium here; all are found by id in lookup.py."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from rlkit.envs.lookup import find, names
from rlkit.envs.twins import register_functional

if __name__ != "rlkit.envs":
    raise ImportError("import rlkit.envs, not envs")

__all__ = ["OWN", "find", "names", "register_functional"]

OWN: dict[str, dict[str, Any]] = {
    "rlkit/NumberTriangle-v0": {"entry_point": "rlkit.envs.number_triangle:NumberTriangleEnv"},
    "rlkit/FiniteMDP-v0": {"entry_point": "rlkit.envs.finite:SavedFiniteEnv"},
    "rlkit/Garnet-v0": {"entry_point": "rlkit.envs.garnet:GarnetEnv", "max_episode_steps": 100},
    "rlkit/Catch-v0": {
        "entry_point": "rlkit.envs.catch:Catch",
        "additional_wrappers": (
            WrapperSpec(
                "FrameStackObservation",
                "gymnasium.wrappers:FrameStackObservation",
                {"stack_size": 4, "padding_type": "reset"},
            ),
        ),
    },
    "rlkit/MaskedCartPole-v0": {
        "entry_point": "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        "max_episode_steps": 500,
        "reward_threshold": 475.0,
        "additional_wrappers": (WrapperSpec("Masked", "rlkit.envs.masked:Masked", {"keep": (0, 2)}),),
    },
    **{
        f"MinAtar/{name}-v{version}": {
            "entry_point": "rlkit.envs.minatar:MinAtar",
            "kwargs": {"game": game, "use_minimal_action_set": version == 1},
        }
        for name, game in (
            ("Asterix", "asterix"),
            ("Breakout", "breakout"),
            ("Freeway", "freeway"),
            ("Seaquest", "seaquest"),
            ("SpaceInvaders", "space_invaders"),
        )
        for version in (0, 1)
    },
}
"""rlkit's own envs, and how they are registered; each is imported when it is made."""

for _id, _how in OWN.items():
    gymnasium.registry.pop(_id, None)  # of this module, loaded before, or of the package minatar
    gymnasium.register(_id, **_how)
