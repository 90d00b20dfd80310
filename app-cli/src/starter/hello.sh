#!/bin/sh
# Shows that the build ran in this folder, as the session's user.
set -eu
echo "${GREETING:-hello} from $(pwd)"
