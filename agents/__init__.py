"""Learners and planners: a folder for each agent, and one line in the registry below."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

from rlkit.errors import unknown
from rlkit.learning.config import TrainConfig

if TYPE_CHECKING:
    from rlkit.learning.agent import AgentFactory

if __name__ != "rlkit.agents":
    raise ImportError("import rlkit.agents, not agents")


class Entry(NamedTuple):
    """Where an agent's config and class are, as ``module:name``, and a sentence on it."""

    config: str
    agent: str
    summary: str
    setting_of: str = ""
    """The agent that this one is a setting of: the same presets, and what the file with its own name says over them."""


REGISTRY = {
    "dqn": Entry(
        "rlkit.agents.dqn.config:DQNConfig",
        "rlkit.agents.dqn.recurrent:make",
        "Deep Q-network (Mnih et al. 2015); the parts of Rainbow, IQN and a recurrent network as switches.",
    ),
    "rainbow": Entry(
        "rlkit.agents.dqn.config:DQNConfig",
        "rlkit.agents.dqn.recurrent:make",
        "The DQN with six switches on (Hessel et al. 2018): Double, dueling, n-step, priorities, C51, noise.",
        setting_of="dqn",
    ),
    "pqn": Entry(
        "rlkit.agents.pqn.config:PQNConfig",
        "rlkit.agents.pqn.pqn:PQN",
        "Parallelised Q-network (Gallici et al. 2024): many envs, no replay, no target network.",
    ),
    "q-learning": Entry(
        "rlkit.agents.tabular.config:QLearningConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Tabular Q-learning (Watkins 1989); n-step or with traces.",
    ),
    "double-q-learning": Entry(
        "rlkit.agents.tabular.config:DoubleQLearningConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Tabular double Q-learning (van Hasselt 2010); n-step.",
    ),
    "sarsa": Entry(
        "rlkit.agents.tabular.config:SarsaConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Tabular SARSA (Rummery and Niranjan 1994); n-step or with traces.",
    ),
    "expected-sarsa": Entry(
        "rlkit.agents.tabular.config:ExpectedSarsaConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Tabular expected SARSA (van Seijen et al. 2009); n-step or with traces.",
    ),
    "monte-carlo": Entry(
        "rlkit.agents.tabular.config:MonteCarloConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Tabular Monte-Carlo control, first or every visit, by mean or step size.",
    ),
    "layered-q-iteration": Entry(
        "rlkit.agents.tabular.config:LayeredQIterationConfig",
        "rlkit.agents.tabular.tabular:Tabular",
        "Q from trials alone, the last step of an episode first, for envs such as the number triangle.",
    ),
}


def entry(name: str) -> Entry:
    """The registry's entry; UserError with the nearest names where there is none."""
    if not isinstance(name, str):
        raise unknown("agent", name, REGISTRY)
    if name not in REGISTRY:
        raise unknown("agent", name, REGISTRY)
    return REGISTRY[name]


def config_class(name: str) -> type[TrainConfig]:
    """The agent's config class; loads no TensorFlow."""
    return cast("type[TrainConfig]", _load(entry(name).config))


def agent_class(name: str) -> AgentFactory:
    """The agent's class; loads TensorFlow."""
    return cast("AgentFactory", _load(entry(name).agent))


def _load(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
