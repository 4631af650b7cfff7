"""A guest process that raises the counter of one disk under a lease from a sanlock daemon, until it is killed.

It asks nobody whether it still holds: its daemon, or a watchdog, kills it in time. That is sanlock's contract.
The words, the record and the history are those of control.rs, counter.rs and history.rs.
"""

import ctypes
import errno
import json
import mmap
import os
import random
import signal
import struct
import sys
import time

import sanlock

JOINING, IDLE, ACQUIRING, HOLDING, RELEASING = range(5)
ENDED = 7
WISH_AT, WISH_END, WISH_KEEP = 24, 3, 4
LVER_AT = 48
# In seconds, at most: after a turn, after a refusal, between read and write.
REST, RETRY, THINK, THINK_LONG = 0.06, 0.06, 0.004, 0.5

orders = json.loads(sys.argv[1])
control = os.open(orders["control"], os.O_RDWR)
counter = os.open(orders["counter"], os.O_RDWR)
history = os.open(orders["history"], os.O_WRONLY | os.O_APPEND)
# The lease behind all mounts: to know its version, no more.
lease = os.open(orders["lease"], os.O_RDONLY | os.O_DIRECT)
sector = mmap.mmap(-1, 4096)


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def note(what, **fields):
    fields.update(at=now(), who=orders["machine"], what=what, life=orders["life"], disk=orders["disk"])
    fields.setdefault("host", orders["host"])
    os.write(history, (json.dumps(fields) + "\n").encode())


def say(state):
    os.pwrite(control, struct.pack("<QQQ", state, orders["host"], orders["disk"]), 0)


def version():
    os.preadv(lease, [sector], 0)
    return struct.unpack_from("<Q", sector, LVER_AT)[0]


def wish():
    return struct.unpack("<Q", os.pread(control, 8, WISH_AT))[0]


def pause(up_to):
    time.sleep(random.random() * up_to)


def hold(lock):
    rounds = random.randint(1, 3)
    while rounds > 0 or wish() == WISH_KEEP:
        rounds -= 1
        value, mark = struct.unpack("<QQ", os.pread(counter, 16, 0))
        made = (value + 1, random.getrandbits(63))
        record = struct.pack("<QQ", *made)
        note("about", found=[value, mark], made=list(made), **lock)
        pause(THINK_LONG if random.random() < 1 / 16 else THINK)
        asked = now()
        os.pwrite(counter, record, 0)
        written = now()
        note("wrote", found=[value, mark], made=list(made), asked=asked, written=written, **lock)


def turns(slkfd):
    name = (orders["lockspace"].encode(), orders["resource"].encode())
    disks = [(orders["path"], 0)]
    while wish() != WISH_END:
        say(ACQUIRING)
        try:
            sanlock.acquire(*name, disks, slkfd=slkfd)
        except sanlock.SanlockException as error:
            # Somebody else holds it (-243), or was quicker; or an earlier client has died while it waited.
            if error.errno not in (-243, -244, -245, errno.EBUSY):
                note("refused", number=error.errno)
            say(IDLE)
            if error.errno == errno.ENOSPC:
                # The daemon has no such lockspace any more.
                sys.exit()
            pause(RETRY)
            continue
        lock = {"version": version(), "generation": orders["generation"]}
        note("got", **lock)
        say(HOLDING)
        hold(lock)
        say(RELEASING)
        note("releasing", **lock)
        try:
            sanlock.release(*name, disks, slkfd=slkfd)
            note("released", **lock)
        except sanlock.SanlockException as error:
            note("not released", number=error.errno, **lock)
        say(IDLE)
        pause(REST)
    say(ENDED)


PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
turns(sanlock.register())
