# Runs a program and ends it when the process that holds our standard input is gone, however it went.
# $1: its directory, removed at the end; $2: the signal that ends it; the rest: the program and its arguments.
directory=$1 signal=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >>"$directory/log" 2>&1 &
program=$!
echo "$program" >"$directory/pid"
cat <&3 >/dev/null &
leash=$!
wait -n
if kill -0 "$leash" 2>/dev/null; then
  # The program ended by itself: its directory stays, so that its log can be read.
  wait "$program"
  code=$?
  kill "$leash"
  exit "$code"
fi
kill -s "$signal" "$program"
wait "$program"
rm -rf "$directory"
