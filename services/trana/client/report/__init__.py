"""The report: from a job and its learning curve to one page of HTML that needs nothing else.

Pure functions from messages to text. Not here: any call of a service, any file that is written.
"""
