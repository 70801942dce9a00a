"""What the page of an event shows: changes side by side, details as a tree."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import standard_catalogue
from muniment.event import Actor, Change, Context, Event, Target
from muniment.filter_language import parse
from muniment.http.viewer.differences import Difference, difference_of
from muniment.http.viewer.event_view import view_of
from muniment.http.viewer.json_tree import Node, tree_of

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


def _sides(difference: Difference) -> tuple[str, str]:
    """What was there before and after, read off the marks."""
    if difference.form == "inline":
        old, new = difference.old, difference.new
        return "".join(p.text for p in old), "".join(p.text for p in new)
    lines = difference.lines
    assert not any(line.skipped for line in lines)
    return (
        "\n".join(line.text for line in lines if line.mark != "new"),
        "\n".join(line.text for line in lines if line.mark != "old"),
    )


@given(old=st.text(max_size=80), new=st.text(max_size=80))
def test_marks_leave_both_texts_whole(old: str, new: str) -> None:
    """Whatever is marked, each side reads as it was recorded."""
    found = difference_of(Change(field="name", old=old, new=new))
    if not any(line.skipped for line in found.lines):
        assert _sides(found) == (old, new)


@given(old=_JSON, new=_JSON)
def test_any_two_values_can_be_compared(old: Any, new: Any) -> None:
    """Of any two JSON values, the marks say which side has what."""
    found = difference_of(Change(field="x", old=old, new=new))
    marks = {piece.mark for piece in (*found.old, *found.new)} | {line.mark for line in found.lines}
    if found.kind == "same":
        assert marks <= {"same"}


def test_only_the_words_that_differ_are_marked() -> None:
    """One word of a sentence."""
    found = difference_of(Change(field="role", old="reads the trail", new="writes the trail"))
    assert [(piece.mark, piece.text) for piece in found.new] == [
        ("new", "writes"),
        ("same", " the trail"),
    ]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    """Two characters of a Chinese text, not all of it."""
    found = difference_of(Change(field="title", old="客服机器人助手", new="客服机器人经理"))
    assert [piece.text for piece in found.new if piece.mark == "new"] == ["经理"]


def test_a_mark_is_never_parted_from_its_letter() -> None:
    """A vowel sign of Hindi stays with its consonant."""
    found = difference_of(Change(field="name", old="अनन्या क", new="अनन्या कि"))
    assert [piece.text for piece in found.new if piece.mark == "new"] == ["कि"]


def test_what_was_not_there_before_is_added() -> None:
    """Null before, a value after; and the other way round."""
    kinds = [
        difference_of(Change(field="x", old=old, new=new)).kind
        for old, new in ((None, 1), (1, None), (1, 2), (1, 1), (1, True))
    ]
    assert kinds == ["added", "removed", "changed", "same", "changed"]


def test_objects_are_compared_by_line() -> None:
    """What holds other values is spelled over several lines, and one of them differs."""
    old = {"name": "x", "limits": {"cpu": 1, "memory": 2}}
    new = {"name": "x", "limits": {"cpu": 1, "memory": 3}}
    found = difference_of(Change(field="plan", old=old, new=new))
    assert [line.text.strip() for line in found.lines if line.mark == "new"] == ['"memory": 3']


def test_long_runs_of_the_same_lines_are_folded() -> None:
    """A hundred lines of which one differs are few lines, and say how many are not shown."""
    old = [str(n) for n in range(100)]
    found = difference_of(Change(field="x", old=old, new=[*old[:50], "other", *old[51:]]))
    assert len(found.lines) < 12
    assert sum(line.skipped for line in found.lines) > 80


def test_large_changes_are_compared_in_no_time() -> None:
    """Neither many lines nor one long line takes the square of its length."""
    lines_before = "\n".join(f"line {n}" for n in range(50_000))
    lines_after = lines_before.replace("line 7", "LINE 7")
    long = "a b " * 100_000
    began = time.process_time()
    difference_of(Change(field="x", old=lines_before, new=lines_after), most=None)
    difference_of(Change(field="x", old=long, new=long + "c"), most=None)
    assert time.process_time() - began < 5


def test_a_large_change_is_cut_and_says_so() -> None:
    """What is not shown is counted."""
    found = difference_of(Change(field="x", old="", new="x" * 30_000), most=20_000)
    assert found.left_out == 10_000


def _count(nodes: tuple[Node, ...]) -> int:
    return sum(1 + _count(node.children) for node in nodes)


@given(details=st.dictionaries(st.text(max_size=8), _JSON, max_size=8))
def test_a_small_tree_holds_everything(details: dict[str, Any]) -> None:
    """Nothing of what is quick to show is left out."""
    tree = tree_of(details)
    assert not tree.is_cut
    assert [_value_of(node) for node in tree.nodes] == list(details.values())


def _value_of(node: Node) -> Any:
    if node.kind == "object":
        return {child.key: _value_of(child) for child in node.children}
    if node.kind == "array":
        return [_value_of(child) for child in node.children]
    return node.text if node.kind == "string" else json.loads(node.text)


def test_a_large_tree_is_cut_from_the_end_of_each_level() -> None:
    """A huge first value does not hide what stands beside it."""
    tree = tree_of({"many": [{"n": n} for n in range(20_000)], "last": "here"})
    assert tree.is_cut
    assert tree.nodes[0].left_out > 0
    assert tree.nodes[1].text == "here"
    assert _count(tree.nodes) < 1_000


def test_a_large_tree_can_be_had_whole() -> None:
    """Whoever asks for all of it gets it."""
    tree = tree_of({"many": list(range(20_000)), "long": "x" * 200_000}, whole=True)
    assert not tree.is_cut
    assert _count(tree.nodes) == 20_002
    assert len(tree.nodes[1].text) == 200_000


def test_long_strings_are_cut() -> None:
    """Their beginning is shown, and how many characters are not."""
    (node,) = tree_of({"text": "x" * 5_000}).nodes
    assert len(node.text) + node.left_out == 5_000
    assert node.left_out > 0


def test_every_id_finds_the_events_that_share_it() -> None:
    """Each field's query is one of the filter language, whatever the id holds."""
    odd = 'a "b" c:d'
    event = Event(
        action="login",
        tenant_id=odd,
        actor=Actor.agent("bot", on_behalf_of=Actor.user(odd)),
        targets=(Target(odd, odd),),
        context=Context(request_id=odd, session_id=odd, trace_id=odd, run_id=odd),
    )
    view = view_of(event, standard_catalogue())
    queries = [field.query for group in view.groups for field in group.fields if field.query]
    queries += [link.query for link in view.chain] + [target.query for target in view.targets]
    assert len(queries) == 10
    assert {value for query in queries for value in parse(query).values()} == {
        odd,
        "agent",
        "bot",
        "user",
    }


def test_many_targets_and_changes_are_cut() -> None:
    """A thousand of each stay countable."""
    event = Event(
        action="x",
        targets=tuple(Target("user", str(n)) for n in range(1_000)),
        changes=tuple(Change(field=str(n), old=n) for n in range(1_000)),
    )
    view = view_of(event, standard_catalogue())
    assert view.is_cut
    assert len(view.targets) + view.more_targets == 1_000
    assert len(view.changes) + view.more_changes == 1_000
