"""What there is to say of a network that is large for its data: a warning, for large ones may well generalise."""

# With fewer parameters than this for a sample, how a network is trained matters more than how large it is.
_FAR_MORE = 10


def warn_of_capacity(num_parameters: int, num_train: int, *, stops_early: bool = False) -> str:
    """Returns a warning where parameters exceed training samples by far: 10 times or more.

    Args:
        num_parameters: Learned parameters of the network; 0 where they are not known.
        num_train: Samples in the training split; 0 where they are not known.
        stops_early: Whether the job asks for early stopping, which it then is not told to ask for.

    Returns:
        A sentence or two that say what to do about it; empty where there is nothing to say.
    """
    if num_train < 1 or num_parameters < _FAR_MORE * num_train:
        return ""
    samples = "1 training sample" if num_train == 1 else f"{num_train:,} training samples"
    stop = "" if stops_early else ", and write early_stopping: {by: VERDICT} to end the training when it overfits"
    return (
        f"the network has {num_parameters:,} parameters for {samples}, {for_each(num_parameters / num_train)}: it may "
        f"learn them by heart; take fewer or narrower layers, add dropout or weight decay, or get more data{stop}"
    )


def for_each(load: float) -> str:
    """Writes how many parameters there are for each sample: `1.4 for each`, `5,018 for each`."""
    # A tenth tells 1.4 from 1; of large ones it would be made up.
    return f"{load:,.1f} for each" if load < _FAR_MORE else f"{load:,.0f} for each"
