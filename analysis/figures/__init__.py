"""Figures: each is a function that computes a plain table and a function that draws it."""
