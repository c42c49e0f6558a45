# Delete the index of the cache if it is corrupted; the shop builds a new one when it starts.
#
# A good index begins with "ok". One that is good, or gone, is left alone: the script may run when the shop has already
# healed itself, and does no harm then.
index=$FOTHER_PARAM_PATH/index

fingerprint() {
  cksum <"$index" 2>/dev/null || echo none
}

# Whatever it is, nobody told us to delete it.
if [ -e "$index" ] && [ ! -f "$index" ]; then
  echo "the index is not a file: a person has to look" >&2
  exit 1
fi

# An index that is being written looks corrupted too.
before=$(fingerprint)
echo "watching the index for $FOTHER_PARAM_SETTLE_SECONDS s"
sleep "$FOTHER_PARAM_SETTLE_SECONDS"
if [ "$(fingerprint)" != "$before" ]; then
  echo "the index changes: somebody writes to it; left alone" >&2
  exit 1
fi

freed=0
if [ ! -e "$index" ]; then
  echo "there is no index: nothing to clean"
elif head -n 1 "$index" | grep -q '^ok'; then
  echo "the index is good: nothing to clean"
else
  freed=$(wc -c <"$index")
  echo "the index begins with: $(head -c 40 "$index" | tr -cd '[:print:]')"
  rm -- "$index"
  echo "deleted it, $freed bytes"
fi
echo "freedBytes=$freed" >"$FOTHER_OUTPUT"
