"""What runs in a worker: reads the data, trains the network, keeps its checkpoints, and reports.

The only room that imports torch. It knows nothing of Ray, gRPC or SQL: `worker.run` is called in each rank's
process with plain values, and `python -m trana.trainer` does the same under torchrun. `train.train` is the
file to read first; `loop` takes its place for a loop of the user's, which sees a `context`. `preflight.check` and
everything in `data` stay free of torch, so that a dataset is checked in a fraction of a second before any worker is
held.
"""
