"""Training as a whole: from a name and an env to a finished run, from Python or the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rlkit import agents, envs, run
from rlkit.agent import Agent, AgentFactory, Learner, RolloutAgent
from rlkit.agents.chains import Chains
from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.pqn_config import PQNConfig
from rlkit.agents.q_agent import QAgent
from rlkit.agents.tabular_config import TabularConfig
from rlkit.checkpoint import Checkpointer
from rlkit.compiled import CompiledLoop, Program, ReplayProgram, run_together
from rlkit.config import ReplayConfig, RolloutConfig, TrainConfig, build, checked, path_argument
from rlkit.devices import configure, fast_precision, onednn, settled, threads
from rlkit.disk import check_room, room_for, size_text
from rlkit.errors import FailedRunsError, UserError, WriteError
from rlkit.evaluation import Evaluation, Policy, evaluate
from rlkit.experiments.configuration import check_env_args, resolve
from rlkit.experiments.ending import in_turn, recorded
from rlkit.experiments.regret import Regret, model_of
from rlkit.experiments.resuming import check_unfinished, go_on, texts
from rlkit.experiments.saying import RangeWatch, Say, bar_label, labelled, silent
from rlkit.frames import FrameReplay
from rlkit.loop import AgentLoop, HostLoop, compile_policy
from rlkit.metrics import CsvObserver, ProgressObserver, Row, TensorBoardObserver
from rlkit.networks import fitting_network
from rlkit.profiling import Profiler
from rlkit.recurrent_loop import RecurrentLoop
from rlkit.replay import Replay
from rlkit.rollout import RolloutLoop, RolloutProgram
from rlkit.run import AnyRun, RunDirectory
from rlkit.seeding import run_evaluation_seed
from rlkit.sequences import SequenceReplay
from rlkit.simulation import Simulator, simulator
from rlkit.tabular_loop import TabularLoop
from rlkit.vector import Environments, make_vector, single, stacks_frames

if TYPE_CHECKING:
    from rlkit.agents.tabular import Tabular
    from rlkit.mdp import FiniteMDP

EVALUATION_ENVS = 100
"""Most envs that an evaluation runs at once."""

EVALUATION_GAMES = 16
"""The same for Atari's games, each of which takes a tenth of a second to make."""


def evaluation_envs(env: str, episodes: int) -> int:
    """How many envs play some episodes."""
    return min(episodes, EVALUATION_GAMES if envs.game(env) else EVALUATION_ENVS)


