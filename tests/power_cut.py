"""A power cut for the test tests/it/kill.rs: ext4 on a loop device, shut down without flushing.

    python3 tests/power_cut.py make DIR     makes IMAGE = DIR.img and mounts it on DIR
    python3 tests/power_cut.py cut DIR      stops every write at once: neither pages nor the journal
                                            are flushed, as when the power fails
    python3 tests/power_cut.py unmount DIR  and
    python3 tests/power_cut.py mount DIR    as after a reboot
    python3 tests/power_cut.py remove DIR   unmounts it and removes the image

It needs root, mkfs.ext4 and /dev/loop. What was not synced is gone after a cut, for the page cache
goes with the mount; what was synced is in the image.
"""

import fcntl
import os
import struct
import subprocess
import sys

# linux/fs.h and fs/ext4: _IOR('X', 125, __u32), and "do not flush the log".
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(folder):
    os.makedirs(folder, exist_ok=True)
    with open(folder + ".img", "wb") as image:
        image.truncate(512 << 20)
    run("mkfs.ext4", "-q", "-F", folder + ".img")
    mount(folder)


def mount(folder):
    run("mount", "-o", "loop", folder + ".img", folder)


def cut(folder):
    root = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    os.close(root)


def unmount(folder):
    run("umount", folder)


def remove(folder):
    # Also where somebody still has a file open on it.
    run("umount", "--lazy", folder)
    os.remove(folder + ".img")


if __name__ == "__main__":
    verb, place = sys.argv[1:]
    {"make": make, "cut": cut, "unmount": unmount, "mount": mount, "remove": remove}[verb](place)
