"""One trace for a job's life: which spans there are, and how they get out. The only importer of opentelemetry.

Nothing of OpenTelemetry is imported unless tracing is on. It decides nothing and remembers nothing: the trace that a
job belongs to stands in the job's row.
"""
