"""How often is the verdict on the fit right? Real networks are trained, and an oracle that it cannot see scores it.

Each problem can draw fresh samples without end, so that the truth about a run is its loss on 20,000 samples that
nobody trained on, after each epoch. The verdict sees training and validation losses only.
"""
