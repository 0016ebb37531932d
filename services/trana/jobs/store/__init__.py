"""What the control plane remembers: jobs, attempts, events, epochs, checkpoints. The only importer of sqlalchemy.

Every operation of the store is one transaction; what it returns is durable. It decides nothing.
"""
