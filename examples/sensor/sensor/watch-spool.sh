#!/bin/sh
# Posts a CloudEvent for each folder below SPOOL that holds more than MOST files.
#
#   HOOK        URL of the Webhook: http://fother-webhooks.fother/hooks/spools/spools
#   TOKEN_FILE  file with the token, read anew for each request
#   SPOOL       folder whose subfolders are counted
#   MOST        how many files may be in one (3)
#   EVERY       seconds between two looks (60); ONCE=yes looks once, and fails if something could not be told
set -eu

MOST=${MOST:-3}
EVERY=${EVERY:-60}

# The same spool in the same minute is the same event, however often it is sent.
event() {
  printf '{"specversion":"1.0","id":"%s/%s","source":"/spools","type":"com.example.spool.full","time":"%s","data":{"spool":"%s","files":%d}}' \
    "$1" "$(date -u +%Y%m%dT%H%M)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$2"
}

# Repeats until the event is kept, or is refused for good.
post() {
  for pause in 1 2 4 8 16 0; do
    status=$(event "$1" "$2" | curl --silent --output /dev/null --max-time 10 --write-out '%{http_code}' \
      --header "Authorization: Bearer $(cat "$TOKEN_FILE")" \
      --header 'Content-Type: application/cloudevents+json' --data-binary @- "$HOOK") || status=000
    case $status in
      2??) echo "told: $1 holds $2 files" && return ;;
      4??) echo "refused with $status: $1" >&2 && return 1 ;;
    esac
    [ "$pause" = 0 ] || sleep "$pause"
  done
  echo "not delivered: $1" >&2
  return 1
}

# What is refused about one spool keeps nobody from telling of the next.
look() {
  failed=
  for folder in "$SPOOL"/*/; do
    [ -d "$folder" ] || continue
    name=$(basename "$folder")
    case $name in *[!A-Za-z0-9._-]*) echo "not the name of a spool: $name" >&2 && continue ;; esac
    files=$(find "$folder" -type f | wc -l)
    [ "$files" -le "$MOST" ] || post "$name" "$files" || failed=yes
  done
}

look
while [ "${ONCE:-}" != yes ]; do
  sleep "$EVERY"
  look
done
[ -z "$failed" ]
