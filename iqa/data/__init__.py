"""Databases of rated images: reading, generating, caching and cropping them."""


class DataError(ValueError):
    """Images or labels that cannot be used; the message names the file and says what to do."""
