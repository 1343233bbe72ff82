"""bessemer: from a general model and a private domain to a small, aligned, deployable domain model."""

__version__ = "0.1.0"

__all__ = ["__version__"]
