"""rlkit solve SOLVER --env ENV: plan with the model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.shell_completion import CompletionItem

from rlkit.cli.common import (
    PATH,
    FieldOption,
    FieldType,
    Grouped,
    Name,
    check_no_env,
    complete_env,
    count,
    env_options,
    print_json,
)
from rlkit.errors import UserError

if TYPE_CHECKING:
    from rlkit.api.solving import Problem
    from rlkit.exact.solution import Solution


class Solver(Name):
    """A planner's name; the list is read when it is needed."""

    def __init__(self) -> None:
        super().__init__("solver", ())

    def names(self) -> list[str]:
        """Every planner, "auto" first."""
        from rlkit.api.catalogue import SOLVERS

        return list(SOLVERS)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "[SOLVER]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        self.choices = tuple(self.names())
        if value not in self.choices:
            check_no_env(value, f"rlkit solve auto --env {value}")
        return super().convert(value, param, ctx)


def number(flag: str, **bounds: float) -> FieldType:
    """The type of an option that takes a number within bounds."""
    return FieldType(flag, float, {"low": None, "high": None, "above": None, **bounds})


def problem_options() -> list[click.Parameter]:
    """What names the problem, and the discount and horizon of its model."""
    return [
        FieldOption(
            ["--env"], help="Gymnasium id of an env with a model.", group="problem", shell_complete=complete_env
        ),
        FieldOption(["--mdp"], type=PATH, help="A file that FiniteMDP.save wrote, .npz.", group="problem"),
        FieldOption(
            ["--gamma"],
            type=number("--gamma", low=0, high=1),
            help="Discount of a step.  [a file's own; else 1, where episodes end]",
            group="problem",
        ),
    ]


def triangle_options(*, short: bool) -> list[click.Parameter]:
    """The number triangle's own flags, in place of --env; with the short one for its seed unless that is taken."""
    seed = ["--seed"] if short else []
    return [
        FieldOption(["--triangle"], metavar="FILE", help="Text file of rows of numbers.", group="triangle"),
        FieldOption(["--rows"], type=count("--rows"), help="Rows of a random triangle.", group="triangle"),
        FieldOption(
            [*seed, "--triangle-seed", "triangle_seed"],
            type=count("--triangle-seed", 0),
            help="Seed of its numbers.  [0]" if short else "Seed of its numbers.  [--seed]",
            group="triangle",
        ),
        FieldOption(
            ["--slip"],
            type=number("--slip", low=0, high=1),
            help="Probability that the other action happens.  [0]",
            group="triangle",
        ),
    ]


def tolerance_option(default: float) -> FieldOption:
    """How near the optimum values have to be."""
    return FieldOption(
        ["--tolerance"],
        type=number("--tolerance", above=0),
        default=default,
        help=f"Largest distance from the optimal values, proven.  [{default:g}]",
        group="solver",
    )


class ProblemCommand(Grouped):
    """A command on a problem: the arguments of the env that is named are flags too, else the triangle's are."""

    groups: ClassVar[Mapping[str, str]] = {
        "problem": "Problem",
        "triangle": "Number triangle, in place of --env",
        "env": "Env",
        "solver": "Solver",
        "learner": "Learners",
        "run": "Runs",
        "output": "Output",
    }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word, following in itertools.pairwise([*args, ""]):
            if word == "--env" or word.startswith("--env="):
                ctx.meta["rlkit.env"] = word.partition("=")[2] or following
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if "rlkit.options" not in ctx.meta:
            ctx.meta["rlkit.options"] = self.of_problem(ctx)
        return [*ctx.meta["rlkit.options"], *super().get_params(ctx)]

    def of_problem(self, ctx: click.Context) -> list[click.Parameter]:
        """The env's arguments as options, or the triangle's."""
        env = ctx.meta.get("rlkit.env")
        if not env:
            return triangle_options(short=all("--seed" not in option.opts for option in self.params))
        try:
            return [*env_options(env, self.params)]
        except UserError:
            if ctx.resilient_parsing:  # a shell completes the line before it is right
                return []
            raise


