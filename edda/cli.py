"""The command `edda`: run an app, and look into its database.

`serve` and `worker` run an app that a module defines. The other commands open its database
beside it, without running anything: what they ask for, a worker does. Other packages bring
commands of their own (`edda.guests`). Exit codes: 0 done, 1 it could not be done, 2 the command
line does not say what to do.
"""

import argparse
import asyncio
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edda.app import EddaApp
from edda.completion import SHELLS, script
from edda.errors import ArgumentError, EddaError, StoreUrlError
from edda.export import as_since, as_text, export, redacted, selected, write
from edda.guests import invite
from edda.history import as_document
from edda.ports import Instance, Status
from edda.serving import serve, work
from edda.targets import Trouble, database_url
from edda.timeline import clock_text, instance_view, outcome_text, table, timeline, visible

__all__ = ["main"]

ABOUT = """\
Durable workflows: run an app, and look into its database.

  edda init shop                                      a small project to begin with
  edda serve shop.main:app                            HTTP and worker, port 8001
  edda worker shop.main:app                           a worker without HTTP
  edda ps --db sqlite:///edda.db --status stuck       which instances there are
  edda show ID --db sqlite:///edda.db                 what happened to one, as a timeline
  edda history export ID > history.json               the same for programs
  edda cancel ID                                      ask for its cancellation
  edda retry ID                                       try a stuck one again
  edda lint src                                       what replays cannot repeat, without running
  edda check tests/histories                          whether recorded histories fit today's code
"""

CODES = """\
Where a command needs a database, name it with --db, or the app that uses it with --app, or set
EDDA_DB_URL or EDDA_APP. Exit codes: 0 done, 1 it could not be done, 2 usage.
"""

SERVE = """\
Serve an app over HTTP and run its workflows, until SIGTERM or Ctrl-C. Requests then have 10 s to
end and steps the app's drain_seconds (5); what is cut off, or waits, goes on in the next process.
The working directory is searched for the module.

  edda serve orders:app
  edda serve shop.main:app --host 0.0.0.0 --port 80

Then, from elsewhere:

  curl -X POST http://localhost:8001/events -H 'Content-Type: application/cloudevents+json' \\
    -d '{"specversion":"1.0","type":"payment.completed","source":"shell","id":"1","data":{}}'
"""

WORKER = """\
Run an app's workflows without HTTP, until SIGTERM or Ctrl-C. Steps then have the app's
drain_seconds (5) to end; another Ctrl-C cuts them off. Several workers may share one database.

  edda worker shop.main:app
  edda worker shop.main:app & edda worker shop.main:app &
"""

PS = """\
List instances, by id.

  edda ps --db sqlite:///edda.db
  edda ps --app shop.main:app --status waiting_for_event --workflow payment_workflow
  edda ps --json | jq -r '.[].id'
"""

SHOW = """\
Show what happened to an instance: one line an event, with its time (UTC), how long nothing
happened before it, a glyph for its kind, and where in the code it was asked for.

  edda show payment_workflow-5d1c --db sqlite:///edda.db
  edda show payment_workflow-5d1c --relative          times since the start
  edda show payment_workflow-5d1c --json | jq .status
"""

EXPORT = """\
Write histories as JSON documents (edda-history/1), for tests that replay them (`edda check`).

  edda history export payment_workflow-5d1c > tests/histories/payment_workflow/paid.json
  edda history export --status failed --since 7d --output exported
  edda history export --workflow payment_workflow --redact card.number --redact email --output out

--redact replaces the values at a path, in arguments, results and events, by others of the same
type, everywhere in the document; the path counts from its end, and * is any one name. Look
through what you publish: a value that code derives from a redacted one is not found.
"""

CANCEL = """\
Ask for the cancellation of an instance; a worker carries it out. Exit code 1 if it has ended.

  edda cancel payment_workflow-5d1c --db sqlite:///edda.db
"""

RETRY = """\
Try a stuck instance again, after code that fits its history was deployed.

  edda ps --status stuck
  edda retry payment_workflow-5d1c
"""

