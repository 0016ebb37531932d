"""What a training minimises, whoever wrote it: declared layers, a torch module, a Lightning or a Keras network.

`Objective` is what the loop sees of any of them. Lightning and Keras are imported only where the user's code did.
"""
