"""Explorers: the method under the reader's hands, in the built page and in a live kernel.

What the page runs is JavaScript of the folder `web/`; here is what it runs on. Nothing below this
room imports it.
"""
