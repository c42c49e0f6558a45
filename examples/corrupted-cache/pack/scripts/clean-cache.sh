# Cleans a corrupted cache index: FOTHER_PARAM_PATH names it, FOTHER_OUTPUT takes the outputs.
bytes=$(wc -c < "$FOTHER_PARAM_PATH")
echo "the index has $bytes bytes and is corrupted; cleaning it"
sleep 4
echo "ok" > "$FOTHER_PARAM_PATH.new"
mv -f "$FOTHER_PARAM_PATH.new" "$FOTHER_PARAM_PATH"
echo "the index is empty and good"
echo "removedBytes=$bytes" > "$FOTHER_OUTPUT"