COMPLETION = """\
Print a script that lets a shell complete commands and options.

  source <(edda completion bash)                                          bash, in ~/.bashrc
  edda completion zsh > ~/.zfunc/_edda                                    zsh, a folder of fpath
  edda completion fish > ~/.config/fish/completions/edda.fish             fish
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")  # glyphs, and JSON for other programs
    given = sys.argv[1:] if argv is None else argv
    try:
        parser = _parser(given)
        if not given:
            parser.print_help(sys.stderr)
            return 2
        arguments = parser.parse_args(given)
        run: Callable[[argparse.Namespace], int] = arguments.run
        code = run(arguments)
        sys.stdout.flush()
        return code
    except Trouble as trouble:
        print(f"edda: {trouble}", file=sys.stderr)
        return trouble.code
    except EddaError as error:
        print(f"edda: {error}", file=sys.stderr)
        return 2 if isinstance(error, StoreUrlError) else 1
    except KeyboardInterrupt:
        return 1  # stopped by hand before it was done
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # then whoever reads it (`head`) has enough
            print(f"edda: {error}", file=sys.stderr)
        # Flushing at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


# ---- The command line ------------------------------------------------------------------------


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edda", description=ABOUT, epilog=CODES, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=f"edda {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serving = _command(
        commands, "serve", lambda given: serve(given.target, given.host, given.port), SERVE
    )
    serving.add_argument("target", metavar="module:app", help="the app to run")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serving.add_argument("--port", type=_port, default=8001, help="port, 0 for any (%(default)s)")

    worker = _command(commands, "worker", lambda given: work(given.target), WORKER)
    worker.add_argument("target", metavar="module:app", help="the app to run")

    ps = _command(commands, "ps", _run(_ps), PS)
    _add_database(ps)
    ps.add_argument(
        "--status",
        choices=[status.value for status in Status],
        metavar="STATUS",
        help=f"only those that are {', '.join(Status)}",
    )
    ps.add_argument("--workflow", metavar="NAME", help="only those of one workflow")
    ps.add_argument(
        "--limit", type=_count, default=100, metavar="N", help="at most so many (%(default)s)"
    )
    ps.add_argument("--after", metavar="ID", help="only those after this id")
    ps.add_argument("--json", action="store_true", help="a JSON array, for scripts")

    show = _command(commands, "show", _run(_show), SHOW)
    _add_instance(show)
    show.add_argument("--relative", action="store_true", help="times since the start")
    show.add_argument("--width", type=_count, metavar="N", help="columns (as the terminal has)")
    show.add_argument("--json", action="store_true", help="status, result and history as JSON")

    history = _command(commands, "history", None, EXPORT)
    actions = history.add_subparsers(metavar="export", required=True)
    exports = _command(actions, "export", _run(_export), EXPORT)
    exports.add_argument("id", metavar="ID", nargs="?", help="the instance; else several:")
    exports.add_argument(
        "--status", choices=[*map(str, Status)], metavar="STATUS", help="those of one status"
    )
    exports.add_argument("--workflow", metavar="NAME", help="those of one workflow")
    exports.add_argument("--since", metavar="WHEN", help="those heard of since: 24h, 7d, a date")
    exports.add_argument("--output", metavar="DIR", help="where to write a file for each")
    exports.add_argument(
        "--redact", action="append", default=[], metavar="PATH", help="replace values, see above"
    )
    _add_database(exports)

    for name, run, text in (("cancel", _cancel, CANCEL), ("retry", _retry, RETRY)):
        asking = _command(commands, name, _run(run), text)
        _add_instance(asking)
        asking.add_argument("--json", action="store_true", help="what came of it, and the status")
    completing = _command(commands, "completion", _completion, COMPLETION)
    completing.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    invite(commands, tuple(commands.choices), argv)
    return parser


def _version() -> str:
    try:
        return version("edda-durable")
    except PackageNotFoundError:
        return "(run from its sources)"


_Formatter = argparse.RawDescriptionHelpFormatter


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    summary = re.split(r"[.:;,]( |$)", text.partition("\n\n")[0].replace("\n", " "))[0]
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:],
        description=text,
        epilog=CODES,
        formatter_class=_Formatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def _add_database(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--db", metavar="URL", help="the database, e.g. sqlite:///edda.db")
    group.add_argument("--app", metavar="module:app", help="the app whose database it is")


def _add_instance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the instance; `edda ps` lists them")
    _add_database(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**63:  # what a database counts to
        raise argparse.ArgumentTypeError(f"expected a number from 1 up, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


# ---- Looking into a database -----------------------------------------------------------------


def _run(
    command: Callable[[EddaApp, argparse.Namespace], Awaitable[int]],
) -> Callable[[argparse.Namespace], int]:
    async def opened(arguments: argparse.Namespace) -> int:
        url = database_url(arguments.db, arguments.app)
        async with EddaApp("edda-cli", url, worker=False) as app:
            return await command(app, arguments)

    return lambda arguments: asyncio.run(opened(arguments))


async def _ps(app: EddaApp, arguments: argparse.Namespace) -> int:
    found = await app.find(
        status=arguments.status,
        workflow=arguments.workflow,
        limit=arguments.limit,
        after=arguments.after,
    )
    if arguments.json:
        _print_json([instance_view(instance) for instance in found])
        return 0
    print(_table(found) if found else "No instances.")
    if len(found) == arguments.limit:
        print(f"There may be more: --after {found[-1].id}", file=sys.stderr)
    return 0


async def _show(app: EddaApp, arguments: argparse.Namespace) -> int:
    instance, events = await app.instance(arguments.id), await app.history(arguments.id)
    if arguments.json:
        view = instance_view(instance, result=True)
        _print_json(view | {"history": as_document(instance.id, events)})
        return 0
    width = arguments.width or shutil.get_terminal_size((120, 24)).columns
    print(f"{visible(instance.id)}  {instance.status.value}\n")
    print(timeline(events, relative=arguments.relative, width=width))
    if instance.problem is not None:
        print(f"\nstuck since {clock_text(instance.updated_at)}:")
        print(*map(visible, json.loads(instance.problem)["message"].splitlines()), sep="\n")
    elif not instance.status.is_final:
        print(f"\n{outcome_text(instance)}")
    return 0


async def _export(app: EddaApp, arguments: argparse.Namespace) -> int:
    choice = (arguments.status, arguments.workflow, arguments.since)
    if (arguments.id is None) == (choice == (None, None, None)):
        raise Trouble("Which histories? Give an ID, or --status, --workflow or --since.", 2)
    if arguments.id is None and arguments.output is None:
        raise Trouble("Several histories are several files: give --output DIR.", 2)
    try:
        since = arguments.since and as_since(arguments.since, app.clock.now())
        redacted({"instance": "", "events": []}, arguments.redact)  # a bad path is refused at once
    except ArgumentError as error:
        raise Trouble(str(error), 2) from error
    if arguments.id is not None:
        found = [await app.instance(arguments.id)]
    else:
        found = await selected(app, status=choice[0], workflow=choice[1], since=since)
    for instance in found:
        document = await export(app, instance.id, arguments.redact)
        if arguments.output is None:
            print(as_text(document), end="")
        else:
            write(Path(arguments.output), instance.workflow, document)
    if arguments.output is not None:
        print(f"edda: histories written to {arguments.output}: {len(found):,}", file=sys.stderr)
    return 0


async def _cancel(app: EddaApp, arguments: argparse.Namespace) -> int:
    id, is_done = arguments.id, await app.cancel(arguments.id)
    status = await app.status(id)
    said = f"Asked for the cancellation of {id}; a worker carries it out."
    if not is_done:
        said = f"{id} is {status.value} already; it cannot be cancelled."
    return _tell(arguments, status, "cancel_requested", said, is_done=is_done)


async def _retry(app: EddaApp, arguments: argparse.Namespace) -> int:
    id, status = arguments.id, await app.status(arguments.id)
    is_done = status is Status.STUCK and bool(await app.retry(id))
    said = f"{id} is {status.value}, not stuck; there is nothing to do."
    if is_done:
        said, status = f"{id} is ready again; a worker takes it up.", await app.status(id)
    return _tell(arguments, status, "retried", said, is_done=is_done)


def _tell(
    arguments: argparse.Namespace, status: Status, what: str, said: str, *, is_done: bool
) -> int:
    """What came of a request, for a person or for a script; the exit code is the same."""
    if not arguments.json and not is_done:
        raise Trouble(said, 1)
    view = {"id": arguments.id, what: is_done, "status": status.value}
    print(json.dumps(view) if arguments.json else said)
    return 0 if is_done else 1


def _completion(arguments: argparse.Namespace) -> int:
    print(script(_parser(()), arguments.shell))
    return 0


def _table(instances: Sequence[Instance]) -> str:
    width = shutil.get_terminal_size((160, 24)).columns
    rows = [("ID", "WORKFLOW", "STATUS", "UPDATED (UTC)", "NOW")]
    rows += [
        (
            instance.id,
            instance.workflow,
            instance.status.value,
            clock_text(instance.updated_at).partition(".")[0],
            outcome_text(instance),
        )
        for instance in instances
    ]
    return table(rows, width)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    raise SystemExit(main())