@dataclass(frozen=True)
class Run(AnyRun):
    """A run on disk, to evaluate and play."""

    config: TrainConfig

    def agent(self, checkpoint: str = "best") -> tuple[Learner, int]:
        """The trained agent, and the step that it was saved at.

        Args:
            checkpoint: "best", "last" or a step's number.
        """
        with configure(self.config):
            return self._agent(checkpoint)

    def _agent(self, checkpoint: str) -> tuple[Learner, int]:
        probe = make_vector(envs.find(self.config.env), self.config.env_args, 1, "resettable")
        try:
            make = agents.agent_class(self.directory.agent)
            config = self.config.replace(precision="float32") if isinstance(self.config, DQNConfig) else self.config
            agent = make(config, probe.single_observation_space, probe.single_action_space)
        finally:
            probe.close()
        step = Checkpointer(self.directory.checkpoints, agent).restore_agent(checkpoint)
        if isinstance(self.config, TabularConfig):
            cast("Tabular", agent).adopt()
        return agent, step

    def counts(self) -> dict[str, int]:
        """Frames of the console, where the env is an Atari game."""
        each = envs.frames_per_step(self.config.env, self.config.env_args)
        return {"frames": each * self.directory.step} if each else {}

    def policy(self, num_envs: int = 1, checkpoint: str = "best", runtime: str = "tensorflow") -> tuple[Policy, int]:
        """The greedy policy for N observations, and the step that it was saved at.

        Args:
            num_envs: N.
            checkpoint: "best", "last" or a step's number.
            runtime: one of "tensorflow", "litert".
        """
        checked("runtime", runtime, Literal["tensorflow", "litert"])
        num_envs = checked("num_envs", num_envs, int, low=1)
        if runtime == "litert":
            return self._litert(num_envs, checkpoint)
        with configure(self.config):
            agent, step = self.agent(checkpoint)
            policy = compile_policy(agent, self._space(), num_envs)
        return policy, step

    def _space(self) -> gymnasium.Space[Any]:
        """The space of one observation."""
        with contextlib.closing(
            make_vector(envs.find(self.config.env), self.config.env_args, 1, "resettable")
        ) as probe:
            return probe.single_observation_space

    def values(self, checkpoint: str = "best") -> Callable[[np.ndarray], np.ndarray]:
        """From one observation, [1, ...], to the trained agent's values of its actions, [1, A] float32.

        Args:
            checkpoint: "best", "last" or a step's number.

        Raises:
            UserError: the agent's values are not those of the observation alone.
        """
        with configure(self.config):
            agent, _ = self.agent(checkpoint)
        if isinstance(self.config, TabularConfig):
            table, first = cast("Tabular", agent).q.numpy().mean(axis=0), cast("Tabular", agent).first_state
            return lambda observations: table[np.asarray(observations) - first].astype(np.float32)
        if not isinstance(agent, QAgent) or remembers(self.config):
            raise UserError(
                f"the values of {self.path} cannot be drawn: its network remembers, so they are not those of an "
                "observation alone"
            )
        return lambda observations: agent.q(observations, training=False).numpy()

    def _litert(self, num_envs: int, checkpoint: str) -> tuple[Policy, int]:
        """As `policy`, by LiteRT."""
        from rlkit.experiments.exporting import write_tflite  # noqa: PLC0415 - it imports this module
        from rlkit.litert import LiteRTPolicy  # noqa: PLC0415 - beside what makes its file

        with tempfile.TemporaryDirectory(prefix="rlkit-") as folder:
            file = Path(folder) / "model.tflite"
            step = write_tflite(self, file, checkpoint)
            return LiteRTPolicy(file, num_envs, self._space(), own=True), step

    def _players(self, num_envs: int, checkpoint: str, runtime: str) -> tuple[Policy, int, VectorEnv]:
        """The policy, its step and the envs for an evaluation: N, or one where no more can be open at once."""
        policy, step = self.policy(num_envs, checkpoint, runtime)
        try:
            return policy, step, make_vector(envs.find(self.config.env), self.config.env_args, num_envs, "resettable")
        except UserError:
            if num_envs == 1:
                raise
        return self._players(1, checkpoint, runtime)

    def evaluate(
        self,
        episodes: int = 100,
        seed: int = 0,
        checkpoint: str = "best",
        runtime: str = "tensorflow",
        epsilon: float = 0.0,
        say: Say = silent,
    ) -> Evaluation:
        """Episodes on seeds that training never used; also saved as evaluation.json in the run.

        Args:
            episodes: how many.
            seed: of the evaluation; runs of different training seeds play different episodes by it.
            checkpoint: "best", "last" or a step's number.
            runtime: one of "tensorflow", "litert".
            epsilon: share of actions that are uniform in place of greedy ones, in [0, 1].
            say: told now and then how far it has come.

        Raises:
            UserError: there is no such checkpoint, or it is damaged.
        """
        episodes, seed = checked("episodes", episodes, int, low=1), checked("seed", seed, int, low=0)
        epsilon = checked("epsilon", epsilon, float, low=0, high=1)
        policy, step, vector = self._players(evaluation_envs(self.config.env, episodes), checkpoint, runtime)
        try:
            with configure(self.config):
                mixed, watch = run_evaluation_seed(seed, self.config.seed), watching(episodes, say)
                result = evaluate(policy, vector, episodes, mixed, epsilon=epsilon, watch=watch)
                result = dataclasses.replace(result, seed=seed, step=step)
        finally:
            vector.close()
        self.record(checkpoint, result)
        return result

    def record(self, checkpoint: str, result: Evaluation) -> None:
        """Write an evaluation to evaluation.json; a run that cannot be written to can still be evaluated."""
        with contextlib.suppress(OSError):
            text = json.dumps({"checkpoint": checkpoint, **result.to_dict()})
            run.replace_text(self.path / "evaluation.json", text + "\n")


WATCHED = 5.0
"""Seconds between two words on how far an evaluation has come."""


def watching(episodes: int, say: Say) -> Callable[[int, int], None]:
    """A function of the episodes that have ended and each env's steps, which says now and then how far they are."""
    told = time.monotonic()

    def watch(ended: int, steps: int) -> None:
        nonlocal told
        if time.monotonic() - told >= WATCHED:
            told = time.monotonic()
            say(f"evaluation: {ended:,} of {episodes:,} episodes have ended, after {steps:,} steps of each env")

    return watch