def read_problem(values: dict[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """The problem that the flags name, and the arguments of its env; takes both out of the values.

    Raises:
        UserError: none is named, or more than one.
    """
    from rlkit.api.solving import TRIANGLE
    from rlkit.exact.mdp import FiniteMDP

    env, path = values.pop("env"), values.pop("mdp")
    own = {str(option.name): option.opts[0] for option in click.get_current_context().meta["rlkit.options"]}
    env_args = {name: value for name in own if (value := values.pop(name)) is not None}
    if path is not None and (env or env_args):
        raise UserError(f"--mdp and {'--env' if env else own[next(iter(env_args))]} exclude each other")
    if path is not None:
        return FiniteMDP.load(path), {}
    if env:
        return env, env_args
    if not {"triangle", "rows"} & set(env_args):
        raise UserError(
            "no problem is given: name an env with --env, such as FrozenLake-v1, a file with --mdp, or a number "
            "triangle with --triangle FILE or --rows N"
        )
    return TRIANGLE, env_args


def planner_options() -> list[click.Parameter]:
    """What single planners take."""
    return [
        FieldOption(
            ["--method"],
            type=Name("method", ("jacobi", "gauss-seidel", "prioritized")),
            help="Of value-iteration: the order of its backups.  [gauss-seidel]",
            group="solver",
        ),
        FieldOption(
            ["--evaluation"],
            type=Name("evaluation", ("exact", "iterative")),
            help="Of policy-iteration: how it evaluates a policy.  [exact]",
            group="solver",
        ),
        FieldOption(
            ["--sweeps"],
            type=count("--sweeps"),
            help="Of modified-policy-iteration: sweeps of a policy.  [more, the fewer states change their action]",
            group="solver",
        ),
        FieldOption(
            ["--forcing"],
            type=number("--forcing", above=0, high=1),
            help="Of inexact-policy-iteration: share of the residual to which it solves.  [0.1]",
            group="solver",
        ),
    ]


def take_options(solver: str, values: dict[str, Any]) -> dict[str, Any]:
    """The planner's own options, taken out of the values; UserError for one that it does not take."""
    from rlkit.api.catalogue import SOLVER_OPTIONS

    names = [name for takes in SOLVER_OPTIONS.values() for name in takes]
    given = {name: value for name in names if (value := values.pop(name)) is not None}
    for name in given:
        if name not in SOLVER_OPTIONS.get(solver, ()):
            (owner,) = (solver for solver, takes in SOLVER_OPTIONS.items() if name in takes)
            raise UserError(f"{solver} takes no --{name}: that is an option of {owner}")
    return given


def options() -> list[click.Parameter]:
    """Every option of the command but those of the env."""
    return [
        *problem_options(),
        FieldOption(["--horizon"], type=count("--horizon"), help="Steps after which an episode ends.", group="problem"),
        tolerance_option(1e-6),
        FieldOption(
            ["--max-iterations"],
            type=count("--max-iterations"),
            default=100_000,
            help="The solver's budget.  [100000]",
            group="solver",
        ),
        FieldOption(
            ["--allow-unconverged"],
            is_flag=True,
            help="When the budget is used up, show what there is.",
            group="solver",
        ),
        *planner_options(),
        FieldOption(
            ["--picture"],
            type=PATH,
            metavar="FILE",
            help=".png, or .gif with a frame a sweep or layer.",
            group="output",
        ),
        FieldOption(
            ["--save"],
            type=PATH,
            metavar="FILE",
            help="Write values, policy, q and bound, .npz.",
            group="output",
        ),
        FieldOption(
            ["--json", "as_json"],
            is_flag=True,
            help="Print one JSON object, and nothing else, to stdout.",
            group="output",
        ),
        click.Argument(["solver"], type=Solver(), default="auto"),
    ]


@click.command(
    cls=ProblemCommand,
    params=options(),
    short_help="Plan with a known model: exact, certified.",
    epilog="Such as: rlkit solve --env FrozenLake-v1 --gamma 0.99; rlkit solve --rows 6 --seed 1 --slip 0.25",
)
def solve(solver: str, picture: Path | None, save: Path | None, as_json: bool, **values: Any) -> None:  # noqa: ANN401
    """Solve an env whose model is known, and prove how far the answer can be from the optimum.

    SOLVER is a name that `rlkit list solvers` shows; auto, the default, picks one by the model's shape and says why.
    With --env ENV, the env's own arguments are flags too.
    """
    from rlkit.files import check_output

    own = take_options(solver, values)
    for path, endings in ((picture, (".png", ".gif")), (save, (".npz",))):
        if path is not None:
            check_output(path, *endings)
    problem, env_args = read_problem(values)
    from rlkit.api import solution_pictures, solving

    with solving.opened(problem, env_args) as opened:
        solution = solving.solve(opened, solver, **values, **own)
        if as_json:
            print_json(solution.to_dict())
        else:
            show(solution, solver, solution_pictures.text(opened, solution))
        if save is not None:
            solving.save(solution, save)
        if picture is not None:
            solution_pictures.draw(opened, solution, picture, solver=solver, **own)
    if not as_json:
        for path in (save, picture):
            if path is not None:
                click.echo(path)


def show(solution: Solution, solver: str, text: str | None) -> None:
    """The answer for people."""
    size = "{states:,} states, {actions} actions, {outcomes:,} outcomes, gamma {gamma:g}".format(**solution.size)
    if solution.size["horizon"] is not None:
        size += f", horizon {solution.size['horizon']}"
    click.echo(size)
    if solver == "auto":
        click.echo(f"auto takes {solution.solver}: {solution.why}")
    click.echo(f"value at the start {solution.value_at_start:.10g}, {proven(solution)}")
    times = "iteration" if solution.iterations == 1 else "iterations"
    click.echo(f"{solution.solver}: {solution.iterations:,} {times}, {duration(solution.seconds)}")
    if text:
        click.echo("\n" + text)


def proven(solution: Solution) -> str:
    """How near the optimum."""
    if solution.bound == 0:
        return "the optimum, proven"
    if solution.bound < float("inf"):
        close = f"within {solution.bound:.2g} of the optimum, proven"
        return close if solution.converged else f"not converged: {close}"
    return "not converged: nothing could be proven on how far from the optimum"


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.1 else f"{seconds:.2f} s"
