"""The one exception for impossible parameters, shared by every block and table."""

__all__ = ["ConfigError"]


class ConfigError(ValueError):
    """A parameter has the right type and an impossible value.

    The text reads ``<Class>.<field> must be <rule>, not <value!r>``.
    """