def train(
    agent: str,
    env: str | None = None,
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: str | bool | None = None,
    **fields: Any,  # noqa: ANN401 - any field of the agent's config
) -> Run:
    """Train an agent and return its run.

    >>> run = train("dqn", "CartPole-v1", seed=0, steps=2_000)  # doctest: +SKIP

    Args:
        agent: name in the registry, such as "dqn".
        env: Gymnasium id.
        run_dir: folder in which the run's own folder is made.
        preset: a preset's name, "none", or "auto" for the env's own where there is one.
        config: a TOML file of fields.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.
        **fields: any field of the agent's config; the last word.

    Raises:
        UserError: whatever of this is wrong, before anything is written; or the loss is not finite.
    """
    label, folder = bar_label(progress), path_argument("run_dir", run_dir)
    file = path_argument("config", config) if config else None
    resolved, taken = resolve(agent, env, preset=preset, config=file, fields=fields)
    (run,) = _start(agent, [resolved], taken, folder, say, label)
    return run


def train_seeds(  # noqa: PLR0913 - train's, and seeds
    agent: str,
    env: str | None,
    seeds: Sequence[int],
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: bool = False,
    **fields: Any,  # noqa: ANN401 - any field of the agent's config
) -> list[Run]:
    """Train an agent with several seeds and return their runs.

    The compiled loop trains them at once in one program; else they are trained in turn, until one is interrupted.
    Where one fails, the others go on.

    Args:
        agent: name in the registry, such as "dqn".
        env: Gymnasium id.
        seeds: one for each run.
        run_dir: folder in which the runs' own folders are made.
        preset: a preset's name, "none", or "auto" for the env's own where there is one.
        config: a TOML file of fields.
        say: told what a person may want to know.
        progress: show progress bars on stderr.
        **fields: any other field of the agent's config; the last word.

    Raises:
        FailedRunsError: some have failed; it has the runs of the others.
        UserError: whatever is wrong before anything is written.
    """
    file, folder = path_argument("config", config) if config else None, path_argument("run_dir", run_dir)
    given: object = seeds
    seeds = checked("seeds", list(given) if isinstance(given, Iterable) else given, tuple[int, ...])
    if not seeds:
        raise UserError("seeds is empty, expected at least one")
    resolved = [resolve(agent, env, preset=preset, config=file, fields={**fields, "seed": seed}) for seed in seeds]
    configs, taken = [c for c, _ in resolved], resolved[0][1]
    if len(seeds) > 1 and looping(configs[0])[0] == "compiled":
        return _start(agent, configs, taken, folder, say, f"{len(seeds)} seeds: " if progress else None)
    by_seed = {c.seed: c for c in configs}

    def start(seed: int) -> list[Run]:
        label = f"seed {seed}: "
        return _start(agent, [by_seed[seed]], taken, folder, labelled(say, label), label if progress else None)

    return in_turn(seeds, start)


def _start(
    agent: str, configs: list[TrainConfig], preset: str | None, run_dir: Path, say: Say, progress: str | None
) -> list[Run]:
    """Train new runs whose configs differ in the seed alone."""
    loop, why = looping(configs[0])
    configs = [_settled(c, say if c is configs[0] else silent).replace(loop=loop) for c in configs]
    with _Session(agent, configs, say) as session:
        directories = [session.enter_context(run.preparing(run_dir, agent, c.env, c.seed)) for c in configs]
        say(f"preset: {preset}" if preset else "preset: none, the defaults")
        say(f"loop: {loop}, {why}")
        if isinstance(c := configs[0], ReplayConfig) and c.priority_exponent:
            say(f"priorities: {_priorities_text(c)}")
        return session.train(directories, progress=progress)


def _priorities_text(config: ReplayConfig) -> str:
    """The way of a prioritized replay."""
    begun = config.importance_exponent
    if begun is None:
        return "LAP, without importance weights"
    return f"proportional, importance exponent {begun:g} to 1 at step {config.importance_duration:,}"


def _settled(config: TrainConfig, say: Say) -> TrainConfig:
    """A config whose threads and precision are those that the run begins with, so that it goes on with them."""
    with configure(config):
        config = settled(config, say)
        auto = isinstance(config, DQNConfig) and config.precision == "auto"
        return config.replace(precision=fast_precision()) if auto else config


