"""A watched job as lines of text, for logs and pipes: one for each event that tells something new."""

from trana.client.command.live import describe_epoch, describe_speed
from trana.client.command.verdicts import notice_text
from trana.client.watching import FINAL_STATES
from trana.client.words import cause_name, job_id, local_time, of_epochs, state_name
from trana.v1 import event_pb2, job_service_pb2


def line_of(response: job_service_pb2.WatchJobResponse) -> str:
    """Writes what a response tells; nothing for one that tells no news.

    That is one without an event, or with a checkpoint: the line of its epoch says `best`.
    """
    event = response.event
    if not response.HasField("event") or event.HasField("checkpoint"):
        return ""
    when = local_time(event.create_time).strftime("%H:%M:%S")
    return f"{when}  {job_id(response.job.name)}  {describe_event(event, response.job.spec.training.epochs)}"


def describe_event(event: event_pb2.Event, epochs: int = 0) -> str:
    """Writes what happened on a line; `epochs` is how many there shall be, 0 where that is not known."""
    match event.WhichOneof("payload"):
        case "state_change":
            return _state_change(event.state_change)
        case "epoch":
            line = describe_epoch(event.epoch).plain.removeprefix(f"epoch {event.epoch.epoch}")
            return f"epoch {of_epochs(event.epoch.epoch, epochs)}{line}  {describe_speed(event.epoch)}".rstrip()
    notice = notice_text(event)
    if notice is not None:
        # A line for each event, whatever it holds: programs count on it.
        return " ".join(notice.plain.splitlines())
    return f"event {event.sequence}, of a kind that this client does not know"


def _state_change(change: event_pb2.StateChange) -> str:
    parts = [state_name(change.to_state)]
    if change.attempt > 1:
        parts.append(f"attempt {change.attempt}")
    # The summary that follows has the message, which may be as long as a traceback.
    message = "" if change.to_state in FINAL_STATES else change.message
    why = ": ".join(filter(None, (cause_name(change.cause), message)))
    if why:
        parts.append(why)
    return "  ".join(parts)
