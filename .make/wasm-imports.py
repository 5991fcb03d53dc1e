#!/usr/bin/env python3
"""Compares the imports of a wasm module with the list of those that Envoy resolves.

    python3 .make/wasm-imports.py MODULE.wasm ALLOWED.txt

An import that Envoy does not know is found only when the filter is loaded, and then no request passes. Exit 1 names
what is not allowed; names of the list that the module does not import are fine.
"""

import sys

IMPORT_SECTION = 2
FUNCTION, TABLE, MEMORY, GLOBAL, TAG = range(5)


class Reader:
    """Walks the bytes of a module."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            sys.exit("the module ends in the middle")
        self.at += count
        return taken

    def byte(self):
        return self.take(1)[0]

    def number(self):
        """An unsigned LEB128."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def name(self):
        return self.take(self.number()).decode()

    def limits(self):
        has_maximum = self.byte() & 1
        for _ in range(1 + has_maximum):
            self.number()


def imports(module):
    """Every import as `module.name`."""
    reader = Reader(module)
    if reader.take(8) != b"\0asm\1\0\0\0":
        sys.exit("not a wasm module")
    while reader.at < len(module):
        section, size = reader.byte(), reader.number()
        body = Reader(reader.take(size))
        if section == IMPORT_SECTION:
            return [one_import(body) for _ in range(body.number())]
    return []


def one_import(reader):
    full_name = f"{reader.name()}.{reader.name()}"
    kind = reader.byte()
    if kind == FUNCTION:
        reader.number()
    elif kind == TABLE:
        reader.byte()
        reader.limits()
    elif kind == MEMORY:
        reader.limits()
    elif kind == GLOBAL:
        reader.take(2)
    elif kind == TAG:
        reader.byte()
        reader.number()
    else:
        sys.exit(f"{full_name}: unknown kind of import {kind}")
    return full_name


def main():
    module, allowed = sys.argv[1:]
    with open(allowed, encoding="utf-8") as file:
        names = {line.split("#")[0].strip() for line in file} - {""}
    with open(module, "rb") as file:
        found = imports(file.read())
    unknown = sorted(set(found) - names)
    for name in unknown:
        print(f"{module} imports {name}, which {allowed} does not allow", file=sys.stderr)
    print(f"{len(found)} imports, {len(unknown)} of them not allowed")
    sys.exit(1 if unknown else 0)


if __name__ == "__main__":
    main()
