"""Deliveries that end here: into a Maildir, into nothing, or refused by a route.

Owns: which of them, one recipient after the other, what trouble with the disk means in words. Does not own: the files
(maildir.py), what the words mean (trouble.py by way of settle.py).
"""

from __future__ import annotations

import errno
from typing import Final

from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.outbound.content import ContentSource, ContentTrouble
from postroad.outbound.hops import ToMaildir, ToNothing, ToRefusal
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.maildir import LineEnds, MaildirFile, fields, file_name, maildir_path
from postroad.outbound.settle import Settler
from postroad.outbound.trouble import Word
from postroad.spool.face import Delivery, Ruling

STORED: Final = Reply(250, (0, 0), "Stored in the mailbox")
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def deliver_locally(
    house: OutboundHouse, settler: Settler, job: Job, target: ToMaildir | ToNothing | ToRefusal
) -> list[Ruling]:
    """Return the rulings for a job that ends here.

    Raises:
        ContentDamaged: the spool has set the message aside.
    """
    match target:
        case ToNothing(rule=rule):
            return settler.of_drop(job, target.key, rule)
        case ToRefusal(text=text):
            word = Word(Reply(550, (7, 1), text), "", Stage.ROUTE)
            return settler.of_words(job, target.key, dict.fromkeys(job.numbers, word))
        case ToMaildir(template=template):
            return settler.of_words(job, target.key, await _into_maildirs(house, job, template))


async def _into_maildirs(house: OutboundHouse, job: Job, template: str) -> dict[int, Word]:
    content = job.message.content
    if content is not None:
        return await _store_all(house, job, template, ContentSource(content))
    reader = await house.spool.open(job.id)
    try:
        return await _store_all(house, job, template, ContentSource(reader))
    finally:
        reader.close()


async def _store_all(house: OutboundHouse, job: Job, template: str, content: ContentSource) -> dict[int, Word]:
    words = {}
    for delivery in job.deliveries:
        reply = await _store(house, job, delivery, template, content)
        words[delivery.number] = Word(reply, "", Stage.STORE)
    return words


async def _store(house: OutboundHouse, job: Job, delivery: Delivery, template: str, content: ContentSource) -> Reply:
    """Store the message for one recipient and return what a server would say."""
    message, run = job.message, house.threads.run_blocking
    mailbox = message.envelope.recipients[delivery.number].mailbox
    name = file_name(message.id, delivery.number, message.received_at, house.hostname)
    file = MaildirFile(house.disk, maildir_path(template, mailbox, house.hostname), name)
    top = fields(message.envelope.sender, mailbox)
    # Still in memory from coming in and never tried: no process before this one can have delivered it.
    look_in_cur = content.octets is None or delivery.attempts > 0
    try:
        if content.octets is not None:
            await run(_store_whole, file, top, content.octets, look_in_cur)
        elif await run(file.begin, top):
            turn = LineEnds()
            async for piece in content.pieces():
                await run(file.write, turn.turn(piece))
            await run(file.write, turn.end())
            await run(file.finish)
    except (OSError, ContentTrouble) as error:
        await run(file.give_up)
        return _trouble(error)
    return STORED


def _store_whole(file: MaildirFile, top: bytes, content: bytes, look_in_cur: bool) -> None:
    file.store_whole(top, content, look_in_cur=look_in_cur)


def _trouble(error: OSError | ContentTrouble) -> Reply:
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE:
            return Reply(452, (3, 1), "No space left for the mailbox")
        return Reply(451, (3, 0), f"The mailbox cannot be written: {error.strerror or type(error).__name__}")
    return Reply(451, (3, 0), str(error))
