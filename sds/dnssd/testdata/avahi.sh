#!/bin/sh
# Runs a command beside an avahi-daemon, in the network and mount namespaces that it is started in.
#   unshare --net --mount avahi.sh DIRECTORY COMMAND...
set -eu
dir=$1
shift
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.77.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon
cat > "$dir/bus.conf" <<E
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
E
cat > "$dir/avahi.conf" <<E
[server]
use-ipv6=no
allow-interfaces=v0
[publish]
publish-hinfo=no
publish-workstation=no
E
dbus-daemon --config-file="$dir/bus.conf" --nofork --nopidfile & bus=$!
trap 'kill $bus $avahi 2>/dev/null' EXIT
avahi=
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "$dir/avahi.conf" > "$dir/avahi.log" 2>&1 & avahi=$!
until grep -q 'startup complete' "$dir/avahi.log" 2>/dev/null; do kill -0 $avahi; sleep 0.05; done
"$@"
