"""ReadLogs: the output of a job's ranks with its events in between, from what is there to what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from trana.jobs.api.log_reading import AttemptLogs, Source, merge
from trana.jobs.domain.attempt import AttemptKey
from trana.jobs.domain.errors import InvalidRequest, LogsNotFound, ServiceStopping, TooManyReaders
from trana.jobs.domain.job import JobRecord, timestamp
from trana.jobs.store.store import Store
from trana.jobs.wakeups import Wakeups
from trana.spec.violation import Violation
from trana.v1.event_pb2 import Event
from trana.v1.job_service_pb2 import ReadLogsRequest, ReadLogsResponse
from trana.v1.log_pb2 import LogEntry

MAX_READERS = 64
# Between two looks at the files: from the first, while something comes, to the second, when nothing does.
LOOK_SECONDS = (0.1, 1.0)
# How long to wait for proof that an attempt's processes are gone and write no more, after it has ended.
LAST_WORDS_SECONDS = 5.0
EVENTS_AT_ONCE = 500
# Of one message; far below the 4 MiB that a client takes by default.
RESPONSE_BYTES = 256 * 1024


class LogStreams:
    """Reads the logs of jobs, whose folders lie in `jobs_folder`, for at most `MAX_READERS` at a time."""

    def __init__(self, *, store: Store, wakeups: Wakeups, jobs_folder: Path) -> None:
        self._store = store
        self._wakeups = wakeups
        self._jobs_folder = jobs_folder
        self._readers = 0
        self._stopping = False

    def enter(self) -> None:
        """Lets one more reader in, who must `leave`.

        Raises:
            TooManyReaders: There are as many as there may be.
        """
        if self._readers >= MAX_READERS:
            raise TooManyReaders(self._readers)
        self._readers += 1

    def leave(self) -> None:
        """A reader has gone."""
        self._readers -= 1

    def stop(self) -> None:
        """Ends all streams when their bells ring next."""
        self._stopping = True

    async def read(self, request: ReadLogsRequest) -> AsyncIterator[ReadLogsResponse]:
        """An empty message at once, and then what there is, and with `follow` what comes.

        Raises:
            JobNotFound: There is no such job.
            InvalidRequest: It has no such rank, or `resume` is about another attempt.
            LogsNotFound: There is no such attempt, or its logs are gone or cannot be read.
            ServiceStopping: The service drains; clients resume.
        """
        record = await self._store.get_job(request.name.partition("/")[2])
        bell = self._wakeups.job(record.id)
        reading = _Reading(request, record, store=self._store, folder=self._jobs_folder / record.id)
        await reading.check()
        yield ReadLogsResponse()
        pause = LOOK_SECONDS[0]
        while not self._stopping:
            ticket = bell.ticket
            # Asked first: what was written before is then read.
            over = await reading.attempt_is_over()
            entries = await reading.take(whole=over or not request.follow)
            for response in _responses(entries):
                yield response
            if reading.more:
                continue
            if not request.follow or (over and not reading.goes_on()):
                return
            if over and reading.next_attempt():
                continue
            pause = LOOK_SECONDS[0] if entries else min(2 * pause, LOOK_SECONDS[1])
            await bell.wait(ticket, seconds=pause)
        raise ServiceStopping


class _Reading:
    """How far one call has come."""

    def __init__(self, request: ReadLogsRequest, record: JobRecord, *, store: Store, folder: Path) -> None:
        self._request = request
        self._record = record
        self._store = store
        self._folder = folder
        first = request.resume.attempt or min(1, record.attempt) if request.HasField("resume") else record.attempt
        self._attempt = request.attempt or first
        self._logs = AttemptLogs(
            folder,
            attempt=self._attempt,
            ranks=request.ranks,
            positions=request.resume.rank_positions,
            tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
        )
        self._events = Source()
        self._after: int | None = request.resume.after_sequence if request.HasField("resume") else None
        self._ended_at: float | None = None
        self.more = True

    async def check(self) -> None:
        """Refuses what the job does not have.

        Raises:
            InvalidRequest: No such rank, or `resume` is about another attempt.
            LogsNotFound: No such attempt, or nothing of it is left.
        """
        request, record = self._request, self._record
        workers = record.spec.resources.num_workers
        wrong = [
            Violation(
                f"ranks[{index}]", f"the job has {workers} workers: ranks go from 0 to {workers - 1}", "ranks.known"
            )
            for index, rank in enumerate(request.ranks)
            if rank >= workers
        ]
        if request.attempt and request.resume.attempt not in (0, request.attempt):
            text = f"is about attempt {request.resume.attempt}, but attempt {request.attempt} is asked for"
            wrong.append(Violation("resume.attempt", text, "resume.same_attempt"))
        if wrong:
            raise InvalidRequest(wrong)
        if self._attempt > record.attempt:
            made = f"it has made {record.attempt} so far" if record.attempt else "it has made none yet"
            raise LogsNotFound(record.id, self._attempt, made)
        if self._attempt < record.attempt and not await asyncio.to_thread(self._logs.exist):
            why = "its workers wrote nothing, or it is too old to be kept"
            raise LogsNotFound(record.id, self._attempt, why)

    async def attempt_is_over(self) -> bool:
        """Whether nothing more will be written in this attempt: its processes are gone, or had time enough to go."""
        self._record = record = await self._store.get_job(self._record.id)
        if record.attempt > self._attempt:
            return True
        attempt = await self._store.attempt(AttemptKey(record.id, self._attempt))
        if attempt is None:
            return record.final
        if not (record.final or attempt.end_time):
            return False
        now = asyncio.get_running_loop().time()
        self._ended_at = now if self._ended_at is None else self._ended_at
        return attempt.removed or now - self._ended_at > LAST_WORDS_SECONDS

    async def take(self, *, whole: bool) -> list[LogEntry]:
        """What is new, as much as fits in the memory at a time; `more` says whether there is some left."""
        try:
            await asyncio.to_thread(self._logs.fill, whole=whole)
        except OSError as error:
            why = f"they cannot be read: {error.strerror or error}"
            raise LogsNotFound(self._record.id, self._attempt, why) from error
        if not self._request.omit_events:
            await self._fill_events()
        sources = [self._events, *self._logs.sources]
        entries = merge(sources)
        self.more = any(source.more or source.entries for source in sources)
        return entries

    def goes_on(self) -> bool:
        """Whether something may come after this attempt, for one who asked for whichever is the last."""
        return not self._request.attempt and not (self._record.final and self._record.attempt == self._attempt)

    def next_attempt(self) -> bool:
        """Goes on to the next attempt, where there is one."""
        if self._record.attempt <= self._attempt:
            return False
        self._attempt += 1
        self._ended_at = None
        self._logs = AttemptLogs(self._folder, attempt=self._attempt, ranks=self._request.ranks)
        return True

    async def _fill_events(self) -> None:
        if self._events.entries:
            return
        if self._after is None:
            self._after = await self._first_event()
        events = await self._store.events(self._record.id, after=self._after, limit=EVENTS_AT_ONCE)
        self._events.more = len(events) == EVENTS_AT_ONCE
        until = await self._next_start() if self._request.attempt else None
        for event in events:
            if until is not None and _nanoseconds(event) >= until:
                self._events.more = False
                return
            self._after = event.sequence
            self._events.entries.append(LogEntry(time=event.create_time, attempt=self._attempt, event=event))

    async def _first_event(self) -> int:
        """The sequence number behind which to begin: with the attempt, or with the first line that is shown."""
        begin = 0
        if self._attempt > 1 and (attempt := await self._store.attempt(AttemptKey(self._record.id, self._attempt))):
            begin = timestamp(attempt.create_time).ToNanoseconds()
        if self._request.HasField("tail_lines"):
            lines = (source.entries[0] for source in self._logs.sources if source.entries)
            first = min((line.time.ToNanoseconds() for line in lines if line.HasField("time")), default=None)
            if first is None:
                return max(await self._before(begin), await self._before_last(self._request.tail_lines))
            begin = max(begin, first)
        return await self._before(begin)

    async def _before_last(self, number: int) -> int:
        """The sequence number behind which so many events are; a checkpoint belongs to its epoch, and is not counted.

        No reader shows a line for it.
        """
        begin = self._record.sequence
        while begin and number:
            at_once = min(EVENTS_AT_ONCE, begin)
            events = await self._store.events(self._record.id, after=begin - at_once, limit=at_once)
            begin -= at_once
            for event in reversed(events):
                number -= not event.HasField("checkpoint")
                if not number:
                    return event.sequence - 1
        return begin

    async def _before(self, time: int) -> int:
        """The last sequence number before a time in nanoseconds: numbers have no gap, and times grow with them."""
        low, high = 0, self._record.sequence if time else 0
        while low < high:
            middle = (low + high) // 2
            found = await self._store.events(self._record.id, after=middle, limit=1)
            if found and _nanoseconds(found[0]) < time:
                low = middle + 1
            else:
                high = middle
        return low

    async def _next_start(self) -> int | None:
        """When the attempt after this one began, in nanoseconds."""
        following = await self._store.attempt(AttemptKey(self._record.id, self._attempt + 1))
        return timestamp(following.create_time).ToNanoseconds() if following else None


def _nanoseconds(event: Event) -> int:
    nanoseconds: int = event.create_time.ToNanoseconds()
    return nanoseconds


def _responses(entries: Iterable[LogEntry]) -> Iterator[ReadLogsResponse]:
    """Messages of a size that every client takes."""
    response, size = ReadLogsResponse(), 0
    for entry in entries:
        if size > RESPONSE_BYTES:
            yield response
            response, size = ReadLogsResponse(), 0
        response.entries.append(entry)
        size += entry.ByteSize()
    if response.entries:
        yield response
