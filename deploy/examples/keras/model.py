"""A Keras 3 network; Trana runs it on Keras's torch backend."""

import keras


def classifier(num_classes: int, width: int) -> keras.Model:
    """Makes a network that tells digits from their pixels; sizes of the input follow from the first samples."""
    return keras.Sequential(
        [
            keras.layers.Dense(width, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(num_classes),  # scores, without softmax: the loss brings its own
        ]
    )
