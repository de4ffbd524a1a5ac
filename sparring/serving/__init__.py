"""Serve a page on this machine on which a person attacks a picture, and compares models."""
