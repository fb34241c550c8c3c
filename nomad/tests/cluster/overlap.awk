# Reads the log of stand-ins/work: who worked when. Fails when two allocations worked at one time, or fewer than `least` worked.
{
  if (!($2 in first)) {
    first[$2] = $1
    node[$2] = $3
    order[++count] = $2
  }
  last[$2] = $1
}
END {
  for (i = 1; i <= count; i++) {
    id = order[i]
    printf "  %s on %-9s %.1f s", substr(id, 1, 8), node[id], last[id] - first[id]
    if (i > 1) {
      pause = first[id] - last[order[i - 1]]
      printf ", %.1f s after the one before", pause
      if (pause <= 0) overlaps++
    }
    print ""
  }
  if (count < least) {
    printf "only %d allocations worked, %d were expected\n", count, least
    exit 1
  }
  if (overlaps) {
    printf "two worked at one time, %d times\n", overlaps
    exit 1
  }
  printf "  %d allocations, never two at one time\n", count
}
