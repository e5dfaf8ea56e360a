"""What the server says in its terminal, and to requests that the page would not make: in English."""

from __future__ import annotations

ADDRESS = "Parallel Lab is at {url} (Ctrl-C ends it)"
PORT_TAKEN = "port {port} on {host} is taken: choose another with --port, or leave --port out to take the next free one"
NO_PORT = "no port from {first} to {last} on {host} is free: choose one with --port"
BAD_PORT = "port {port} is none: ports go from 1 to 65535, and 0 takes any free one"
BAD_HOST = "cannot listen on {host}: {reason}"
BAD_ROOT = "{path!r} is no root path: write it as /lab, or as the whole address, such as https://example.org/lab"
BAD_PROXY = "{proxy!r} is no address of a proxy: write it as 10.0.0.5, or as a network, 10.0.0.0/24"
DEFAULT_REFUSED = "the page cannot open on its own experiment with these limits: {problems}"
NOTE = "Note: {note}"
ANYBODY = (
    "anybody who reaches {host} can start runs here, within the limits; --auth-file asks for a name and a password"
)
NO_RUN = "This tab has no run."

# -- refusals, in answer to a request that the page would not make
NO_SUCH_PAGE = "There is nothing here."
WRONG_HOST = "This page is not served under the name {host}; parallel-lab serve --allow-host NAME allows another."
NAME_NEEDED = "This page asks for a name and a password."
TOO_MANY_TRIES = "Too many wrong passwords: try again in {seconds} seconds."
TOO_LONG = "The request is longer than this server reads."
NOT_UNDERSTOOD = "The request is not one that the page makes."
NO_FILES = "The request has a file in it, and this page takes none."
NOT_YOURS = "That tab belongs to another browser: reload the page, and allow its cookie."
TOO_MANY_TABS = "{count} tabs of this page are open from here already: close some of them."
TOO_FAST = "The requests come faster than the page makes them: try again in {seconds} seconds."
FULL = "All {count} places on this page are taken: try again later."

# -- names and passwords
AUTH_UNREADABLE = "cannot read the users in {path}: {reason}"
AUTH_LINE = "line {number} of {path} is no user: let parallel-lab serve --add-user NAME --auth-file {path} write it"
AUTH_EMPTY = "{path} has no user: add one with parallel-lab serve --add-user NAME --auth-file {path}"
AUTH_OPEN = "others can read {path}: chmod 600 {path}"
AUTH_NAME = "{name!r} is no name: use letters, digits and . _ @ -, at most 64"
AUTH_PASSWORD = "give a password of {least} to {most} characters"
AUTH_UNWRITABLE = "cannot write {path}: {reason}"
