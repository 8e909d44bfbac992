"""The interface between agents and environments: vector envs, functional envs, evaluation."""
