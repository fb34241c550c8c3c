# Ends what the lab has started once the lab itself is gone, however it ended. $1: the lab's directory, $2: "keep" to keep it.
# Standard input is a pipe from the lab with lines "watch PID" and "forget PID". Only the lab holds the other end, so
# end of file means that the lab has ended.
dir=$1
keep=$2
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
for pid in $watched; do kill -KILL "$pid" 2>/dev/null; done

# PostgreSQL's processes leave their session and their parent, but not the directory they run in. The program's name is
# checked too, because a person may have a shell or a pager open there. SIGKILL also ends stopped processes.
round=0
while [ "$round" -lt 100 ]; do
  found=
  for link in $(find /proc -maxdepth 2 -name cwd \( -lname "$dir" -o -lname "$dir/*" \) 2>/dev/null); do
    pid=${link#/proc/}
    pid=${pid%/cwd}
    program=$(readlink "/proc/$pid/exe" 2>/dev/null)
    case ${program##*/} in
    postgres* | pg_* | initdb* | etcd* | python* | patroni* | pg-leader-proxy*)
      kill -KILL "$pid" 2>/dev/null
      found=yes
      ;;
    esac
  done
  [ -z "$found" ] && break
  sleep 0.05
  round=$((round + 1))
done
[ "$keep" = keep ] || rm -rf -- "$dir"
