"""What the report's programs in Python share: features that are tried one by one, each told in a line."""

import itertools
import sys
import time
import traceback
import uuid

ADDRESS = sys.argv[1]
# Names are new in every run, so that a server may be asked twice.
RUN = uuid.uuid4().hex[:8]

tried = []


def feature(name):
    """Marks a function that passes unless it raises."""

    def note(function):
        tried.append((name, function))
        return function

    return note


def unsupported(name, why):
    tried.append((name, why))


given = itertools.count()


def name(what):
    """A name that nobody has had."""
    return f"report-{what}-{next(given)}-{RUN}"


def until(what, holds, patience=30):
    deadline = time.time() + patience
    while not holds():
        if time.time() > deadline:
            raise AssertionError(f"gave up waiting for {what}")
        time.sleep(0.05)


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


def tell(line):
    print("\t".join(line), flush=True)


def told(error):
    text = " ".join(f"{type(error).__name__}: {error}".split())
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text[:200]} (line {where.lineno})"


def run():
    for feature_name, function in tried:
        if isinstance(function, str):
            tell([feature_name, "-", function])
            continue
        try:
            function()
            tell([feature_name, "pass", ""])
        except BaseException as error:
            tell([feature_name, "fail", told(error)])
