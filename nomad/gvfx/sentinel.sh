#!/bin/sh
# Refuses to start a stateful task on a directory that is not the one with its data: an empty one on another node would become a
# second, empty database. The mark in it is the node's name.
#
#   DIRECTORY   as this task sees it     FOLDER  the same, as the node sees it     NODE  the node's name
#   INITIALISE  true accepts an empty directory and marks it
#   MIN_FREE_GIB  refused when less is free
#   OWNED, OWNED_USER   a subdirectory which, when it is there, must belong to that user of this image
set -eu

mark=$DIRECTORY/.gvfx-owner

refuse() {
  printf 'refused: %s\n' "$*" >&2
  exit 1
}

[ -d "$DIRECTORY" ] || refuse "$FOLDER is not a directory"
case $MIN_FREE_GIB in '' | *[!0-9]*) refuse "MIN_FREE_GIB=$MIN_FREE_GIB is not a number" ;; esac

if [ -e "$mark" ]; then
  owner=$(cat "$mark")
  [ "$owner" = "$NODE" ] ||
    refuse "$FOLDER is marked as the data of the node \"$owner\", this is \"$NODE\"; if the data was moved here on purpose, write $NODE into $FOLDER/.gvfx-owner"
elif [ "$INITIALISE" != true ]; then
  refuse "$FOLDER on $NODE has no mark (.gvfx-owner): it is not the directory with the data. For a first start on an empty directory: -var initialise=true"
elif [ -n "$(find "$DIRECTORY" -mindepth 1 -maxdepth 1 ! -name lost+found | head -n 1)" ]; then
  refuse "$FOLDER on $NODE has no mark and is not empty; initialise=true accepts only an empty directory"
else
  printf '%s\n' "$NODE" >"$mark.new"
  mv "$mark.new" "$mark"
fi

if [ -n "${OWNED:-}" ] && [ -d "$DIRECTORY/$OWNED" ]; then
  want=$(id -u "$OWNED_USER")
  have=$(stat -c %u "$DIRECTORY/$OWNED")
  [ "$have" = "$want" ] ||
    refuse "$FOLDER/$OWNED belongs to uid $have, $OWNED_USER of this image is $want: the data was made by another image (Debian 999, Alpine 70), which may also sort texts differently"
fi

free=$(df -Pk "$DIRECTORY" | awk 'NR == 2 { print int($4 / 1048576) }')
[ "$free" -ge "$MIN_FREE_GIB" ] || refuse "$FOLDER has $free GiB free, $MIN_FREE_GIB are wanted"
