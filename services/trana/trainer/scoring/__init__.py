"""What is done with a checkpoint when the training is over: evaluate, predict, export.

A checkpoint alone is enough, wherever it lies. `python -m trana.trainer.scoring` is what the `trana` command starts.
Not here: anything of training, and anything of the service.
"""
