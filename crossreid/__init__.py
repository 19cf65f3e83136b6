"""Person re-identification across cameras, modalities and domains."""

__version__ = "0.1.0"