def looping(config: TrainConfig) -> tuple[Literal["host", "compiled"], str]:
    """The loop that a config asks for, or "auto" takes, and why.

    Raises:
        UserError: the compiled loop is asked for and cannot be had.
    """
    c = config
    if c.loop == "host":
        return "host", "as asked"
    against = None
    if not c.jit:
        against = "jit is off"
    elif c.vectorization != "auto":
        against = f"vectorization is {c.vectorization}"
    elif remembers(c):
        against = "network is lstm"
    elif isinstance(c, ReplayConfig) and c.priority_exponent:
        against = "priority_exponent is above 0"
    elif isinstance(c, ReplayConfig) and c.overlap:
        against = "overlap is on"
    elif envs.twin(c.env, c.env_args) is None:
        arguments = f" with {c.env_args}" if c.env_args else ""
        against = f"env {c.env!r}{arguments} is not there as tensor functions"
    if c.loop == "compiled":
        if against:
            several = " and num_envs 1" if isinstance(c, TabularConfig) and c.num_envs > 1 else ""
            raise UserError(f"loop is compiled, but {against}: take host{several}")
        return "compiled", "as asked"
    if isinstance(c, TabularConfig):
        return "host", "as fast as a table can be learned"
    return ("host", f"as {against}") if against else ("compiled", "env, replay and learner in one program")


def remembers(config: TrainConfig) -> bool:
    """Whether the agent of a config has a memory."""
    return isinstance(config, DQNConfig) and config.network == "lstm"


def make_replay(config: ReplayConfig, space: gymnasium.Space[Any], *, frames: bool = False) -> Replay:
    """The replay that an agent of a config learns from; UserError where it cannot fit in memory.

    Args:
        config: of the agent.
        space: of the env's observations.
        frames: whether these are the last frames, of which each is then kept once.
    """
    c = config
    if isinstance(c, DQNConfig) and remembers(c):
        return SequenceReplay(c.buffer_size, c.num_envs, space, c.gamma, c.burn_in, c.sequence_length)
    make = FrameReplay if frames else Replay
    lap = c.importance_exponent is None
    return make(c.buffer_size, c.num_envs, space, c.n_step, c.gamma, c.priority_exponent, lap)


def resume(
    path: str | Path,
    *,
    steps: int | None = None,
    trust: bool = False,
    say: Say = silent,
    progress: str | bool | None = None,
) -> Run:
    """Continue a run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        steps: go on to this many steps instead of the config's.
        trust: import the code that the config of a run of another's names.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.

    Raises:
        UserError: the path is no run, the run is in use, finished, has no checkpoint that can be read, or is another's,
            is not to be trusted and its config names code.
    """
    directory = run.find(path, run.untrained, verb="train", say=say, begun=True)
    config = read_config(directory, trust, say)
    if steps is not None:
        config = config.replace(steps=steps)
    check_unfinished(directory, config.steps, given=steps is not None)
    with _Session(directory.agent, [config], say) as session:
        (resumed,) = session.train([directory], progress=bar_label(progress), resuming=not directory.prepared)
    return resumed


def load(path: str | Path, say: Say = silent, *, trust: bool = False) -> Run:
    """The run at a path, or the newest one below it that has a checkpoint.

    Args:
        path: the run's folder, or one that holds runs.
        say: told what a person may want to know.
        trust: import the code that the config of a run of another's names.

    Raises:
        UserError: there is no such run, or it is another's, is not to be trusted and its config names code.
    """
    directory = run.find(path, run.untrained, verb="train", say=say)
    return Run(directory, read_config(directory, trust, say))


def read_config(directory: RunDirectory, trust: bool = False, say: Say = silent) -> TrainConfig:
    """A run's config, checked.

    Args:
        directory: of the run.
        trust: import the code that it names, also where the run is another's.
        say: told where the file is damaged.

    Raises:
        UserError: its model is none of an agent, or it names code that is not trusted.
    """
    directory.require("train")
    config = build(agents.config_class(directory.agent), (str(directory.path / "config.toml"), directory.config(say)))
    directory.check_trust(config.to_dict(), trust)
    check_env_args(config.env, config.env_args)
    return config


