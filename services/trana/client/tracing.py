"""The span that the program is in, for the service to go on with; costs nothing where the program makes no traces."""

import sys


def current_span() -> tuple[tuple[str, str], ...]:
    """The metadata of a call: `traceparent`, as W3C's Trace Context writes it, or nothing.

    OpenTelemetry is only looked at where the program has imported it: without that there can be no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    return (("traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"),)
