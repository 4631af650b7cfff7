"""A process registered with a sanlock daemon, moved by lines of JSON.

Reads one command a line from stdin and answers each with one line: {"ok": result} or {"error": number}.
Ends, and with it its leases, when stdin does.
"""

import json
import sys


def answer(what):
    print(json.dumps(what), flush=True)


try:
    import sanlock
except ImportError as missing:
    answer({"missing": str(missing)})
    sys.exit(1)


def numbered(host):
    names = ("host_id", "generation", "timestamp", "io_timeout", "flags")
    return {name: host[name] for name in names}


def run(command, slkfd):
    action = command["action"]
    if action == "hosts":
        lockspace = command["lockspace"].encode()
        return [numbered(host) for host in sanlock.get_hosts(lockspace)]
    if action == "inquire":
        held = sanlock.inquire(slkfd=slkfd)
        return [resource["resource"].decode() for resource in held]
    name = (command["lockspace"].encode(), command["resource"].encode())
    disks = [(command["path"], command["offset"])]
    if action == "acquire":
        sanlock.acquire(*name, disks, slkfd=slkfd, shared=command["shared"])
        return None
    if action == "release":
        sanlock.release(*name, disks, slkfd=slkfd)
        return None
    if action == "owners":
        owners = sanlock.read_resource_owners(
            *name, disks, align=command["align"], sector=command["sector"]
        )
        return [numbered(host) for host in owners]
    raise ValueError(action)


def main():
    slkfd = sanlock.register()
    answer({"ok": None})
    for line in sys.stdin:
        try:
            answer({"ok": run(json.loads(line), slkfd)})
        except sanlock.SanlockException as error:
            # The module gives numbers of sanlock's own as they are, and those of the system without the sign.
            answer({"error": -abs(error.errno)})


main()
