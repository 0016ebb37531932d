"""What Prometheus scrapes, and the only importer of prometheus_client. It watches, and nothing depends on what it sees.

The series of a job come from a collector over the jobs that live, and go with them: however many jobs and names come
through the service, what it exports stays as large as the most that live at one time, and that is capped.
"""
