"""Calls every resource through the unmodified openstacksdk, and counts the calls.

    MIZAR_URL=http://… MIZAR_ADMIN_PASSWORD=… python calls.py [part of a story's name]…

A story is a function that makes calls and asserts what they answer. `lifecycles.py` has the one
that all resources share, told by a table; `stories.py` has what each of them can do beyond it.
"""

import os
import sys
import traceback
import types

import openstack.exceptions as refusals

import accounts
import lifecycles
import stories


class Counter:
    """How many calls were made, and how many did what was expected of them."""

    def __init__(self):
        self.ran = self.passed = 0

    def call(self, function, *arguments, **named):
        """Makes a call that must succeed; a list comes whole, page by page."""
        self.ran += 1
        answer = function(*arguments, **named)
        if isinstance(answer, types.GeneratorType):
            answer = list(answer)
        self.passed += 1
        return answer

    def refused(self, kind, function, *arguments, says="", **named):
        """Makes a call that must be refused in this way, by a message that contains `says`."""
        self.ran += 1
        try:
            answer = function.plain(*arguments, **named)
            if isinstance(answer, types.GeneratorType):
                answer = list(answer)
        except kind as refusal:
            assert says in str(refusal), f"expected {says!r}: {refusal}"
            self.passed += 1
            return
        raise AssertionError(f"{function.plain.__name__}{arguments}{named} was not refused: {answer}")


class Counted:
    """A part of the SDK, each of whose calls is counted."""

    def __init__(self, plain, counter):
        self.plain, self.counter = plain, counter

    def __getattr__(self, name):
        return Counted(getattr(self.plain, name), self.counter)

    def __call__(self, *arguments, **named):
        return self.counter.call(self.plain, *arguments, **named)


class Scene:
    """What a story is told with: connections, projects, and what must be refused."""

    def __init__(self, cloud, connections, counter):
        self.counter, self.ids, self.cloud = counter, cloud.ids, cloud
        for name, connection in connections.items():
            setattr(self, name, Counted(connection, counter))

    def denied(self, function, *arguments, **named):
        """403: visible, but not to be changed."""
        self.counter.refused(refusals.ForbiddenException, function, *arguments, **named)

    def missing(self, function, *arguments, **named):
        """404: not there, or not to be seen."""
        self.counter.refused(refusals.NotFoundException, function, *arguments, **named)

    def invalid(self, function, *arguments, **named):
        """400: not understood."""
        self.counter.refused(refusals.BadRequestException, function, *arguments, **named)

    def conflict(self, function, *arguments, **named):
        """409: not as things are."""
        self.counter.refused(refusals.ConflictException, function, *arguments, **named)

    def outdated(self, function, *arguments, **named):
        """412: it is of another revision by now."""
        self.counter.refused(refusals.PreconditionFailedException, function, *arguments, **named)


def main(chosen):
    cloud = accounts.Cloud(os.environ["MIZAR_URL"], os.environ["MIZAR_ADMIN_PASSWORD"])
    counter, failures = Counter(), []
    scene = Scene(cloud, {name: cloud.of(name) for name in cloud.passwords}, counter)
    for name, story in [*lifecycles.stories(), *stories.stories()]:
        if chosen and not any(part in name for part in chosen):
            continue
        try:
            story(scene)
        except Exception:
            failures.append(f"{name}: {traceback.format_exc()}")
        failures += [f"{name} left behind {what}" for what in cloud.left()]
    for failure in failures:
        print(failure)
    print(f"openstacksdk: {counter.ran} calls made, {counter.passed} passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
