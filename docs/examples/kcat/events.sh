#!/bin/sh
# Prints what happens to mail from the headers of events, without a schema:
# message, event, tenant, place. kcat reads committed records by default.
#
#   events.sh [BROKER [TOPIC]]
#
# Without -e it goes on; with -G GROUP instead of -t it keeps its place.
exec kcat -C -b "${1:-127.0.0.1:9092}" -t "${2:-qstream.events.v1}" -o beginning -e -q -f '%k %h %p/%o\n'
