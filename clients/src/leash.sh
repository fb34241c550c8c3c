# Runs a program and ends it when the process that holds our standard input is gone, however it went.
# $1: its directory, removed at the end; $2: the signal that ends it; the rest: the program and its arguments.
directory=$1 signal=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >>"$directory/log" 2>&1 &
program=$!
echo "$program" >"$directory/pid"
while kill -0 "$program" 2>/dev/null; do
  # Nobody writes to us: this ends with the time (a code above 128) or with the stream, which is our signal.
  read -r -t 0.2 <&3
  if [ "$?" -le 128 ]; then
    kill -s "$signal" "$program"
    wait "$program"
    rm -rf "$directory"
    exit
  fi
done
# The program ended by itself: its directory stays, so that its log can be read.
wait "$program"
