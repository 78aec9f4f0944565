"""The contract that every store is held to: one test per clause of the `Store` protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raincheck.contracts import Filter, Liveness, Store
from raincheck.errors import StoreError
from raincheck.messages import Request
from raincheck.operation import Operation, Progress, Reason, Result, State, decode, encode
from tests.stores.body_contract import BodyContract, with_examples
from tests.stores.material import (
    MIB,
    Clock,
    PausingClock,
    changed,
    forgotten,
    ids,
    in_threads,
    make_operation,
    run_in_fork,
)

any_text = st.text(st.characters())  # lone surrogates included
finite = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**53)
header = st.tuples(st.binary(max_size=20), st.binary(max_size=20))
headers = st.lists(header, max_size=4).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
known = {*Operation.__slots__, "v"}
records = st.builds(
    Operation,
    id=st.text(min_size=1),
    state=st.sampled_from(State),
    created=finite,
    updated=finite,
    retention=finite,
    method=st.text(),
    route=any_text.filter(lambda text: not _has_pair(text)),
    version=st.integers(1, 2**53),
    owner=st.none() | st.text(),
    queue=st.none() | st.text(),
    fence=count,
    worker=st.none() | st.text(),
    lease=st.none() | finite,
    expires=st.none() | finite,
    forgotten=st.booleans(),
    progress=st.none() | st.builds(Progress, finite, st.none() | finite, st.none() | st.text()),
    reason=st.none() | st.sampled_from(Reason),
    result=st.none()
    | st.builds(Result, st.integers(100, 599), headers, count, count, count, headers),
    unknown=st.dictionaries(st.text().filter(lambda name: name not in known), json_values),
)


def _has_pair(text: str) -> bool:
    """Two surrogates in a row are one character for JSON; no server makes such text."""
    return any("\ud800" <= c <= "\udbff" for c in text)


class StoreContract(BodyContract):
    """Subclasses supply the fixture `store`, which takes its time from the fixture `clock`."""

    @pytest.fixture
    def clock(self) -> PausingClock:
        return PausingClock()

    # --- create, get, swap -----------------------------------------------------------------

    def test_a_created_operation_is_found_by_its_id(self, store: Store) -> None:
        operation = make_operation()
        assert store.create(operation) == operation
        assert store.get("a") == operation

    def test_an_unknown_id_is_none(self, store: Store) -> None:
        store.create(make_operation("a"))
        assert store.get("b") is None

    @with_examples
    @given(any_text)
    @example("")
    @example("\x00")
    @example("a\x00")
    @example("\ud800")
    @example("a' OR 1=1 --")
    @example("../" * 50)
    def test_any_string_may_be_asked_for(self, store: Store, wild: str) -> None:
        if store.get("known id") is None:
            store.create(make_operation("known id"))
        assert store.get(wild) is None

    @with_examples
    @given(records)
    def test_a_record_comes_back_as_it_was(self, store: Store, record: Operation) -> None:
        assert decode(encode(record)) == record
        if store.get(record.id) is None:
            store.create(record)
            assert store.get(record.id) == record

    @with_examples
    @given(any_text)
    @example("\udc80")
    def test_an_owner_of_any_text_is_kept_or_refused(self, store: Store, owner: str) -> None:
        operation = make_operation(f"{time.monotonic_ns()}", owner=owner)
        try:
            store.create(operation)
        except StoreError:
            assert store.get(operation.id) is None
        else:
            assert operation in store.find(Filter(owner=owner), limit=1000)[0]

    def test_an_id_can_be_taken_only_once(self, store: Store) -> None:
        store.create(make_operation(owner="first"), Request("GET", "/first"))
        with pytest.raises(StoreError):
            store.create(make_operation(owner="second"), Request("GET", "/second"))
        kept, request = store.get("a"), store.read_request("a")
        assert kept is not None
        assert kept.owner == "first"
        assert request is not None
        assert request.path == "/first"

    def test_an_error_names_no_whole_id(self, store: Store) -> None:
        store.create(make_operation("secret" * 5))
        with pytest.raises(StoreError) as caught:
            store.create(make_operation("secret" * 5))
        assert "secret" * 5 not in str(caught.value)

    def test_a_swap_replaces_the_version_it_knows(self, store: Store) -> None:
        old = store.create(make_operation())
        new = changed(old, state=State.SUCCEEDED)
        assert store.swap(old, new)
        assert store.get("a") == new

    def test_a_swap_of_another_version_changes_nothing(self, store: Store) -> None:
        old = store.create(make_operation())
        new = changed(old, owner="first")
        store.swap(old, new)
        assert not store.swap(old, changed(old, owner="second"))
        assert store.get("a") == new

    def test_a_swap_of_what_is_gone_makes_nothing(self, store: Store) -> None:
        old = make_operation()
        assert not store.swap(old, changed(old))
        assert store.get("a") is None

    def test_of_16_threads_that_swap_exactly_one_wins(self, store: Store) -> None:
        for n in range(20):
            old = store.create(make_operation(f"{n}"))
            new = [changed(old, worker=f"{i}") for i in range(16)]
            won = in_threads(16, lambda i, old=old, new=new: store.swap(old, new[i]))  # type: ignore[misc]
            assert won.count(True) == 1
            assert store.get(old.id) == new[won.index(True)]

    # --- dedupe ----------------------------------------------------------------------------

    def test_a_dedupe_key_leads_to_the_operation_that_holds_it(self, store: Store) -> None:
        old = store.create(make_operation("a"), dedupe="key")
        now = changed(old, state=State.SUCCEEDED)
        store.swap(old, now)
        assert store.create(make_operation("b"), Request("GET", "/"), "key") == now

    def test_nothing_is_kept_of_a_duplicate(self, store: Store) -> None:
        store.create(make_operation("a"), dedupe="key")
        store.create(make_operation("b"), Request("GET", "/", body=(b"x",)), "key")
        assert store.get("b") is None
        assert store.read_request("b") is None

    def test_other_keys_and_no_key_are_no_duplicates(self, store: Store) -> None:
        for id, dedupe in (("a", "1"), ("b", "2"), ("c", None), ("d", None)):
            assert store.create(make_operation(id), dedupe=dedupe).id == id

    def test_of_8_threads_with_one_key_exactly_one_creates(self, store: Store) -> None:
        kept = in_threads(8, lambda i: store.create(make_operation(f"{i}"), dedupe="key"))
        assert len(set(ids(kept))) == 1
        assert ids(store.find(Filter())[0]) == [kept[0].id]

    # --- requests --------------------------------------------------------------------------

    def test_a_request_comes_back_with_all_its_fields(self, store: Store) -> None:
        request = Request(
            method="POST",
            path="/ü/x y",
            scheme="https",
            http_version="2",
            raw_path=b"/%C3%BC/x%20y",
            query=b"a=%00&b=\xff",
            root_path="/ü",
            headers=((b"x-bytes", bytes(range(256))), (b"cookie", b"a"), (b"cookie", b"b")),
            client=("::1", 4711),
            server=("/run/app.sock", None),
            body=(b"", bytes(range(256)), b"x" * (MIB + 1)),
        )
        store.create(make_operation(), request)
        assert store.read_request("a") == request

    def test_an_empty_request_comes_back_empty(self, store: Store) -> None:
        request = Request("GET", "/")
        store.create(make_operation(), request)
        assert store.read_request("a") == request

    def test_there_may_be_no_request(self, store: Store) -> None:
        store.create(make_operation())
        assert store.read_request("a") is None
        assert store.read_request("unknown") is None

    # --- find ------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (Filter(), "abcde"),
            (Filter(states=frozenset({State.RUNNING})), "a"),
            (Filter(states=frozenset({State.RUNNING, State.CANCELLING})), "ae"),
            (Filter(states=frozenset()), ""),
            (Filter(owner="ann"), "ac"),
            (Filter(owner="an"), ""),
            (Filter(worker="w"), "a"),
            (Filter(queue="q"), "ad"),
            (Filter(lease_before=100.0), "a"),
            (Filter(lease_before=99.9), ""),
            (Filter(lease_before=150.0), "ae"),
            (Filter(expires_before=200.0), "b"),
            (Filter(expires_before=300.0), "bc"),
            (Filter(forgotten=True), "c"),
            (Filter(forgotten=False), "abde"),
            (Filter(owner="ann", forgotten=True), "c"),
            (Filter(owner="ann", queue="q", worker="w", lease_before=100.0), "a"),
        ],
    )
    def test_a_filter_finds_what_meets_all_its_conditions(
        self, store: Store, which: Filter, expected: str
    ) -> None:
        for operation in (
            make_operation("e", created=5.0, state=State.CANCELLING, worker="v", lease=150.0),
            make_operation("d", created=4.0, state=State.ACCEPTED, queue="q"),
            make_operation("a", created=1.0, owner="ann", worker="w", queue="q", lease=100.0),
            make_operation("b", created=2.0, state=State.SUCCEEDED, owner="bob", expires=200.0),
            replace(forgotten("c", expires=300.0), created=3.0, owner="ann"),
        ):
            store.create(operation)
        assert "".join(ids(store.find(which)[0])) == expected

    def test_a_filter_sees_what_a_swap_has_changed(self, store: Store) -> None:
        old = store.create(make_operation(owner="ann", lease=1.0))
        store.swap(old, changed(old, state=State.FAILED, lease=None, expires=5.0))
        assert store.find(Filter(lease_before=9.0)) == ([], None)
        failed = frozenset({State.FAILED})
        assert ids(store.find(Filter(states=failed, expires_before=5.0, owner="ann"))[0]) == ["a"]

    @pytest.mark.parametrize(
        "created",
        [lambda n: n / 3, lambda n: n // 3, lambda n: 1000.1],
        ids=("distinct", "some equal", "all equal"),
    )
    def test_a_cursor_leads_through_all_in_order(
        self, store: Store, created: Callable[[int], float]
    ) -> None:
        wanted = [make_operation(f"{n:02} {n}", created=created(n)) for n in range(10)]
        for operation in reversed(wanted):
            store.create(operation)
            store.create(replace(operation, id=f"{operation.id} other", owner="other"))
        pages: list[list[Operation]] = []
        cursor = None
        while not pages or cursor is not None:
            page, cursor = store.find(Filter(forgotten=False), limit=8, cursor=cursor)
            pages.append(page)
        assert [len(page) for page in pages] == [8, 8, 4]
        assert [o for page in pages for o in page if o.owner is None] == wanted

    def test_a_page_that_holds_all_is_the_last(self, store: Store) -> None:
        for n in range(3):
            store.create(make_operation(f"{n}"))
        found, cursor = store.find(Filter(), limit=3)
        assert (ids(found), cursor) == (["0", "1", "2"], None)

    # --- the clock, closing, forks, liveness -----------------------------------------------

    def test_the_time_is_the_clocks(self, store: Store, clock: Clock) -> None:
        clock.now = 1234.5
        assert store.now() == 1234.5

    def test_a_closed_store_opens_again(self, store: Store) -> None:
        store.close()
        store.create(make_operation())
        store.write_chunk("a", 1, 0, b"x" * MIB)
        store.close()
        store.close()
        assert store.get("a") == make_operation()
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x" * MIB]

    def test_closing_disturbs_no_other_thread(self, store: Store) -> None:
        done = threading.Event()

        def work(i: int) -> None:
            if i == 0:
                while not done.is_set():
                    store.close()
                return
            try:
                for n in range(100):
                    store.create(make_operation(f"{i} {n}"))
            finally:
                done.set()

        in_threads(3, work)
        assert len(store.find(Filter(), limit=500)[0]) == 200

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_fork_works_though_a_thread_of_its_parent_was_busy(
        self, store: Store, clock: PausingClock
    ) -> None:
        store.create(make_operation())
        busy = threading.Thread(target=store.write_chunk, args=("a", 1, 0, b"x"), name="held")
        busy.start()
        assert clock.inside.wait(30)
        release = threading.Timer(0.3, clock.go.set)
        release.start()
        worked = run_in_fork(lambda: store.create(make_operation("b")))
        release.join()
        busy.join()
        assert worked

    def test_this_process_lives_and_an_unknown_one_does_not(self, store: Store) -> None:
        if not isinstance(store, Liveness):
            pytest.skip("this store does not see who lives")
        assert store.lives(store.incarnation())
        assert store.incarnation() == store.incarnation()
        for name in ("", "unknown", "1f", "-1", "f" * 40, "4711-" + "0" * 16, "\x00", "\ud800"):
            assert not store.lives(name)
