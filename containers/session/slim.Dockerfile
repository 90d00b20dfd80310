# The small image of sessions: a shell and the agent, no more than Debian's base. For templates that bring their tools.
ARG BASE=burstflare/base:debian-12
FROM ${BASE}

RUN groupadd --gid 1000 flare \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /home/flare --shell /bin/bash flare \
 && install -d -o flare -g flare -m 755 /workspace /home/flare \
 && install -d -o flare -g flare -m 700 /run/user/1000

COPY flare-agent /usr/local/bin/flare-agent

EXPOSE 61780
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/flare-agent", "container"]
