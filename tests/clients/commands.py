"""Runs the commands of `commands/*.txt` by the unmodified `openstack` client, and counts them.

    MIZAR_URL=http://… MIZAR_ADMIN_PASSWORD=… python commands.py [part of a file's name]…

A file is a story about one resource. A line at the margin is a command, an indented line below it
what must come of it; without any, the command must succeed:

    [red]                              who types from here on
    network create --mtu 1300 net
      mtu = 1300                       a value of what it shows (JSON, or else a text)
      tags ~ web                       a value that contains this
      keep NET = id                    from here on $NET
    port list --network net
      Name is p1, p2                   a column of a list: these rows, in any order
      Name has p1                      these among others
      [Name p1] Status = DOWN          a value of one row
      empty                            no row
    network delete $NET
      ! in use                         it is refused, and says so (`!`: says anything)
    [robot = --os-auth-type …]         somebody else, with the options to log in

`red` and `blue` are members of projects of these names, `reader` may read in red's, `operator` is
an administrator. Each has one instance of the client, as in its interactive mode: to start it anew
for every command would take half an hour. A file leaves nothing behind: that is looked up after
each. A run of all files has also to run every command that the client has for the network and the
identity service, but those that `commands/not-served` names.
"""

import collections
import contextlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import pathlib
import re
import shlex
import sys
import traceback

from openstackclient.shell import OpenStackShell

import accounts

HERE = pathlib.Path(__file__).parent / "commands"
GROUPS = ["openstack.network.v2", "openstack.identity.v3", "openstack.common"]


class Unmet(Exception):
    """A command that did not do what its file says."""


