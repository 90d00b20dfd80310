"""Looks at a session's port as a script does: preview_client.py URL SESSION PORT TOKEN."""

import base64
import os
import socket
import sys
import time
from urllib.parse import urlsplit

url, session, port, token = sys.argv[1:]
server = urlsplit(url)
host = f"{port}--{session.removeprefix('ses_').lower()}.preview.localhost:{server.port}"


def ask(extra):
    connection = socket.create_connection((server.hostname, server.port), timeout=30)
    connection.sendall(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nFlare-Authorization: Bearer {token}\r\n{extra}\r\n".encode()
    )
    return connection, connection.makefile("rb")


def head(reader):
    lines = []
    while (line := reader.readline().strip()):
        lines.append(line.decode())
    return lines


# The program may take a moment to listen.
until = time.monotonic() + 60
while True:
    connection, reader = ask("Connection: close\r\n")
    lines = head(reader)
    body = reader.read()
    if lines and " 200 " in lines[0] and b"hello from the session" in body:
        break
    if time.monotonic() > until:
        sys.exit(f"the page: {lines} {body!r}")
    time.sleep(0.2)

key = base64.b64encode(os.urandom(16)).decode()
connection, reader = ask(
    f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    f"Origin: http://{host}\r\n"
)
lines = head(reader)
if not lines or " 101 " not in lines[0]:
    sys.exit(f"the handshake: {lines} {reader.read(500)!r}")
for text in (b"one", b"two, a little longer", b"three"):
    mask = os.urandom(4)
    connection.sendall(
        bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
    )
    opcode, length = reader.read(2)
    again = reader.read(length)
    if again != text:
        sys.exit(f"sent {text!r}, heard {opcode:x} {again!r}")
