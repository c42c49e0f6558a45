# Delete old files from the folder of a host; what is younger, and the folders of others, stay.
#
# It may run twice: the second time there is less to do.
case $FOTHER_PARAM_HOST in
  '' | .* | */*)
    echo "not the name of a host: $FOTHER_PARAM_HOST" >&2
    exit 1
    ;;
esac
folder=$FOTHER_PARAM_ROOT/$FOTHER_PARAM_HOST

# A link could lead anywhere.
if [ ! -d "$folder" ] || [ -L "$folder" ]; then
  echo "$FOTHER_PARAM_HOST has no folder" >&2
  exit 1
fi

freed=$(find "$folder" -xdev -type f -mtime "+$((FOTHER_PARAM_OLDER_THAN_DAYS - 1))" -print -delete | wc -l)
echo "deleted $freed files of $FOTHER_PARAM_HOST"
echo "freedFiles=$((freed))" >"$FOTHER_OUTPUT"
