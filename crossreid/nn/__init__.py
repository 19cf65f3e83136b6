"""Layers and backbones that several methods are made of, one idea a file."""
