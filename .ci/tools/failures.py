#!/usr/bin/env python3
"""What goes wrong behind the platform's back, on the local Cloudflare stack with real containers.

Containers are killed, by Docker and from below it; the runtime (workerd, and with it every Durable Object) is killed amid
starts, stops and builds and comes again with the same storage. Sessions and builds end in the right state, with the files that
were promised, and no container is left that nobody wants.

FLARE is the program, URL the server, DATA a folder that may be filled, NAME the stack's name, SERVER wrangler's process group.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

FLARE, URL, NAME = os.environ["FLARE"], os.environ["URL"], os.environ["NAME"]
DATA, SERVER = Path(os.environ["DATA"]), int(os.environ["SERVER"])
os.environ |= {"FLARE_CONFIG_DIR": str(DATA / "failures"), "HOME": str(DATA / "home"), "FLARE_URL": URL, "NO_COLOR": "1"}
# For whatever is waited for: two busy processors start a container in seconds.
PATIENCE = 120
begun = time.monotonic()


def ok(what):
    print(f"ok    {(time.monotonic() - begun) * 1000:6.0f} ms  {what}", flush=True)


def same(found, expected, what):
    if found != expected:
        raise SystemExit(f"FAILED: {what}: expected {expected!r}, found {found!r}")


def until(what, look, wanted, patience=PATIENCE):
    """Looks again and again until what is seen is wanted, and answers it."""
    end, seen = time.monotonic() + patience, None
    while time.monotonic() < end:
        try:
            seen = look()
            if wanted(seen):
                return seen
        except (OSError, json.JSONDecodeError) as error:
            # The runtime is on its way back.
            seen = error
        time.sleep(0.1)
    raise SystemExit(f"FAILED: {what}: still {seen!r} after {patience} s")


def flare(*words, given=None):
    done = subprocess.run([FLARE, *words], input=given, capture_output=True, text=True, timeout=PATIENCE * 2)
    if done.returncode != 0:
        raise SystemExit(f"FAILED: flare {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def api(method, path, token=[]):
    """One call without a second try; answers the resource."""
    if not token:
        token.append(flare("auth", "token").strip())
    request = urllib.request.Request(f"{URL}/api/v1/{path}", method=method, headers={"authorization": f"Bearer {token[0]}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def ask(method, path):
    """The same, whatever becomes of the answer: the runtime may be killed meanwhile."""
    try:
        api(method, path)
    except OSError:
        pass


def docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, timeout=60).stdout.split()


def machines(everything=False):
    """The containers of machines that run; with `everything` those, too, that ended and are still there."""
    listed = docker("ps", *(["-a"] if everything else []), "--filter", f"name=-{NAME}-Machine-", "--format", "{{.Names}}")
    return [name for name in listed if not name.endswith("-proxy")]


def kill_runtime():
    """SIGKILL for workerd; wrangler begins another one with the same storage."""
    before = runtime()
    os.kill(before, signal.SIGKILL)
    until("another runtime", runtime, lambda found: found not in (None, before))
    until("the server answers again", lambda: urllib.request.urlopen(f"{URL}/healthz", timeout=5).status, lambda status: status == 200)


def runtime():
    """The workerd that runs the Worker; wrangler's other one stands before it, at the port that is known."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (process / "stat").read_text().split(") ", 1)
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        state, _, group = rest.split()[:3]
        if name.endswith("(workerd") and int(group) == SERVER and state != "Z" and f":{URL.rsplit(':', 1)[1]}\0".encode() not in words:
            return int(process.name)
    return None


class Session:
    def __init__(self, name, template):
        self.id = json.loads(flare("session", "up", name, "--template", template, "--json"))["id"]

    def look(self):
        return api("GET", f"sessions/{self.id}")

    def rests(self, state):
        return until(f"the session is {state}", self.look, lambda seen: seen["state"] == state)

    def run(self, command):
        return flare("exec", self.id, "--", "sh", "-c", command)

    def snapshots(self, kind):
        return [item for item in api("GET", f"sessions/{self.id}/snapshots")["items"] if item["kind"] == kind]

    def delete(self):
        flare("session", "delete", self.id)
        until("no container is left", lambda: machines(True), lambda found: not found)


def template(name, setup):
    folder = DATA / f"template-{name}"
    folder.mkdir()
    (folder / "flare.toml").write_text(f"setup = {json.dumps(setup)}\n")
    made = json.loads(flare("template", "create", name, "--json"))["id"]
    return made, json.loads(flare("template", "upload", made, "--version", "1", "--dir", str(folder), "--json"))


def promoted(name, setup):
    made, version = template(name, setup)
    flare("template", "promote", made, version["id"])
    return made