class _Share:
    """One of several runs in a common progress bar, which counts the steps of all of them."""

    def __init__(self, bar: ProgressObserver, loops: Sequence[AgentLoop], loop: AgentLoop) -> None:
        self.bar, self.loops, self.loop = bar, loops, loop

    def row(self, step: int, row: Row, seconds: float) -> None:
        self.bar.row(self._steps(step), row, seconds)

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        self.bar.evaluation(self._steps(step), values, returns)

    def _steps(self, step: int) -> int:
        return step + sum(loop.step for loop in self.loops if loop is not self.loop)


class Forecast:
    """Says once how long the rest will take, at the rate of the first minute of learning.

    Args:
        steps: where the run ends.
        say: told it.
    """

    MINUTE = 60.0

    def __init__(self, steps: int, say: Say) -> None:
        self.steps, self.say = steps, say
        self.begun: tuple[int, float] | None = None
        self.said = False

    def row(self, step: int, row: Row, seconds: float) -> None:
        if self.said or row.get("loss") is None:
            return
        if self.begun is None:
            self.begun = step, seconds
            return
        first, since = self.begun
        if seconds - since >= self.MINUTE:
            rate = (step - first) / (seconds - since)
            self.say(f"{rate:,.0f} steps/s: about {time_text((self.steps - step) / rate)} to go")
            self.said = True

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        del step, values, returns


