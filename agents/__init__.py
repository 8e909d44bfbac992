"""Learners and planners: one file an agent, one line in the registry below."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

from rlkit.config import ReplayConfig
from rlkit.errors import unknown

if TYPE_CHECKING:
    from rlkit.agent import AgentFactory

if __name__ != "rlkit.agents":
    raise ImportError("import rlkit.agents, not agents")


class Entry(NamedTuple):
    """Where an agent's config and class are, as ``module:name``, and a sentence on it."""

    config: str
    agent: str
    summary: str


REGISTRY = {
    "dqn": Entry(
        "rlkit.agents.dqn_config:DQNConfig",
        "rlkit.agents.dqn:DQN",
        "Deep Q-network (Mnih et al. 2015); Double, dueling and n-step as switches.",
    ),
}


def entry(name: str) -> Entry:
    """The registry's entry; UserError with the nearest names where there is none."""
    if name not in REGISTRY:
        raise unknown("agent", name, REGISTRY)
    return REGISTRY[name]


def config_class(name: str) -> type[ReplayConfig]:
    """The agent's config class; loads no TensorFlow."""
    return cast("type[ReplayConfig]", _load(entry(name).config))


def agent_class(name: str) -> AgentFactory:
    """The agent's class; loads TensorFlow."""
    return cast("AgentFactory", _load(entry(name).agent))


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