def container_is_killed(made):
    """What the last snapshot has is there again, what came after it is told to be lost, and nothing is there twice."""

    def by_docker(name):
        docker("kill", name)

    def from_below(name):
        os.kill(int(docker("inspect", "-f", "{{.State.Pid}}", name)[0]), signal.SIGKILL)

    for kill in (by_docker, from_below):
        session = Session("killed", made)
        session.run("echo kept >kept")
        flare("snapshot", "create", session.id)
        session.run("echo late >late")
        before = session.look()
        [container] = machines()
        kill(container)
        slept = session.rests("sleeping")
        same((slept["failure"] or {}).get("code"), "machine_lost", "why it sleeps")
        same("disk" in slept["failure"]["hint"], False, "a disk that ended with its container is not promised")
        until("no container runs", machines, lambda found: not found)
        flare("session", "start", session.id)
        same(session.run("cat kept; ls"), "kept\nflare.toml\nkept\n", "the files of its last snapshot")
        after = session.look()
        same((after["epoch"], after["failure"]), (before["epoch"] + 1, None), "one more life")
        same(len(machines()), 1, "containers")
        same(len(session.snapshots("manual")), 1, "snapshots")
        session.delete()
        ok(f"a container is killed {kill.__name__.replace('_', ' ')}: asleep, and awake with its last snapshot")


def runtime_is_killed(made):
    """Amid starts and stops, at several moments: the wish that was answered is carried out, by one container at most."""
    session = Session("evicted", made)
    written = []
    for moment in (0, 0.05, 0.15, 0.3, 0.6):
        name = f"after-{moment}"
        session.run(f"echo {name} >{name}")
        written.append(name)
        epoch = session.look()["epoch"]
        api("POST", f"sessions/{session.id}/stop")
        time.sleep(moment)  # The moment is what is tried here.
        kill_runtime()
        slept = session.rests("sleeping")
        same(slept["epoch"], epoch, "a stop begins no life")
        until("no container runs", machines, lambda found: not found)
        if slept["failure"] is not None:
            # Its container did not outlive the kill: said, and what was not in a snapshot is gone.
            print(f"      killed {moment} s into a stop: {slept['failure']['code']}", flush=True)
            written.pop()
        api("POST", f"sessions/{session.id}/start")
        time.sleep(moment)
        kill_runtime()
        seen = until("the start ends", session.look, lambda seen: seen["state"] == "running" or seen["failure"] is not None)
        if seen["state"] != "running":
            # It ran already, and its container did not outlive the kill.
            same((seen["state"], seen["failure"]["code"]), ("sleeping", "machine_lost"), f"killed {moment} s into a start")
            print(f"      killed {moment} s into a start: {seen['failure']['code']}", flush=True)
            flare("session", "start", session.id)
        same(sorted(session.run("ls after-*").split()), sorted(written), f"files, killed {moment} s into a start")
        same(len(machines()), 1, "containers")
    ok(f"the runtime is killed amid {len(written)} stops and starts")
    kill_runtime()
    # At rest: the machine is taken up again, or told to be lost, and the session can be used either way.
    until("the session is looked at", session.look, lambda seen: seen["state"] in ("running", "sleeping"))
    flare("session", "start", session.id)
    same(sorted(session.run("ls after-*").split()), sorted(written), "files after a kill at rest")
    same(len(machines()), 1, "containers")
    session.delete()
    ok("and at rest: the session goes on")


def build_loses_its_container():
    """The first attempt is lost with its container; the second one begins anew, and the layer has its work once."""
    made, version = template("unlucky", ["echo once >>made", "sleep 4"])
    build = version["build_id"]
    until("the build is in its second step", lambda: api("GET", f"builds/{build}"), lambda seen: seen["step"] == "setup-2")
    [container] = machines()
    docker("kill", container)

    def look():
        # What waits is delivered by the clock.
        urllib.request.urlopen(f"{URL}/cdn-cgi/handler/scheduled", timeout=30).close()
        return api("GET", f"builds/{build}")

    ended = until("the build ends", look, lambda seen: seen["state"] in ("succeeded", "failed"))
    same((ended["state"], ended["attempt"]), ("succeeded", 2), "how it ended")
    until("no container is left", lambda: machines(True), lambda found: not found)
    flare("template", "promote", made, version["id"])
    session = Session("lucky", made)
    same(session.run("cat made"), "once\n", "what the build did")
    session.delete()
    ok("a build loses its container: built once, by its second attempt")


flare("auth", "register", "--email", f"failures-{os.getpid()}@example.com")
made = promoted("plain", [])
ok("an account and a template")
container_is_killed(made)
runtime_is_killed(made)
build_loses_its_container()
