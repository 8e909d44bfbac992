"""Requests that are wrong by construction, for a server of an agent that observes four numbers."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from rlkit.experiments.benchmarks.serving import GOOD, NAME, PREDICT


class Request(NamedTuple):
    """What is sent."""

    method: str
    path: str
    body: bytes


def _json(value: Any) -> bytes:  # noqa: ANN401 - anything
    return json.dumps(value).encode()


numbers = st.floats(-10, 10, width=32)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.integers(), st.text(max_size=8))
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
no_numbers = st.one_of(
    st.none(), st.text(max_size=8), st.booleans(), st.dictionaries(st.text(max_size=3), numbers, max_size=2)
)


@st.composite
def wrong_rows(draw: st.DrawFn) -> list[Any]:
    """Observations of which one is wrong: too short or long, nested too deep, with something that is no number."""
    rows: list[Any] = draw(st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=3))
    row: Any = draw(
        st.one_of(
            st.lists(numbers, max_size=9).filter(lambda row: len(row) != 4),
            st.lists(st.lists(numbers, max_size=2), min_size=4, max_size=4),
            st.tuples(numbers, numbers, numbers, no_numbers).map(list),
            st.tuples(
                numbers, numbers, numbers, st.sampled_from([1e39, -1e300, 10**40, float("nan"), float("-inf")])
            ).map(list),
            no_numbers,
            numbers,
        )
    )
    rows.insert(draw(st.integers(0, len(rows))), row)
    return rows


bodies = st.one_of(
    # A part of a good one, and bytes that may be anything but are no JSON.
    st.integers(0, len(_json(GOOD)) - 1).map(lambda end: _json(GOOD)[:end]),
    st.binary(max_size=64).map(lambda raw: b"\x80" + raw),
    st.binary(max_size=64).map(lambda raw: _json(GOOD) + b"]" + raw),
    st.integers(1, 5_000).map(lambda depth: b'{"instances":' + b"[" * depth),
    st.integers(65, 1_000).map(lambda depth: b'{"instances":' + b"[" * depth + b"]" * depth + b"}"),
    st.sampled_from([b"1e999", b"NaN", b"0x1", b"01", b"1.", b"nan", b"+1", b"'1'"]).map(
        lambda word: b'{"instances":[[0,0,0,%b]]}' % word
    ),
    # JSON of another form.
    anything.filter(lambda value: not isinstance(value, dict)).map(_json),
    st.dictionaries(st.text(max_size=6).filter(lambda key: key not in ("instances", "inputs")), anything).map(_json),
    wrong_rows().map(lambda rows: _json({"instances": rows})),
    wrong_rows().map(lambda rows: _json({"inputs": rows})),
    wrong_rows().map(lambda rows: _json({"inputs": {"observation": rows}})),
    no_numbers.map(lambda value: _json({"instances": value})),
    anything.map(lambda value: _json({**GOOD, "inputs": value})),
    st.text(max_size=12)
    .filter(lambda name: name not in ("", "serving_default", "q_values"))
    .map(lambda name: _json({**GOOD, "signature_name": name})),
    anything.filter(lambda value: not isinstance(value, str)).map(lambda name: _json({**GOOD, "signature_name": name})),
    st.text(max_size=12)
    .filter(lambda name: name != "observation")
    .map(lambda name: _json({"instances": [{name: GOOD["instances"][0]}]})),
)

letters = st.text("abcdefghij:/%_-.0123456789", max_size=24)
paths = st.one_of(
    letters.map(lambda text: f"/{text}"),
    letters.map(lambda text: f"/v1/{text}"),
    letters.map(lambda text: f"/v1/models/{text}:predict"),
    st.integers(2, 10**25).map(lambda number: f"/v1/models/{NAME}/versions/{number}:predict"),
    letters.map(lambda text: f"/v1/models/{NAME}/labels/{text}:predict"),
    letters.map(lambda text: f"/v1/models/{NAME}/{text}"),
    st.sampled_from([f"/v1/models/{NAME}:classify", f"/v1/models/{NAME}:regress"]),
)

requests = st.one_of(
    bodies.map(lambda body: Request("POST", PREDICT, body)),
    st.builds(Request, st.just("POST"), paths, bodies | st.just(_json(GOOD))),
    st.builds(
        Request,
        st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        paths.map(lambda p: p + "!"),
        st.just(b""),
    ),
)
"""Requests each of which is to be answered with a status from 400 to 499."""
