"""One run of fsck: all events in order of recording, then all trees, then what has no counterpart.

It only reads, and the log may be recorded in meanwhile: what must have a leaf, and how large trees
must be, is what was so when the run began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

from muniment.errors import InvalidConfig
from muniment.fsck.examining import Examined, examine, judge
from muniment.fsck.findings import Finding, FindingKind, Summary, event_id_text
from muniment.fsck.growth import TreeChecker
from muniment.fsck.matching import Matcher, Stray
from muniment.fsck.reconciling import reconcile
from muniment.fsck.state import State, read_state, write_state
from muniment.fsck.watermark import true_end
from muniment.keys import KeyKind, VerifyingKey
from muniment.stores import without_password
from muniment.stores.base import Store
from muniment.stores.trees import Inspected, Tree

_TREES_AT_ONCE: Final = 1000
_PAGE_BYTES: Final = 8 * 1024 * 1024
_MOST_EVENTS: Final = 4096
_FEWEST_EVENTS: Final = 16
_REMEMBERED: Final = 1000
_SAVE_EVERY: Final = 5.0
_SAVE_SHARE: Final = 20
"""Saving takes at most a twentieth of the time, however many tenants there are."""

Tell = Callable[[Finding], None]
Progress = Callable[[int, int, int], None]
"""Told how many events and leaves were looked at just now; how many in all; and of how many."""


async def fsck(
    store: Store,
    *,
    tenant_id: str | None = None,
    keys: Iterable[VerifyingKey] = (),
    tell: Tell | None = None,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Summary:
    """Derive all trees of an open store from its events again, and `tell` each difference.

    Only reads; a role that sees all tenants is enough, or one that sees `tenant_id`. With the
    log's public `keys`, or a tenant's, signatures are verified. `resume` names a file that the
    state is kept in, and where a run that was interrupted goes on, its findings told again; it is
    removed at the end. Memory does not grow with events: it holds some hundred bytes for each
    tenant, up to 200,000 leaves without an event and as many events without a leaf (and 10,000
    leaves of each tenant that lacks events), and 64 MB.
    Raises `InvalidConfig` for a witness's key, or a file of another run.
    """
    known = tuple(keys)
    for key in known:
        if key.kind is not KeyKind.LOG:
            raise InvalidConfig(f"keys: {key.name} is a witness's key; give the log's")
    vkeys = tuple(sorted(key.text() for key in known))
    of = (without_password(store.url), tenant_id, vkeys)
    state = read_state(resume, of) if resume else None
    run = _Run(store, state or State(of=of), known, tell=tell, progress=progress, path=resume)
    return await run.run(is_new=state is None)


class _Run:
    def __init__(
        self,
        store: Store,
        state: State,
        keys: Sequence[VerifyingKey],
        *,
        tell: Tell | None,
        progress: Progress | None,
        path: Path | None,
    ) -> None:
        self._trees = store.trees
        self._state = state
        self._tenant_id = state.of[1]
        self._told = tell
        self._progress = progress
        self._path = path
        self._page = _MOST_EVENTS // 4
        self._is_cancelled = False
        self._saved, self._save_after = time.monotonic(), _SAVE_EVERY
        self._matcher = Matcher(self._trees, state.trails, state.strays, self._tell)
        self._checker = TreeChecker(
            self._trees, keys, state.summary, self._tell, self._advance_leaves
        )

    async def run(self, *, is_new: bool) -> Summary:
        state = self._state
        if is_new:
            await self._begin()
        for finding in state.findings:
            self._show(finding)
        self._advance(0)
        try:
            if state.stage == "events":
                await self._look_at_events()
            if state.stage == "pending":
                await self._look_at_pending()
            if state.stage == "trees":
                await self._look_at_trees()
        except asyncio.CancelledError:
            self._save()
            raise
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        return state.summary

    async def _begin(self) -> None:
        """Note how large the trees are, and then up to where every event must have a leaf."""
        state = self._state
        async for tree in self._all_trees(None):
            state.sizes[tree.tenant_id] = tree.tree_size
        watermark = await self._trees.integrated_to()
        state.until, problem = await true_end(self._trees, watermark, state.sizes, self._tenant_id)
        if problem is not None:
            # Kept, and told with the findings of an interrupted run.
            state.summary.findings += 1
            state.findings.append(problem)
        state.total = 2 * sum(state.sizes.values())
        state.summary.tenants = len(state.sizes)

    async def _all_trees(self, after: str | None) -> AsyncIterator[Tree]:
        if self._tenant_id is not None:
            tree = await self._trees.tree(self._tenant_id)
            if tree is not None and after is None:
                yield tree
            return
        while page := await self._trees.trees(after, _TREES_AT_ONCE):
            for tree in page:
                yield tree
            after = page[-1].tenant_id

    # --- events

    async def _look_at_events(self) -> None:
        state = self._state
        while state.until is not None and await self._whole(self._match_page(state.until)):
            self._save_now_and_then()
        await self._whole(self._finish_matching())
        self._save()

    async def _match_page(self, until: str) -> bool:
        """Match some more events with leaves; whether there may be more."""
        events, is_last = await self._next_page(until)
        by_tenant: dict[str, list[Examined]] = {}
        for event in events:
            by_tenant.setdefault(event.tenant_id, []).append(event)
        for tenant_id, theirs in by_tenant.items():
            await self._matcher.take(tenant_id, theirs)
        self._state.summary.events += len(events)
        return not is_last

    async def _finish_matching(self) -> None:
        state = self._state
        for tenant_id in list(state.trails):
            # Of a tree that grew since the run began, the rest is for the next run.
            await self._matcher.finish(tenant_id, state.sizes.get(tenant_id, 0))
        for tenant_id in state.sizes.keys() - state.trails.keys():
            await self._matcher.finish(tenant_id, state.sizes[tenant_id])
        state.stage = "pending"

    async def _look_at_pending(self) -> None:
        state = self._state
        missed = {stray.event_id for stray in state.strays.leaves}
        while await self._whole(self._take_pending(missed)):
            self._save_now_and_then()
        for finding in reconcile(state.strays):
            self._tell(finding)
        state.stage = "trees"
        self._save()

    async def _take_pending(self, missed: set[bytes]) -> bool:
        """Look at some more events that may have no leaf yet; whether there may be more."""
        events, is_last = await self._next_page(None)
        for event in events:
            if event.event_id in missed:
                stray = Stray(event.tenant_id, event.event_id, event.leaf_hash, None, event)
                self._state.strays.add_event(stray)
                continue
            for finding in judge(event, None, None):
                self._tell(finding)
        self._state.summary.pending += len(events)
        return not is_last

    async def _next_page(self, until: str | None) -> tuple[list[Examined], bool]:
        """Some more events, examined; and whether they are the last."""
        state, limit = self._state, self._page
        rows = await self._trees.inspect(state.after, until, limit, self._tenant_id)
        if not rows:
            return [], True
        self._adapt(rows)
        events = await asyncio.to_thread(examine, rows)
        for row in rows:
            if row.is_ahead:
                self._tell(_ahead(row))
        state.after = rows[-1].position
        state.summary.erased += sum(event.body_hash is None for event in events)
        self._advance(len(events))
        return events, len(rows) < limit

    def _adapt(self, rows: Sequence[Inspected]) -> None:
        """Ask for as many events at once as are read into a few megabytes."""
        size = sum(len(row.body or b"") for row in rows) // len(rows) + 400
        self._page = max(_FEWEST_EVENTS, min(_MOST_EVENTS, _PAGE_BYTES // size, 2 * self._page))

    # --- trees

    async def _look_at_trees(self) -> None:
        state = self._state
        # Who has leaves has a tree, unless that is gone.
        tenants = {*state.sizes, *(each for each, trail in state.trails.items() if trail.next)}
        for tenant_id in sorted(tenants, key=str.encode):
            if state.tenant_id is None or tenant_id.encode() > state.tenant_id.encode():
                await self._whole(self._check_tree(tenant_id))
                self._save_now_and_then()

    async def _check_tree(self, tenant_id: str) -> None:
        """Check a tree; if that is interrupted, the state is what it was before."""
        state = self._state
        summary, findings, done = copy(state.summary), len(state.findings), state.done
        try:
            await self._checker.check(tenant_id)
        except asyncio.CancelledError:
            state.summary, state.done = summary, done
            del state.findings[findings:]
            raise
        state.tenant_id = tenant_id

    def _advance_leaves(self, count: int) -> None:
        if self._is_cancelled:
            raise asyncio.CancelledError
        self._advance(count)

    async def _whole(self, step: Coroutine[Any, Any, bool | None]) -> bool | None:
        """What a step gives. If we are cancelled, it is not left half done."""
        task = asyncio.ensure_future(step)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._is_cancelled = True
            await asyncio.wait([task])
            raise

    # --- telling

    def _tell(self, finding: Finding) -> None:
        self._state.summary.findings += 1
        if len(self._state.findings) < _REMEMBERED:
            self._state.findings.append(finding)
        self._show(finding)

    def _show(self, finding: Finding) -> None:
        if self._told is not None:
            self._told(finding)

    def _advance(self, count: int) -> None:
        self._state.done += count
        if self._progress is not None:
            self._progress(count, self._state.done, max(self._state.total, self._state.done))

    # --- the state file

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved > self._save_after:
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        began = time.monotonic()
        write_state(self._path, self._state)
        self._saved = time.monotonic()
        self._save_after = max(_SAVE_EVERY, _SAVE_SHARE * (self._saved - began))


def _ahead(row: Inspected) -> Finding:
    event_id = event_id_text(row.event_id)
    return Finding(
        kind=FindingKind.NO_LEAF,
        tenant_id=row.tenant_id,
        message=f"event {event_id}: its position, {row.position}, can't have been given yet, so "
        "that it will get no leaf: it was slipped in",
        event_id=event_id,
    )
