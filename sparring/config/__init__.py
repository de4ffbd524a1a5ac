"""Recipes: which pieces, with which numbers; read, checked, completed, built."""
