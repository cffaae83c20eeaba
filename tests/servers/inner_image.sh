#!/bin/sh
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# For a host with an engine of its own: an image for its containers, without a registry. busybox with all its applets,
# and the host's own Python. Runs in the host, `inner_image.sh [name]`, and does nothing where the image is there.
set -eu
name=${1:-inner:1}
docker image inspect "$name" >/dev/null 2>&1 && exit 0
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp" "$tree/usr/bin"
cp /usr/bin/busybox "$tree/bin/"
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
python=$(readlink -f /usr/bin/python3)
library=/usr/lib/$(basename "$python")
ln -s "$(basename "$python")" "$tree/usr/bin/python3"
{
  echo "$python"
  find "$library" \( -name 'test*' -o -name __pycache__ \) -prune -o -type f -print
  ldd "$python" "$library"/lib-dynload/*.so | grep -o '/[^ :]*\.so[^ :]*' | sort -u
} | tar -C / -c --dereference --hard-dereference --transform 's|^/||' --absolute-names --files-from - | tar -C "$tree" -x
tar -C "$tree" -c . |
  docker import --change "ENV PATH=/bin:/usr/bin" --change "ENV PYTHONUNBUFFERED=1" - "$name" >/dev/null
