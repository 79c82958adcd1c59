#!/bin/bash
# Makes the images that the applications here stand on, out of Debian packages
# and this machine's Go and Node, and pushes them to a registry:
#
#     bases.sh REGISTRY
#
# The store that they are built in, and Debian's archive, are kept in the cache
# directory: only the first time takes minutes. $LAMINA is the program to use.
set -euo pipefail
registry=$1
here=$(cd "$(dirname "$0")/bases" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lamina-acceptance
: "${LAMINA:=lamina}"
export LAMINA_ROOT=$cache/store
mkdir -p "$cache/debian"

if [ ! -e "$cache/debian/debian.tar" ]; then
    mmdebstrap --variant=minbase --include=ca-certificates --quiet \
        bookworm "$cache/debian/debian.tar.part"
    mv "$cache/debian/debian.tar.part" "$cache/debian/debian.tar"
fi
cmp -s /etc/ssl/certs/ca-certificates.crt "$cache/debian/ca-certificates.crt" ||
    cp /etc/ssl/certs/ca-certificates.crt "$cache/debian/"

build() { # NAME DOCKERFILE CONTEXT
    "$LAMINA" build --progress=plain --push --build-arg REGISTRY="$registry" \
        -t "$registry/$1" -f "$here/$2.Dockerfile" "$3"
}
build debian:bookworm debian "$cache/debian"
build golang:bookworm golang "$(go env GOROOT)"

node=$(command -v node || true)
prefix=${node%/bin/node}
if [ -n "$node" ] && [ -d "$prefix/lib/node_modules/npm" ]; then
    # Only two paths of it are read, however much else is there.
    build node:bookworm node "$prefix"
else
    build node:bookworm node-debian "$here"
fi
