"""Readings and what they say together: values with units, ages and doubts. Pure."""
