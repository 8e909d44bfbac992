"""Sessions of training: all that runs need in memory, made and checked before their folders exist, and their course."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rlkit import agents
from rlkit.agents.dqn.config import DQNConfig, remembers
from rlkit.agents.pqn.config import PQNConfig
from rlkit.agents.tabular.config import TabularConfig
from rlkit.agents.tabular.parallel import Chains
from rlkit.api.agent_run import Run, evaluation_envs
from rlkit.api.ending import recorded
from rlkit.api.regret import Regret, model_of
from rlkit.api.resuming import go_on, texts
from rlkit.devices import configure, onednn, threads
from rlkit.envs import lookup, twins
from rlkit.errors import FailedRunsError, UserError, WriteError
from rlkit.exact.sampling import Simulator, simulator
from rlkit.interaction.evaluation import Evaluation, evaluate
from rlkit.interaction.vector import Environments, make_vector, single, stacks_frames
from rlkit.learning.agent import Agent, AgentFactory, RolloutAgent
from rlkit.learning.config import ReplayConfig, RolloutConfig, TrainConfig
from rlkit.loops.acting import compile_policy
from rlkit.loops.compiled import CompiledLoop, Program, run_together
from rlkit.loops.off_policy import HostLoop, RecurrentLoop, ReplayProgram
from rlkit.loops.on_policy import RolloutLoop, RolloutProgram
from rlkit.loops.stepping import AgentLoop
from rlkit.loops.tabular import TabularLoop
from rlkit.networks.q_networks import fitting_network
from rlkit.replay.frames import FrameReplay
from rlkit.replay.sequences import SequenceReplay
from rlkit.replay.uniform import Replay
from rlkit.reporting import Say, labelled, size_text
from rlkit.runs import run_directory
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.disk import check_room, room_for
from rlkit.runs.observers import CsvObserver, Forecast, ProgressObserver, RangeWatch, Row, TensorBoardObserver
from rlkit.runs.profiling import Profiler
from rlkit.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from rlkit.agents.tabular.tabular import Tabular
    from rlkit.exact.mdp import FiniteMDP


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
    elif twins.twin(c.env, c.env_args) is None:
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


class Session(contextlib.ExitStack):
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

    def __enter__(self) -> Session:
        super().__enter__()
        c = self.config
        try:
            self.enter_context(configure(c))
            compiled = looping(c)[0] == "compiled"
            self.twin = twins.twin(c.env, c.env_args) if compiled else None
            vector = make_vector(
                lookup.find(c.env), c.env_args, *((1, "resettable") if compiled else (c.num_envs, c.vectorization))
            )
            self.callback(vector.close)
            space = vector.single_observation_space
            model, frames = None, False
            # in an env of these, of which there may be room for no more
            with single(vector, lookup.find(c.env), c.env_args) as one:
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
        tables = simulator(model, lookup.find(config.env).max_episode_steps or 0) if model else None
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
            limit = lookup.find(c.env).max_episode_steps
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
            stack.enter_context(run_directory.resumable(directories))
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
                    failures[i] = run_directory.unwritten(str(error), [directories[i]])
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
            vector = make_vector(lookup.find(c.env), c.env_args, num_envs, "resettable")
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
