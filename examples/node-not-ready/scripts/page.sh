# Wake a person.
#
# The Secret has a file `curlrc`, with the address of the pager and the header that proves who asks. The parameters are sent as the
# JSON file that they come in. The pager is told which Execution asks, so that a request that comes twice wakes once.
curl --silent --show-error --fail --max-time 30 --retry 3 --config "$FOTHER_PARAM_SECRET/curlrc" \
  --header 'Content-Type: application/json' --header "Idempotency-Key: $FOTHER_EXECUTION" \
  --data-binary @"$FOTHER_PARAMETERS" --output /dev/null
echo "paged about $FOTHER_PARAM_ABOUT"
