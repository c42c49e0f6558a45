# Open a ticket. The answer is its number.
#
# The Secret has a file `curlrc`, with the address and the header that proves who asks. Nothing of it is ever an
# argument, where everybody on the machine could read it, or printed. The parameters are sent as the JSON file that they
# come in: what an alert says is never pasted into a text. The ticket system is told which Execution asks, so that a request
# that comes twice opens one ticket.
answer=$(
  curl --silent --show-error --fail --max-time 60 --config "$FOTHER_PARAM_SECRET/curlrc" \
    --header 'Content-Type: application/json' --header "Idempotency-Key: $FOTHER_EXECUTION" \
    --data-binary @"$FOTHER_PARAMETERS"
)

# What comes from outside is cut to what a number of a ticket can be.
ticket=$(printf %s "$answer" | tr -cd 'A-Za-z0-9-' | cut -c 1-40)
echo "opened $ticket"
echo "ticket=$ticket" >"$FOTHER_OUTPUT"
