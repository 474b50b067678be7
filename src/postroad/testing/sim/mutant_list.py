"""The bugs of our own: each a few lines of production code made wrong, as somebody might make them wrong.

Owns: the edits, as exact text (a test sees that each still applies). Does not own: hunting them (mutants.py). When
production code changes under a mutant, write the same bug anew.
"""

# ruff: noqa: E501 - lines of code as they stand

from __future__ import annotations

from typing import Final

import msgspec


class Mutant(msgspec.Struct, frozen=True):
    """One bug."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    """(file below src/postroad, what stands there once, what stands there then)"""


HARMLESS: Final = {
    "wal-not-emptied-at-reopening": "SQLite itself says BUSY where a TRUNCATE checkpoint does not copy all, and apsw raises"
    " it; and what the WAL holds was made durable before (recovery.py)",
}
"""Those that can do no harm, and why: they are not looked for."""


def _one(name: str, path: str, old: str, new: str) -> Mutant:
    return Mutant(name, ((path, old, new),))


MUTANTS: Final = (
    Mutant(
        "content-behind-rset",
        (
            ("smtp/client_transaction.py", "is_reset = self._step is Command.MAIL", "is_reset = False"),
            ("smtp/client.py", " if command is not Command.RSET else State.CLOSED", ""),
        ),
    ),
    _one(
        "reply-before-sync",
        "inbound/transaction.py",
        "            await house.spool.put(message)\n",
        "            import asyncio\n            self.put = asyncio.ensure_future(house.spool.put(message))\n",
    ),
    _one("commit-without-sync", "spool/store.py", '"PRAGMA synchronous=FULL"', '"PRAGMA synchronous=NORMAL"'),
    _one(
        "failed-commit-taken-for-done",
        "spool/store.py",
        "        with store_step():\n            self.write.commit()\n        if self._wal_pages",
        "        try:\n            with store_step():\n                self.write.commit()\n        except StoreTrouble:\n            pass\n        if self._wal_pages",
    ),
    _one(
        "refused-is-not-forgotten",
        "spool/writer.py",
        "            self.refused.update(put.id for put in batch.puts if not put.replaces)\n",
        "",
    ),
    _one(
        "report-forgotten-with-the-refused",
        "spool/writer.py",
        "for put in batch.puts if not put.replaces)",
        "for put in batch.puts)",
    ),
    _one("records-written-twice", "spool/writer.py", "entry.is_doubtful = True", "entry.is_doubtful = False"),
    _one(
        "report-in-two-transactions",
        "outbound/report.py",
        "        await shielded(house.spool.put(new, replaces=[(message.id, rulings)], told=tell))\n",
        "        await shielded(house.spool.put(new, told=tell))\n        house.spool.record(message.id, rulings)\n",
    ),
    _one(
        "removal-before-report",
        "outbound/report.py",
        "        await shielded(house.spool.put(new, replaces=[(message.id, rulings)], told=tell))\n",
        "        house.spool.record(message.id, rulings)\n        await shielded(house.spool.put(new, told=tell))\n",
    ),
    _one(
        "content-directory-not-synced",
        "spool/content.py",
        "        self._file = None\n        self._disk.sync_directory(self._directory)\n",
        "        self._file = None\n",
    ),
    _one(
        "content-not-synced",
        "spool/content.py",
        "        self._file.sync()\n        self._file.close()\n",
        "        self._file.close()\n",
    ),
    _one(
        "content-unlinked-before-commit",
        "spool/writer.py",
        "            store.write.apply(batch, self._clock.now())\n",
        "            store.write.apply(batch, self._clock.now())\n"
        "            shard = self._on_begun.__self__\n"
        "            for gone, _, in_file in batch.removed:\n"
        "                if in_file and shard._disk.exists(shard._body_path(gone)):\n"
        "                    shard._disk.unlink(shard._body_path(gone))\n",
    ),
    _one(
        "content-write-error-ignored",
        "spool/content.py",
        "        self._file.write(octets)\n        self._hash.update(octets)\n",
        "        with suppress(OSError):\n            self._file.write(octets)\n        self._hash.update(octets)\n",
    ),
    _one(
        "content-sync-error-ignored",
        "spool/content.py",
        "        self._file.sync()\n        self._file.close()\n        self._file = None\n",
        "        with suppress(OSError):\n            self._file.sync()\n        self._file.close()\n        self._file = None\n",
    ),
    _one(
        "put-timed-out-with-451",
        "spool/shard.py",
        "            await asyncio.shield(future)\n",
        "            try:\n                await asyncio.wait_for(asyncio.shield(future), 2.0)\n"
        '            except TimeoutError:\n                raise SpoolRefused(Why.TROUBLE, "slow") from None\n',
    ),
    _one(
        "offered-before-commit",
        "spool/writer.py",
        "            after = await self._threads.run_blocking(store.commit, lane=self._lane)\n",
        "            for early in batch.puts:\n                self._on_begun.__self__._offer(early)\n"
        "            after = await self._threads.run_blocking(store.commit, lane=self._lane)\n",
    ),
    _one(
        "records-lost-with-failed-batch",
        "spool/writer.py",
        "        self._records = batch.records + self._records\n",
        "",
    ),
    _one(
        "records-after-five-seconds", "spool/face.py", "RECORD_DELAY_MAX: Final = 0.05", "RECORD_DELAY_MAX: Final = 5.0"
    ),
    _one(
        "wal-not-emptied-at-reopening",
        "spool/store.py",
        "        if total > 0 or copied > 0:",
        "        if total < 0:",
    ),
    _one(
        "retry-timer-lost-on-restart",
        "spool/counting.py",
        "        self.agenda.load(found.counts)\n",
        "        self.agenda.load([(*row[:4], 1e11) for row in found.counts])\n",
    ),
    _one(
        "reports-forgotten-on-restart",
        "spool/counting.py",
        "        for message in found.reports:\n",
        "        for message in ():\n",
    ),
    _one(
        "double-claim",
        "spool/agenda.py",
        "            or self.is_claimed(message, delivery.number)\n",
        "",
    ),
    _one("limit-off-by-one", "ledger/leases.py", "        if free <= 0:\n", "        if free < 0:\n"),
    _one(
        "rate-off-by-a-few",
        "ledger/meter.py",
        "self.wait(rate.count, tokens, now)",
        "self.wait(rate.count + 3, tokens, now)",
    ),
    _one(
        "connection-never-given-back",
        "outbound/gate.py",
        "        self._limits.give_connection(self._key)\n\n    def give_spare",
        "\n    def give_spare",
    ),
    _one(
        "one-yes-is-for-all",
        "outbound/trouble.py",
        "        answer = attempt.answers.get(number)\n        if answer is None:\n            words[number] = broken\n",
        "        answer = attempt.answers.get(number)\n"
        "        yes = [one for one in attempt.answers.values() if one.result.reply.is_positive]\n"
        "        if yes:\n            answer = yes[0]\n        if answer is None:\n            words[number] = broken\n",
    ),
    _one(
        "next-host-after-the-dot",
        "outbound/attempt.py",
        "        if error is not None and (error.stage not in _BEFORE_CONTENT or error.scope",
        "        if error is not None and (error.scope",
    ),
    _one(
        "silence-is-taken-for-yes",
        "outbound/trouble.py",
        "        detail, text = _SILENCE.get(error.stage, _LOST)\n",
        "        detail, text = _SILENCE.get(error.stage, _LOST)\n"
        "        if error.stage is Stage.DOT:\n            return Word(Reply(250, (0, 0), text), host, error.stage)\n",
    ),
    _one(
        "later-is-taken-for-never",
        "outbound/trouble.py",
        "    if reply.is_transient:\n        retry_at",
        "    if reply.is_transient and reply.code != 450:\n        retry_at",
    ),
    _one(
        "expiry-without-report",
        "outbound/trouble.py",
        "    failed = Failed(word.reply, word.host, word.stage, expired=True)\n    return _failed(",
        "    failed = Failed(word.reply, word.host, word.stage, expired=True)\n    return Ruling(delivery.number, failed, None)\n    return _failed(",
    ),
    _one(
        "retry-at-once",
        "policy/schedule.py",
        "    gap = min(schedule.first * 2.0**doublings, schedule.longest)\n",
        "    gap = 2.0 if attempts == 2 else min(schedule.first * 2.0**doublings, schedule.longest)\n",
    ),
    _one(
        "maildir-not-synced",
        "outbound/maildir.py",
        '        self._disk.rename(self._tmp, f"{self._directory}/new/{self._name}")\n'
        '        self._disk.sync_directory(f"{self._directory}/new")\n',
        '        self._disk.rename(self._tmp, f"{self._directory}/new/{self._name}")\n',
    ),
    _one(
        "maildir-renamed-before-sync",
        "outbound/maildir.py",
        "        self._file.sync()\n        self._file.close()\n",
        "        self._file.close()\n",
    ),
    _one("dots-not-doubled", "smtp/client_content.py", 'content = content.replace(b"\\r\\n.", b"\\r\\n..")', "pass"),
    _one(
        "orphans-are-all",
        "spool/recovery.py",
        "                if entry not in known:\n",
        "                if entry not in sorted(known)[:2]:\n",
    ),
    _one(
        "damage-where-there-is-none",
        "spool/rows.py",
        "    if state is None or row.attempts < 0:\n",
        "    if state is None or row.attempts < 0 or row.attempts > 4:\n",
    ),
    _one(
        "time-of-receipt-by-the-loop",
        "policy/schedule.py",
        "    return now >= received_at + schedule.expire\n",
        "    return now >= received_at + schedule.expire / 2\n",
    ),
    _one(
        "hold-only-in-memory",
        "spool/steer.py",
        "            store.steer(delivery, DeliveryState.HELD, delivery.due_at)\n",
        "            store.steer(delivery, DeliveryState.DUE, delivery.due_at)\n",
    ),
    _one(
        "unreadable-is-nothing-there",
        "spool/slices.py",
        "                rows, heads, at = await self._answer(scan(after, END, search.filter, size, self._by_domain(search)))\n",
        "                rows, heads, at = await self._read(scan(after, END, search.filter, size, False)) or ([], [], None)\n",
    ),
    _one(
        "delete-takes-what-is-in-flight",
        "spool/slices.py",
        "        free = [pair for pair in meant if agenda.may_give(pair[1], watch)]\n",
        "        free = meant\n",
    ),
    _one(
        "reload-keeps-what-is-claimed",
        "outbound/scheduler.py",
        "        self._return(self.destinations.retire())\n",
        "        self.destinations.retire()\n",
    ),
    _one(
        "reload-keeps-the-routes",
        "service/build_outbound.py",
        "            planner=Planner(house, build_router(settings), ourselves(settings)),\n",
        "            planner=Planner(house, build_router(self._now.settings if self._now else settings), ourselves(settings)),\n",
    ),
    _one(
        "suspension-unheard-until-restart",
        "service/steered.py",
        "        if table in TABLES:\n",
        "        if table in TABLES[1:]:\n",
    ),
    _one(
        "null-sender-mail-is-tried-once",
        "outbound/trouble.py",
        "    if reply.is_transient:\n        retry_at",
        "    if reply.is_transient and message.envelope.sender is not None:\n        retry_at",
    ),
    _one(
        "success-is-not-reported",
        "outbound/trouble.py",
        "        return Ruling(number, outcome, DeliveryState.REPORT_RELAYED)\n",
        "        return Ruling(number, outcome, None)\n",
    ),
    _one(
        "content-file-stays-open",
        "spool/content.py",
        "    def close(self) -> None:\n        self._file.close()\n",
        "    def close(self) -> None:\n        pass\n",
    ),
    _one(
        "all-is-due-at-each-opening",
        "spool/store.py",
        "            self.write = WriteStore(connection)\n",
        "            self.write = WriteStore(connection)\n"
        '            connection.execute("UPDATE delivery SET due_at = ? WHERE state = 0 AND due_at > ?", (now, now))\n',
    ),
    _one(
        "one-message-too-many-on-a-connection",
        "outbound/lane.py",
        "session.messages >= self._destination.limits.messages_per_connection",
        "session.messages > self._destination.limits.messages_per_connection",
    ),
    _one(
        "drops-are-not-told",
        "outbound/settle.py",
        "            case Dropped(rule=rule):\n                emit(\n",
        "            case Dropped(rule=rule):\n                repr(\n",
    ),
    _one(
        "reports-are-told-of-one-recipient",
        "outbound/report.py",
        "for one in told if one.action is action)",
        "for one in told[:1] if one.action is action)",
    ),
    _one(
        "shard-that-cannot-be-taken-stays-open",
        "spool/ground.py",
        "            await whole(threads.run_blocking(lambda: store.close(checkpoint=False), lane=lane))\n",
        "            repr(store)\n",
    ),
    _one(
        "kept-change-by-hand-is-not-told",
        "spool/steer.py",
        "                self._ask_later(pairs, new, told)\n",
        "                repr(told)\n",
    ),
    _one(
        "read-under-way-gives-what-was-changed",
        "spool/steer.py",
        "                self.agenda.touch(delivery.message)\n            if was_open",
        "                repr(delivery)\n            if was_open",
    ),
    _one(
        "one-content-that-stays-keeps-all",
        "spool/recovery.py",
        "            with suppress(OSError):  # one that stays keeps no other\n",
        "            with suppress():\n",
    ),
)
