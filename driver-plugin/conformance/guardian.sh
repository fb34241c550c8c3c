# Ends what a run of the tests started once the run is gone, however it ended. $1: the run's directory; $2: the variable
# whose value marks the run's processes; $3: "keep" to leave the files. Reads "watch PID" and "forget PID" from the run;
# the end of the stream means that it is no more, since nobody else holds the other end of this pipe.
directory=$1
mark=$2
keep=$3
watched=
while read -r verb pid; do
  case $verb in
  watch) watched="$watched $pid" ;;
  forget)
    left=
    for one in $watched; do [ "$one" = "$pid" ] || left="$left $one"; done
    watched=$left
    ;;
  esac
done
for pid in $watched; do kill -TERM "$pid" 2>/dev/null; done

# An agent and its log collectors are known by the mark; the driver's processes, which clean their environment, by their
# executable, a copy inside the directory.
round=0
while [ "$round" -lt 50 ]; do
  found=$(
    grep -lzsxF "$mark=$directory" /proc/[0-9]*/environ
    find /proc -maxdepth 2 -name exe -lname "$directory/*" 2>/dev/null
  )
  [ -z "$found" ] && break
  for file in $found; do
    pid=${file#/proc/}
    kill -KILL "${pid%%/*}" 2>/dev/null
  done
  sleep 0.1
  round=$((round + 1))
done

# Secrets of an allocation are mounts; the deepest go first.
awk -v below="$directory/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r |
  while read -r mount; do umount -l "$mount"; done

# An agent that was killed leaves the cgroups of its tasks, which are named after the allocations.
for allocation in "$directory"/*/data/alloc/*; do
  [ -d "$allocation" ] || continue
  name=${allocation##*/}
  find /sys/fs/cgroup -maxdepth 5 -depth -type d -path "*nomad*/$name.*" -exec rmdir {} + 2>/dev/null
done
[ "$keep" = keep ] || rm -rf -- "$directory"
exit 0
