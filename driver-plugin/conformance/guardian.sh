# Cleans up after a run of the tests, however it ended. $1: the run's directory; $2: the variable that marks the run's processes;
# $3: "keep" to keep the files. Reads "watch PID" and "forget PID" from the run; the end of standard input is the end of the run,
# because only the run has the other end of this pipe.
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

# Agents and their log collectors are found by the mark; processes of the driver, which clear their environment, by their
# executable, which is a copy in the directory.
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

# The secrets directories of allocations are mounts. The deepest are unmounted first.
awk -v below="$directory/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r |
  while read -r mount; do umount -l "$mount"; done

# An agent that was killed leaves the cgroups of its tasks, whose names begin with those of the allocations.
for allocation in "$directory"/*/data/alloc/*; do
  [ -d "$allocation" ] || continue
  name=${allocation##*/}
  find /sys/fs/cgroup -maxdepth 5 -depth -type d -path "*nomad*/$name.*" -exec rmdir {} + 2>/dev/null
done
[ "$keep" = keep ] || rm -rf -- "$directory"
exit 0
