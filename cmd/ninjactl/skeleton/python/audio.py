#!/usr/bin/env python3
"""{{.Name}}: 20 ms of sound in, as much out. Each begins with its length in bytes; all numbers are big-endian."""
import struct
import sys


def change(samples):
    return [s // 2 for s in samples]


take, give = sys.stdin.buffer, sys.stdout.buffer
while head := take.read(4):
    sound = take.read(struct.unpack(">I", head)[0])
    samples = change(struct.unpack(f">{len(sound) // 2}h", sound))
    give.write(struct.pack(f">I{len(samples)}h", 2 * len(samples), *samples))
    give.flush()
