"""Hold the error that `pdtrain.config` catches."""


class OmegaConfBaseException(Exception):  # noqa: N818 - its name there
    """Stand in for what OmegaConf raises; nothing raises it here."""