def time_text(seconds: float) -> str:
    """A duration for people: 2 h 05 min, or 3 min."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


class _Session(contextlib.ExitStack):
    """All that runs need in memory, made and checked before their folders exist.

    Args:
        agent: name in the registry.
        configs: of one run, or of several that the compiled loop trains at once, which differ in the seed alone.
        say: told what a person may want to know.
    """

    def __init__(self, agent: str, configs: Sequence[TrainConfig], say: Say) -> None:
        super().__init__()
        self.name, self.configs, self.config, self.say = agent, configs, configs[0], say
        self.lent: Environments | None = None

    def __enter__(self) -> _Session:
        super().__enter__()
        c = self.config
        try:
            self.enter_context(configure(c))
            compiled = looping(c)[0] == "compiled"
            self.twin = envs.twin(c.env, c.env_args) if compiled else None
            vector = make_vector(
                envs.find(c.env), c.env_args, *((1, "resettable") if compiled else (c.num_envs, c.vectorization))
            )
            self.callback(vector.close)
            space = vector.single_observation_space
            model, frames = None, False
            # in an env of these, of which there may be room for no more
            with single(vector, envs.find(c.env), c.env_args) as one:
                if isinstance(c, ReplayConfig | RolloutConfig | TabularConfig):
                    model = model_of(one, c.gamma, self.say)
                if isinstance(c, ReplayConfig):
                    frames = stacks_frames(one)
            chains = compiled and isinstance(c, TabularConfig)
            make: AgentFactory = Chains if chains else agents.agent_class(self.name)
            self.agents = [make(config, space, vector.single_action_space) for config in self.configs]
            if isinstance(self.agents[0], Chains) and (told := self.agents[0].open_episodes):
                self.say(told)
            if isinstance(c, DQNConfig) and c.network == "auto":
                c = self._fit_network(c, space)
            elif isinstance(c, PQNConfig):
                self._say_flattened(space)
            known = model if model and not remembers(c) else None  # what the agent does is no function of the state
            self.regrets = [Regret(known, agent, space) if known else None for agent in self.agents]
            self.replays = [
                make_replay(c, space, frames=frames) if isinstance(c, ReplayConfig) else None for _ in self.configs
            ]
            real = Environments(vector, c.seed)
            if real.masks:
                self.say(f"env {c.env!r} reports an action_mask, which is ignored: agents may take any action")
            self.source: Environments | Simulator | None = None if compiled else real
            if isinstance(c, TabularConfig) and not compiled:
                self.source = self._source(c, real, model)
            self.exact = not isinstance(self.source, Environments) or self.source.saves_exactly()
        except BaseException:
            self.close()
            raise
        return self

    def _fit_network(self, config: DQNConfig, space: gymnasium.Space[Any]) -> TrainConfig:
        """The config with the network that its agents took by themselves, which the run keeps."""
        network = fitting_network(space)
        self.configs = [c.replace(network=network) for c in self.configs]
        self.config = self.configs[0]
        if network != "mlp":
            self.say(f"network: {network}, as the observations are pictures, {space.shape}")
        else:
            self._say_flattened(space)
        return self.config

    def _say_flattened(self, space: gymnasium.Space[Any]) -> None:
        """Say that dense layers take a picture or a matrix as a row, where it is one."""
        if len(space.shape or ()) > 1:
            self.say(f"network: mlp, which sees the {np.prod(space.shape or ()):,} numbers of {space.shape} as a row")

    def _source(self, config: TabularConfig, real: Environments, model: FiniteMDP | None) -> Environments | Simulator:
        """Where a tabular learner's transitions come from."""
        if config.simulate == "env":
            return real
        tables = simulator(model, envs.find(config.env).max_episode_steps or 0) if model else None
        if tables is not None:
            self.say("simulate: the env's model, in compiled code")
            return tables
        if config.simulate == "model":
            raise UserError(f"simulate is model, but env {config.env!r} has none that can be sampled: take env")
        self.say("simulate: the env itself, which has no model that can be sampled")
        return real

    def _loops(self, directories: Sequence[RunDirectory]) -> list[AgentLoop]:
        """A loop for each run."""
        c = self.config
        checkpointers = [
            Checkpointer(directory.checkpoints, agent, replay, c.keep_checkpoints)
            for directory, agent, replay in zip(directories, self.agents, self.replays, strict=True)
        ]
        replays = [replay for replay in self.replays if replay is not None]
        self._check_room(directories, checkpointers[0].nbytes, replays)
        if self.twin is not None:
            limit = envs.find(c.env).max_episode_steps
            program: Program
            if replays:
                program = ReplayProgram(cast("Agent", self.agents[0]), replays[0], self.twin, limit)
            else:
                program = RolloutProgram(cast("RolloutAgent", self.agents[0]), self.twin, limit)
            compilable = cast("list[Agent | RolloutAgent]", self.agents)
            return [CompiledLoop(program, *pair) for pair in zip(compilable, checkpointers, strict=True)]
        (agent,), (checkpointer,), evaluator = self.agents, checkpointers, self._evaluator()
        assert self.source is not None
        if isinstance(c, TabularConfig):
            return [TabularLoop(cast("Tabular", agent), self.source, checkpointer, evaluator)]
        assert isinstance(self.source, Environments)
        if isinstance(c, RolloutConfig):
            return [RolloutLoop(cast("RolloutAgent", agent), self.source, checkpointer, evaluator)]
        make = RecurrentLoop if remembers(c) else HostLoop
        return [make(cast("Agent", agent), self.source, replays[0], checkpointer, evaluator)]

    def _check_room(self, directories: Sequence[RunDirectory], agent: int, replays: Sequence[Replay]) -> None:
        """Tell the memory and the disk that the runs take; UserError where the disk has less.

        Args:
            directories: of the runs.
            agent: bytes of an agent in a checkpoint.
            replays: of agents that have one.
        """
        c, each = self.config, " for each seed" if len(directories) > 1 else ""
        disk = room_for(c, agent)
        if replays:
            held = replays[0].rows * c.num_envs
            self.say(f"replay: {held:,} transitions, {size_text(replays[0].nbytes)} of memory{each}")
            rows = min(held + c.keep_checkpoints * c.checkpoint_interval, c.steps)  # older ones are of no use to any
            disk += replays[0].nbytes * rows / held
            disk += (c.keep_checkpoints + 1) * sum(array.nbytes for array in replays[0].state().values())
            self.say(f"checkpoints: up to {size_text(disk)} of disk{each}")
        fields = "buffer_size or keep_checkpoints" if replays else "keep_checkpoints"
        check_room([directory.checkpoints for directory in directories], disk, fields)

    def _begin(self, loops: Sequence[AgentLoop], directories: Sequence[RunDirectory], resuming: bool) -> None:
        """Put loops where they start, or go on; new runs take their places with a first checkpoint."""
        dicts = [config.to_dict() for config in self.configs]
        for loop, directory, regret, config in zip(loops, directories, self.regrets, dicts, strict=True):
            loop.regret = regret
            loop.lent = self.lent
            if resuming:
                go_on(loop, directory, config, self.say)
                directory.running(threads=threads(), onednn=onednn())
            else:
                loop.checkpointer.texts = texts(directory, config)
                loop.begin_run()
        for loop, directory, config in zip(loops, directories, dicts, strict=True):
            if not resuming:
                directory.settle(config)
                loop.checkpointer.move(directory.checkpoints)
            loop.observers = [CsvObserver(directory.path), TensorBoardObserver(directory.path)]

    def train(self, directories: Sequence[RunDirectory], *, progress: str | None, resuming: bool = False) -> list[Run]:
        """Train in the runs' folders until they end one way or another."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(run.resumable(directories))
            for directory, config in zip(directories, self.configs, strict=True):
                stack.enter_context(directory.lock())
                if not resuming:
                    directory.running(threads=threads(), onednn=onednn())
                    directory.begin(config.to_dict())
            loops = self._loops(directories)
            self._begin(loops, directories, resuming)
            if not resuming and not self.exact:
                self.say("this env's state cannot be saved: a resumed run would start fresh episodes")
            first = loops[0]
            if (self.config.steps - first.step) % first.stride:
                more = first.stride - 1
                self.say(
                    f"steps: {self.config.steps:,}, and up to {more:,} more to the end of a round of {first.stride:,}"
                )
            if self.config.profile and isinstance(first, HostLoop | RolloutLoop | CompiledLoop):
                few = {"first": 0, "last": 0} if isinstance(first, CompiledLoop) else {}  # thousands of steps each
                first.profiler = Profiler(directories[0].path, first.program.learn_function.graph, **few)
            first.observers = [*first.observers, Forecast(self.config.steps, self.say)]
            self._watch_ranges(loops)
            if progress is not None:
                bar = ProgressObserver(self.config.steps * len(loops), first.step, label=progress)
                stack.enter_context(bar)
                for loop in loops:
                    loop.observers = [*loop.observers, bar if len(loops) == 1 else _Share(bar, loops, loop)]
            statuses = ["failed"] * len(loops)
            with recorded(directories, loops, statuses, self.say):
                failures = self._run(loops, statuses)
            for i, error in failures.items():
                if isinstance(error, WriteError):
                    failures[i] = run.unwritten(str(error), [directories[i]])
        runs = [
            Run(directory, config)
            for i, (directory, config) in enumerate(zip(directories, self.configs, strict=True))
            if i not in failures
        ]
        if failures:
            told = {self.configs[i].seed: str(error) for i, error in failures.items()}
            raise FailedRunsError(told, runs) from next(iter(failures.values()))
        return runs

    def _run(self, loops: Sequence[AgentLoop], statuses: list[str]) -> dict[int, UserError]:
        """Train until all loops have ended, and put how they did; the errors of those that failed, by their index.

        Raises:
            KeyboardInterrupt: a second Ctrl-C, or one where all had been learned already.
        """
        first, failures = loops[0], {}
        if len(loops) > 1:
            failures = run_together(cast("list[CompiledLoop]", loops), statuses)
        else:
            try:
                statuses[0] = first.run()
            except UserError as error:
                failures[0] = error
        if isinstance(first, TabularLoop) and not failures and (short := first.agent.shortfall()):
            self.say(f"{short:,} pairs of state and action had too few trials: give more --steps")
        if first.interrupted and not failures and "interrupted" not in statuses:
            raise KeyboardInterrupt
        return failures

    def _watch_ranges(self, loops: Sequence[AgentLoop]) -> None:
        """Warn of returns that head c51 cannot hold."""
        for loop, c in zip(loops, self.configs, strict=True):
            if isinstance(c, DQNConfig) and c.head == "c51":
                say = labelled(self.say, f"seed {c.seed}: ") if len(loops) > 1 else self.say
                loop.observers = [*loop.observers, RangeWatch(c.v_min, c.v_max, say)]

    def _evaluator(self) -> Callable[[int], Evaluation] | None:
        c = self.config
        if not c.eval_interval:
            return None
        vector = self._evaluation_envs()
        num_envs = vector.num_envs
        policy = compile_policy(self.agents[0], vector.single_observation_space, num_envs)
        return lambda occasion: evaluate(policy, vector, c.eval_episodes, c.seed, occasion=occasion)

    def _evaluation_envs(self) -> VectorEnv:
        """Envs to evaluate in: the training envs where no others can be open beside them."""
        c, source = self.config, self.source
        try:
            num_envs = evaluation_envs(c.env, c.eval_episodes)
            vector = make_vector(envs.find(c.env), c.env_args, num_envs, "resettable")
        except UserError as error:
            if not isinstance(source, Environments):
                raise
            if source.mode != AutoresetMode.DISABLED:
                raise UserError(f"{error}, beside the training envs: take eval_interval 0") from error
            self.say(f"{error}, beside the training envs: evaluations play in these, between two steps of training")
            self.lent = source
            return source.envs
        self.callback(vector.close)
        return vector
