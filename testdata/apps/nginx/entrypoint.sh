#!/bin/sh
# Fills in the port, and becomes what it is told to run.
set -eu
sed "s/@PORT@/$PORT/" /etc/nginx/nginx.conf > /run/web/nginx.conf
[ "$1" != nginx ] || set -- "$@" -c /run/web/nginx.conf
exec "$@"
