#!/usr/bin/env python3
"""{{.Name}}: a line of text in, a line of text out. What is not flushed is not seen."""
import sys


def change(text):
    return text.upper()


for line in sys.stdin:
    print(change(line.rstrip("\n")), flush=True)