class Screen(io.TextIOBase):
    """Where the client writes: it keeps the streams that it found when it was made."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def take(self):
        text, self.text = self.text, ""
        return text


class Person:
    """Somebody at the client's prompt, who logs in with the first command.

    Each is a process: what the client keeps of a login, it keeps for the whole of one.
    """

    def __init__(self, options):
        self.options, self.process = options, None

    def run(self, words):
        """The exit status, and what was printed on the standard output and as errors."""
        if self.process is None:
            self.pipe, theirs = multiprocessing.Pipe()
            self.process = multiprocessing.get_context("fork").Process(target=self.type, args=[theirs], daemon=True)
            self.process.start()
        self.pipe.send(words)
        return self.pipe.recv()

    def type(self, pipe):
        """Types what comes, and answers with what the client said."""
        out, err, shell = Screen(), Screen(), None
        while words := pipe.recv():
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    if shell is None:
                        shell = OpenStackShell()
                        status = shell.run([*self.options, *words])
                    else:
                        status = shell.run_subcommand(words)
                except SystemExit as exit:  # wrong options
                    status = exit.code
                except Exception:
                    status = 1
                    traceback.print_exc()
                if not hasattr(shell, "client_manager"):  # the options to log in were refused
                    shell = None
            pipe.send((status, out.take(), err.take()))


class Command:
    """A line of a file, and what must come of it."""

    def __init__(self, line, person, text):
        self.line, self.person, self.text, self.checks = line, person, text, []

    def refusal(self):
        return next((check[1:].strip() for check in self.checks if check.startswith("!")), None)

    def reads(self):
        """Whether the answer is looked into."""
        return any(not check.startswith(("!", "says ")) for check in self.checks)


def parse(path):
    """The commands of a file, in order; a line `[name = options]` comes as a tuple."""
    person, parsed = None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            parsed[-1].checks.append(line.strip())
        elif found := re.fullmatch(r"\[(\w+)(?: = (.*))?\]", line):
            person = found[1]
            if found[2]:
                parsed.append((person, found[2]))
        else:
            parsed.append(Command(number, person, line))
    return parsed


def at(value, path):
    """What a path of keys and indexes leads to."""
    for part in re.split(r"\.(?=[^.\s])", path):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Unmet(f"there is no {path} in {json.dumps(value)}") from None
    return value


def shown(value):
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def wanted(text):
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def check(line, answer, kept):
    """Asserts one indented line about an answer."""
    if found := re.fullmatch(r"keep (\w+) = (.+)", line):
        kept[found[1]] = shown(at(answer, found[2]))
        return
    if line == "empty":
        met = answer == []
    elif found := re.fullmatch(r"(\d+) rows?", line):
        met = isinstance(answer, list) and len(answer) == int(found[1])
    elif found := re.fullmatch(r"\[(.+) (\S+)\] (.+)", line):
        rows = [row for row in answer if shown(row[found[1]]) == found[2]]
        if len(rows) != 1:
            raise Unmet(f"{len(rows)} rows with {found[1]} {found[2]} in {json.dumps(answer)}")
        return check(found[3], rows[0], kept)
    elif found := re.fullmatch(r"(.+?) (=|!=|~)(?: (.*))?", line):
        value, expected = at(answer, found[1]), found[3] or ""
        met = {
            "=": value == wanted(expected) or value == expected,
            "!=": value != wanted(expected) and value != expected,
            "~": expected in shown(value),
        }[found[2]]
    elif found := re.fullmatch(r"(.+?) (is|has|lacks) (.*)", line):
        column = sorted(shown(row[found[1]]) for row in answer)
        expected = sorted(part for part in found[3].split(", "))
        met = {
            "is": column == expected,
            "has": set(expected) <= set(column),
            "lacks": not set(expected) & set(column),
        }[found[2]]
    else:
        raise Unmet(f"cannot read: {line}")
    if not met:
        raise Unmet(f"not met: {line}\n  in {json.dumps(answer)}")


def fill(text, kept):
    """A text with what was kept in place of `$NAME`."""
    try:
        return re.sub(r"\$(\w+)", lambda name: kept[name[1]], text)
    except KeyError as name:
        raise Unmet(f"nothing was kept as {name}") from None


def execute(command, people, kept):
    """Runs one command and asserts what its file says of it."""
    words = [fill(word, kept) for word in shlex.split(command.text)]
    words += ["-f", "json"] if command.reads() else []
    status, out, err = people[command.person].run(words)
    if "Traceback (most recent call last)" in out + err:
        raise Unmet(err)
    refusal = command.refusal()
    if refusal is not None:
        if status == 0:
            raise Unmet(f"it was not refused: {out}")
        if fill(refusal, kept) not in err:
            raise Unmet(f"it was refused otherwise: {err}")
        return
    if status != 0:
        raise Unmet(f"status {status}: {err or out}")
    answer = json.loads(out) if command.reads() else None
    for line in command.checks:
        line = fill(line, kept)
        if line.startswith("says "):
            if line[5:] not in out:
                raise Unmet(f"it does not say so: {out}")
        else:
            check(line, answer, kept)


def known():
    """Every command that the client has for these services: the words of its name."""
    points = importlib.metadata.distribution("python-openstackclient").entry_points
    return {point.name.replace("_", " ") for point in points if point.group in GROUPS}


def uncovered(done):
    """What a run of all files has not run and should have, or has run and should not."""
    served, ahead = known(), []
    for line in (HERE / "not-served").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            ahead.append(line.strip())
    def is_ahead(name):
        return any(name == entry or (entry.endswith(" *") and name.startswith(entry[:-1])) for entry in ahead)
    yield from (f"no file runs `{name}`" for name in sorted(served - done) if not is_ahead(name))
    yield from (f"not-served names `{name}`, which is run" for name in sorted(done - {None}) if is_ahead(name))


def name_of(words, commands):
    """The longest command that begins a line."""
    parts = words.split()
    return next((n for e in range(len(parts), 0, -1) if (n := " ".join(parts[:e])) in commands), None)


def main(chosen):
    cloud = accounts.Cloud(os.environ["MIZAR_URL"], os.environ["MIZAR_ADMIN_PASSWORD"])
    people = {name: Person(options) for name, options in cloud.options().items()}
    commands, done, ran, passed, failures = known(), set(), 0, 0, []
    for path in sorted(HERE.glob("*.txt")):
        if chosen and not any(part in path.name for part in chosen):
            continue
        kept = dict(cloud.ids)
        for command in parse(path):
            if isinstance(command, tuple):
                name, options = command
                options = [fill(option, collections.defaultdict(str, kept)) for option in shlex.split(options)]
                people[name] = Person([*cloud.address(), *options])
                continue
            ran += 1
            if command.refusal() is None:
                done.add(name_of(command.text, commands))
            try:
                execute(command, people, kept)
                passed += 1
            except Unmet as reason:
                failures.append(f"{path.name}:{command.line}: openstack {command.text}\n  {reason}")
        failures += [f"{path.name} left behind {what}" for what in cloud.left()]
    if not chosen:
        failures += uncovered(done)
    for failure in failures:
        print(failure)
    print(f"openstack: {ran} commands run, {passed} passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
